/**
 * `#sdk` in bin/metadataproxy: sdk.ts as the build has bundled and compressed it. V8 parses all of a file when it loads it,
 * but only skips over a text; that saves a sixth of the time from exec to listening, and memory until the SDK is needed.
 */

import { createRequire } from 'node:module';
import { compileFunction } from 'node:vm';
import { gunzipSync } from 'node:zlib';
import packed from '../../../build/sdk.gz';
import type * as sdk from './sdk.ts';

const module = { exports: {} as typeof sdk };
// esbuild writes ASCII. The name is for stack traces. Only Node's own modules are required, which are found from anywhere.
const source = gunzipSync(packed).toString('latin1');
compileFunction(source, ['module', 'require'], { filename: 'aws-sdk.js' })(module, createRequire('/'));

export const { AssumeRoleCommand, GetCallerIdentityCommand, GetRoleCommand, IAMClient, STSClient } = module.exports;
