// The fake EC2 instance metadata service of the lab's host.
//
// All answers with the host's own identity contain HOST_MARK. It reads requests as leniently as a server can: a path that
// in any reading names `iam` or `identity-credentials` gets the host's credentials. That exposes a proxy that forwards a
// disguised path, whichever disguises the real service accepts.
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http';
import { HOST_ACCESS_KEY, HOST_MARK, HOST_ROLE, HOST_SECRETS, INSTANCE_ID } from '../host-identity.ts';
import { answerCalls } from '../side-program.ts';

/** A request as received. */
export interface SeenRequest {
  readonly method: string;
  readonly target: string;
  /** Whether any reading of the target names the host's own identity. */
  readonly readsAsHostIdentity: boolean;
}

export interface ImdsCalls {
  /** Whether reads without a token are refused, as on an instance with HttpTokens=required. */
  requireTokens(required: boolean): void;
  /** The requests since the last call. */
  takeRequests(): SeenRequest[];
}

const REGION = 'eu-west-1';
const TOKEN_HEADER = 'x-aws-ec2-metadata-token';
const TTL_HEADER = 'x-aws-ec2-metadata-token-ttl-seconds';

const DOCUMENT = {
  accountId: '111122223333',
  availabilityZone: `${REGION}a`,
  imageId: 'ami-0abcdef1234567890',
  instanceId: INSTANCE_ID,
  instanceType: 't3.micro',
  privateIp: '10.0.0.10',
  region: REGION,
  version: '2017-09-30',
};

const HOST_SUBTREES = /meta-data\/(iam|identity-credentials)(?![a-z0-9])/;

const METADATA: Readonly<Record<string, string>> = {
  'meta-data': 'ami-id\nhostname\niam/\ninstance-id\nplacement/',
  'meta-data/ami-id': DOCUMENT.imageId,
  'meta-data/hostname': 'ip-10-0-0-10.eu-west-1.compute.internal',
  'meta-data/instance-id': INSTANCE_ID,
  'meta-data/instance-type': DOCUMENT.instanceType,
  'meta-data/local-ipv4': DOCUMENT.privateIp,
  'meta-data/placement': 'availability-zone\nregion',
  'meta-data/placement/availability-zone': DOCUMENT.availabilityZone,
  'meta-data/placement/region': REGION,
  'user-data': '#!/bin/sh\necho the user data of the lab\n',
  'dynamic/instance-identity/document': JSON.stringify(DOCUMENT, undefined, 2),
};

const key = randomBytes(32);
let tokensRequired = false;
let seen: SeenRequest[] = [];

function answer(request: IncomingMessage, response: ServerResponse): void {
  const target = request.url ?? '';
  const method = request.method ?? '';
  const identity = hostIdentity(target);
  seen.push({ method, target, readsAsHostIdentity: identity !== undefined });
  response.setHeader('Server', 'EC2ws');

  if (method === 'PUT' && target === '/latest/api/token') return answerToken(request, response);
  if (method !== 'GET' && method !== 'HEAD') return fail(response, 405);

  const token = request.headers[TOKEN_HEADER];
  if (token === undefined && tokensRequired) return fail(response, 401);
  if (token !== undefined) {
    const left = typeof token === 'string' ? secondsLeft(token) : 0;
    if (left <= 0) return fail(response, 401);
    response.setHeader(TTL_HEADER, left);
  }

  const body = identity ?? metadata(target);
  if (body === undefined) return fail(response, 404);
  response.setHeader('Content-Type', 'text/plain');
  response.setHeader('Last-Modified', 'Thu, 01 Jan 2026 00:00:00 GMT');
  response.end(body);
}

