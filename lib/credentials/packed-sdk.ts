/**
 * `#sdk` in bin/metadataproxy: sdk.ts as a text, made by the build. V8 parses all of a file when it loads it; a text it only
 * skips, which saves a third of the time from exec to listening, and the memory of it until the SDK is needed.
 */

import { createRequire } from 'node:module';
import { compileFunction } from 'node:vm';
import text from '../../build/sdk.txt';
import type * as sdk from './sdk.ts';

const module = { exports: {} as typeof sdk };
// The name is for stack traces. Nothing but Node's own modules is left to require, and those are found from anywhere.
compileFunction(text, ['module', 'require'], { filename: 'aws-sdk.js' })(module, createRequire('/'));

export const { AssumeRoleCommand, GetCallerIdentityCommand, GetRoleCommand, IAMClient, STSClient } = module.exports;
