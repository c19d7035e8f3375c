/**
 * `#sdk` in bin/metadataproxy: sdk.ts, bundled and compressed by the build. V8 parses a whole file when it loads it, but
 * not the content of a string. That saves a sixth of the time from exec to listening, and memory until the SDK is needed.
 */

import { createRequire } from 'node:module';
import { compileFunction } from 'node:vm';
import { gunzipSync } from 'node:zlib';
import packed from '../../../build/sdk.gz';
import type * as sdk from './sdk.ts';

const module = { exports: {} as typeof sdk };
// esbuild writes ASCII. The file name appears in stack traces. The SDK requires only Node's built-in modules, so any path resolves.
const source = gunzipSync(packed).toString('latin1');
compileFunction(source, ['module', 'require'], { filename: 'aws-sdk.js' })(module, createRequire('/'));

export const { AssumeRoleCommand, GetCallerIdentityCommand, GetRoleCommand, IAMClient, STSClient } = module.exports;