function answerToken(request: IncomingMessage, response: ServerResponse): void {
  const ttl = Number(request.headers[TTL_HEADER]);
  if (request.headers['x-forwarded-for'] !== undefined) return fail(response, 403);
  if (!Number.isInteger(ttl) || ttl < 1 || ttl > 21600) return fail(response, 400);
  const expires = String(Date.now() + ttl * 1000);
  response.setHeader(TTL_HEADER, ttl);
  response.setHeader('Content-Type', 'text/plain');
  response.end(`${expires}.${sign(expires)}`);
}

function secondsLeft(token: string): number {
  const [expires = '', signature = ''] = token.split('.');
  const expected = Buffer.from(sign(expires));
  const given = Buffer.from(signature);
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return 0;
  return Math.floor((Number(expires) - Date.now()) / 1000);
}

function sign(expires: string): string {
  return createHmac('sha256', key).update(expires).digest('base64url');
}

/** The part of the host's own identity that any reading of the target names; undefined if none does. */
function hostIdentity(target: string): string | undefined {
  const path = lenientReadings(target).find((reading) => HOST_SUBTREES.test(reading));
  if (path === undefined) return undefined;
  if (/security-credentials(-extended)?\/?$/.test(path)) return HOST_ROLE;
  if (/\/info\/?$/.test(path)) {
    const InstanceProfileArn = `arn:aws:iam::111122223333:instance-profile/${HOST_ROLE}`;
    return JSON.stringify({ Code: 'Success', InstanceProfileArn, InstanceProfileId: `AIPA${HOST_MARK}` });
  }
  return JSON.stringify({
    Code: 'Success', LastUpdated: isoSeconds(0), Type: 'AWS-HMAC', AccessKeyId: HOST_ACCESS_KEY,
    SecretAccessKey: HOST_SECRETS[0], Token: HOST_SECRETS[1], Expiration: isoSeconds(6 * 3600),
    ...(path.includes('-extended') ? { AccountId: '111122223333' } : {}),
  });
}

/** The path as lenient servers might read it, with and without its dot segments. */
function lenientReadings(target: string): string[] {
  let path = target.replace(/\?.*/, '');
  for (let before = ''; before !== path;) {
    before = path;
    path = path.replace(/%u00([0-9a-f]{2})|%([0-9a-f]{2})/gi,
      (_, unicode: string | undefined, hex = unicode) => String.fromCharCode(Number.parseInt(hex, 16)));
  }
  path = path.toLowerCase()
    .replace(/\xc0\xaf|\xef\xbc\x8f|\\/g, '/') // an overlong slash, a full-width one, a backslash
    .replace(/[\x00-\x20\x7f]/g, '')
    .replace(/;[^/]*/g, '')
    .replace(/\/+/g, '/')
    .replace(/\/(\.\/)+/g, '/');
  let resolved = path;
  for (let before = ''; before !== resolved;) {
    before = resolved;
    resolved = resolved.replace(/[^/]+\/\.\.(\/|$)/, '').replace(/^\/\.\.\//, '/');
  }
  return [path, resolved];
}

function isoSeconds(ahead: number): string {
  return `${new Date(Date.now() + ahead * 1000).toISOString().slice(0, 19)}Z`;
}

function metadata(target: string): string | undefined {
  const [, path = ''] = /^\/(?:latest|\d{4}-\d{2}-\d{2}|1\.0)\/([^?]*?)\/?(?:\?.*)?$/.exec(target) ?? [];
  return METADATA[path];
}

function fail(response: ServerResponse, status: number): void {
  response.writeHead(status, { 'Content-Type': 'text/html' });
  response.end(`<?xml version="1.0" encoding="iso-8859-1"?>\n<html><body><h1>${status}</h1></body></html>\n`);
}

const server = createServer({ insecureHTTPParser: true, keepAliveTimeout: 60_000 }, answer);
server.listen(80, '169.254.169.254', () => {
  answerCalls<ImdsCalls>({
    requireTokens(required) {
      tokensRequired = required;
    },
    takeRequests() {
      const taken = seen;
      seen = [];
      return taken;
    },
  });
});
