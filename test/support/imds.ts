import { randomBytes } from 'node:crypto';
import { createServer, type Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { delay, FaultRules, type Fault, type AppliedFault } from './fault-rules.ts';
import { hostIdentityIn, readingsOf } from './generous-path.ts';
import { headerOf, takeRequest, type RawRequest } from './http-bytes.ts';
import { Journal } from './journal.ts';
import { reset } from './reset.ts';
import { RestartableServer } from './restartable-server.ts';

/** Part of every value of the host's own identity, and of no other answer. */
export const HOST_MARK = 'HOSTSECRET';

export const INSTANCE_ID = 'i-0123456789abcdef0';
export const REGION = 'eu-west-1';

/** A request that the fake IMDS received; bytes are latin1 text. */
export interface ImdsRequest extends RawRequest {
  /** The connection's number, from 1. */
  readonly connection: number;
  /** Resolves when the connection is closed. */
  readonly closed: Promise<void>;
}

export type ImdsFault =
  /** Answers once the fault is lifted. */
  | { readonly kind: 'hold' }
  | { readonly kind: 'delay'; readonly ms: number }
  /** Resets the connection instead of answering. */
  | { readonly kind: 'reset' }
  /** Half of the body, then a reset. */
  | { readonly kind: 'reset-in-body' }
  /** Half of the body, then a normal close. */
  | { readonly kind: 'close-in-body' }
  /** An endless body, sent as fast as the client reads it. */
  | { readonly kind: 'endless'; readonly framing: 'chunked' | 'close' }
  /** Half of the body, then the rest once the fault is lifted. */
  | { readonly kind: 'pause-in-body' }
  /** The regular answer in chunks. */
  | { readonly kind: 'chunked' }
  /** The regular body with another Content-Length, then a close. */
  | { readonly kind: 'content-length'; readonly value: number | string }
  | { readonly kind: 'status'; readonly status: number; readonly body?: string }
  | { readonly kind: 'redirect'; readonly location: string }
  /** The regular answer with additional headers, such as hop-by-hop ones. */
  | { readonly kind: 'headers'; readonly headers: readonly (readonly [string, string])[] }
  /** These bytes instead of a response. */
  | { readonly kind: 'raw'; readonly bytes: string | Buffer };

export interface ImdsOptions {
  /** Refuses reads without a token, like an instance with HttpTokens=required. */
  readonly v2Only?: boolean;
  readonly userData?: string | Buffer;
  /** Additional metadata: path below the version, without a leading slash, to text. */
  readonly tree?: Readonly<Record<string, string>>;
  /** The tokens' clock, in milliseconds since the epoch. */
  readonly now?: () => number;
}

interface Response {
  readonly status: number;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: Buffer;
}

interface Connection {
  readonly socket: Socket;
  readonly number: number;
  readonly closed: Promise<void>;
  unread: string;
  readonly waiting: RawRequest[];
  busy: boolean;
}

const TOKEN_HEADER = 'X-Aws-Ec2-Metadata-Token';
const TTL_HEADER = 'X-Aws-Ec2-Metadata-Token-Ttl-Seconds';
const MAX_TTL_S = 21_600;
const MAX_IDENTITIES = 1_000;
/** A large body is written in chunks of this size. */
const CHUNK_SIZE = 64 * 1024;

/**
 * A fake instance metadata service on a free port of 127.0.0.1. It reads a path to the host's credentials into a request
 * as generously as a server can (see generous-path.ts), and answers it with values that contain HOST_MARK. Every other
 * request it answers as strictly as the real service.
 */
export class Imds {
  readonly requests = new Journal<ImdsRequest>('a request to the metadata service');
  /** An entry for each connection, when it is closed. */
  readonly closings = new Journal<{ readonly connection: number }>('the end of a connection');
  v2Only: boolean;
  userData: Buffer;
  readonly tree: Map<string, string>;
  readonly #now: () => number;
  readonly #tokens = new Map<string, number>();
  /** A cache: the part of the host's identity that a target names. */
  readonly #identities = new Map<string, readonly string[] | undefined>();
  readonly #faults = new FaultRules<ImdsRequest, ImdsFault>();
  readonly #connections = new Set<Connection>();
  #connectionCount = 0;
  readonly #server = new RestartableServer(
    // As in HTTP servers: otherwise a body waits 40 ms for the client's delayed acknowledgement of the head.
    () => createServer({ noDelay: true }, (socket) => this.#accept(socket)),
    () => this.#connections.forEach(({ socket }) => reset(socket)),
  );

  private constructor(options: ImdsOptions) {
    this.v2Only = options.v2Only ?? false;
    this.userData = Buffer.from(options.userData ?? '#!/bin/sh\necho the user data\n');
    this.tree = new Map(Object.entries({ ...TREE, ...options.tree }));
    this.#now = options.now ?? Date.now;
  }

  static async start(options: ImdsOptions = {}): Promise<Imds> {
    const imds = new Imds(options);
    await imds.listen();
    return imds;
  }

  get port(): number {
    return this.#server.port;
  }

  /** The value of METADATA_URL. */
  get url(): string {
    return this.#server.url;
  }

  get openConnections(): number {
    return this.#connections.size;
  }

  /** Listens, after stop() again on the same port. */
  listen(): Promise<void> {
    return this.#server.listen();
  }

  /** Resets all connections and refuses new ones. */
  stop(): Promise<void> {
    return this.#server.stop();
  }

  async close(): Promise<void> {
    this.#faults.liftAll();
    await this.stop();
  }

  /**
   * Injects `fault` into requests whose target is `target` or matches it, at most `times` times, and only for `method` if
   * that is given.
   */
  fault(target: string | RegExp, fault: ImdsFault, times = Infinity, method?: string): Fault {
    const matches = (request: ImdsRequest): boolean =>
      (method === undefined || request.method === method)
      && (typeof target === 'string' ? request.target === target : target.test(request.target));
    return this.#faults.add(fault, matches, times);
  }

  /** Forgets all tokens, so that each gets a 401. */
  revokeTokens(): void {
    this.#tokens.clear();
  }

  #accept(socket: Socket): void {
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    this.#connectionCount += 1;
    const connection: Connection = {
      socket, closed, number: this.#connectionCount, unread: '', waiting: [], busy: false,
    };
    this.#connections.add(connection);
    socket.on('error', () => {});
    socket.once('close', () => {
      this.#connections.delete(connection);
      this.closings.add({ connection: connection.number });
    });
    // Keep reading during an answer: otherwise a disconnected client goes unnoticed.
    socket.on('data', (chunk: Buffer) => {
      connection.unread += chunk.toString('latin1');
      for (let taken = takeRequest(connection.unread); taken !== undefined; taken = takeRequest(taken.rest)) {
        connection.unread = taken.rest;
        connection.waiting.push(taken.request);
      }
      void this.#answerWaiting(connection);
    });
  }

  async #answerWaiting(connection: Connection): Promise<void> {
    if (connection.busy) return;
    connection.busy = true;
    for (let raw = connection.waiting.shift(); raw !== undefined; raw = connection.waiting.shift()) {
      const request: ImdsRequest = { ...raw, connection: connection.number, closed: connection.closed };
      this.requests.add(request);
      await this.#serve(connection.socket, request);
    }
    connection.busy = false;
  }

  async #serve(socket: Socket, request: ImdsRequest): Promise<void> {
    const applied = this.#faults.apply(request);
    const fault = applied?.fault;
    if (fault?.kind === 'hold') await applied?.lifted;
    if (fault?.kind === 'delay') await delay(fault.ms, applied?.lifted ?? Promise.resolve());
    if (socket.destroyed) return;
    if (fault?.kind === 'reset') return reset(socket);
    if (fault?.kind === 'raw') return void socket.end(fault.bytes);
    const response = altered(this.#answer(request), fault);
    await send(socket, request, response, applied);
  }

  #answer(request: RawRequest): Response {
    const { method, target, rawHeaders } = request;
    if (method === '') return failure(400, 'Bad Request');
    // For every method and token: no test may ever request this.
    const identity = this.#identityIn(target);
    if (identity !== undefined) return plain(hostIdentity(identity));
    if (method === 'PUT' && isTokenPath(target)) return this.#issueToken(rawHeaders);
    if (method !== 'GET' && method !== 'HEAD') return failure(405, 'Method Not Allowed');
    const token = headerOf(rawHeaders, TOKEN_HEADER);
    if (token === undefined) return this.v2Only ? failure(401, 'Unauthorized') : this.#read(target);
    const secondsLeft = Math.ceil(((this.#tokens.get(token) ?? 0) - this.#now()) / 1000);
    if (secondsLeft <= 0) return failure(401, 'Unauthorized');
    return withTtl(this.#read(target), secondsLeft);
  }

  /** Cached, because computing all readings of a target blocks the process for a millisecond. */
  #identityIn(target: string): readonly string[] | undefined {
    if (!this.#identities.has(target)) {
      if (this.#identities.size >= MAX_IDENTITIES) this.#identities.clear();
      this.#identities.set(target, hostIdentityIn(target));
    }
    return this.#identities.get(target);
  }

  #issueToken(rawHeaders: readonly string[]): Response {
    if (headerOf(rawHeaders, 'x-forwarded-for') !== undefined) return failure(403, 'Forbidden');
    const given = headerOf(rawHeaders, TTL_HEADER) ?? '';
    const ttl = /^\d+$/.test(given) ? Number(given) : 0;
    if (ttl < 1 || ttl > MAX_TTL_S) return failure(400, 'Bad Request');
    const token = randomBytes(40).toString('base64');
    this.#tokens.set(token, this.#now() + ttl * 1000);
    return withTtl(plain(token), ttl);
  }

  #read(target: string): Response {
    const [path = ''] = target.split('?', 1);
    const [, version = '', below = ''] = /^\/([^/]*)(?:\/(.*?))?\/?$/.exec(path) ?? [];
    if (version === '') return plain(VERSIONS.join('\n'));
    if (!/^(?:latest|1\.0|\d{4}-\d{2}-\d{2})$/.test(version)) return failure(404, 'Not Found');
    if (below === 'user-data') return { ...plain(''), body: this.userData };
    const text = this.tree.get(decoded(below)) ?? this.#listing(decoded(below));
    return text === undefined ? failure(404, 'Not Found') : plain(text);
  }

  #listing(directory: string): string | undefined {
    const prefix = directory === '' ? '' : `${directory}/`;
    const names = [...this.tree.keys()].filter((path) => path.startsWith(prefix)).map((path) => {
      const [name = '', ...more] = path.slice(prefix.length).split('/');
      return more.length > 0 ? `${name}/` : name;
    });
    if (directory === '') names.push('user-data');
    if (directory === 'meta-data') names.push('iam/', 'identity-credentials/');
    return names.length === 0 ? undefined : [...new Set(names)].sort().join('\n');
  }
}

/** `length` bytes without repetition, so that a lost or duplicated chunk is noticed. */
export function userDataOf(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let line = 0, at = 0; at < length; line += 1) at += bytes.write(`${line} user data\n`, at);
  return bytes;
}

const VERSIONS = ['1.0', '2007-01-19', '2011-05-01', '2012-01-12', '2021-07-15', '2024-04-11', 'latest'];

const MAC = '0e:00:00:00:00:01';

const TREE: Readonly<Record<string, string>> = {
  'meta-data/ami-id': 'ami-0123456789abcdef0',
  'meta-data/hostname': `ip-10-0-0-10.${REGION}.compute.internal`,
  'meta-data/instance-id': INSTANCE_ID,
  'meta-data/instance-type': 't3.micro',
  'meta-data/local-ipv4': '10.0.0.10',
  'meta-data/mac': MAC,
  [`meta-data/network/interfaces/macs/${MAC}/device-number`]: '0',
  [`meta-data/network/interfaces/macs/${MAC}/local-ipv4s`]: '10.0.0.10',
  'meta-data/placement/availability-zone': `${REGION}a`,
  'meta-data/placement/region': REGION,
  'meta-data/tags/instance/Name': 'a host',
  'dynamic/instance-identity/document': JSON.stringify({
    accountId: '111122223333',
    architecture: 'x86_64',
    availabilityZone: `${REGION}a`,
    instanceId: INSTANCE_ID,
    instanceType: 't3.micro',
    region: REGION,
    version: '2017-09-30',
  }, undefined, 2),
};

/** The host's own identity at the segments from `iam` or `identity-credentials` on. All of it contains HOST_MARK. */
function hostIdentity(segments: readonly string[]): string {
  const path = segments.join('/');
  if (path === 'iam') return `info\nsecurity-credentials/\n${HOST_MARK}`;
  if (/^iam\/security-credentials(-extended)?$/.test(path)) return `${HOST_MARK}-role`;
  if (path === 'iam/info') {
    return JSON.stringify({
      Code: 'Success',
      LastUpdated: inSeconds(0),
      InstanceProfileArn: `arn:aws:iam::111122223333:instance-profile/${HOST_MARK}`,
      InstanceProfileId: `AIPA${HOST_MARK}`,
    }, undefined, 2);
  }
  return JSON.stringify({
    Code: 'Success',
    LastUpdated: inSeconds(0),
    Type: 'AWS-HMAC',
    AccessKeyId: `ASIA${HOST_MARK}`,
    SecretAccessKey: `${HOST_MARK}/secret`,
    Token: `${HOST_MARK}/token`,
    Expiration: inSeconds(6 * 3600),
    ...(path.includes('extended') && { AccountId: '111122223333' }),
  }, undefined, 2);
}

function inSeconds(seconds: number): string {
  return `${new Date(Date.now() + seconds * 1000).toISOString().slice(0, 19)}Z`;
}

function isTokenPath(target: string): boolean {
  return readingsOf(target).some((segments) => segments.join('/') === 'latest/api/token');
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

function plain(text: string): Response {
  const headers = [
    ['Content-Type', 'text/plain'],
    ['Accept-Ranges', 'none'],
    ['Last-Modified', 'Thu, 01 Jan 2026 00:00:00 GMT'],
  ] as const;
  return { status: 200, headers, body: Buffer.from(text) };
}

function withTtl(response: Response, seconds: number): Response {
  return { ...response, headers: [...response.headers, [TTL_HEADER, `${seconds}`]] };
}

function failure(status: number, title: string): Response {
  const body = `<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
\t"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>${status} - ${title}</title>
 </head>
 <body>
  <h1>${status} - ${title}</h1>
 </body>
</html>
`;
  return { status, headers: [['Content-Type', 'text/html']], body: Buffer.from(body) };
}

function altered(response: Response, fault: ImdsFault | undefined): Response {
  if (fault?.kind === 'status') {
    const standard = failure(fault.status, 'A fault on demand');
    return fault.body === undefined ? standard : { ...standard, body: Buffer.from(fault.body) };
  }
  if (fault?.kind === 'redirect') {
    return { status: 302, headers: [['Location', fault.location]], body: Buffer.alloc(0) };
  }
  if (fault?.kind === 'headers') return { ...response, headers: [...response.headers, ...fault.headers] };
  return response;
}

async function send(
  socket: Socket, request: RawRequest, response: Response, applied: AppliedFault<ImdsFault> | undefined,
): Promise<void> {
  const { status, headers, body } = response;
  const fault = applied?.fault;
  const { method, version, rawHeaders } = request;
  const last = version === 'HTTP/1.0' || /close/i.test(headerOf(rawHeaders, 'connection') ?? '');
  const head = [
    `HTTP/1.1 ${status} ${status < 400 ? 'OK' : 'Error'}`,
    ...headers.map(([name, value]) => `${name}: ${value}`),
    ...framing(body, fault),
    'Server: EC2ws',
    `Date: ${new Date().toUTCString()}`,
    ...(last ? ['Connection: close'] : []),
  ];
  socket.write(`${head.join('\r\n')}\r\n\r\n`, 'latin1');
  if (method !== 'HEAD') await sendBody(socket, body, applied);
  if (last) socket.end();
}

function framing(body: Buffer, fault: ImdsFault | undefined): string[] {
  if (fault?.kind === 'endless' && fault.framing === 'close') return [];
  if (fault?.kind === 'endless' || fault?.kind === 'chunked') return ['Transfer-Encoding: chunked'];
  return [`Content-Length: ${fault?.kind === 'content-length' ? fault.value : body.length}`];
}

async function sendBody(socket: Socket, body: Buffer, applied: AppliedFault<ImdsFault> | undefined): Promise<void> {
  const firstHalf = body.subarray(0, body.length / 2);
  const secondHalf = body.subarray(body.length / 2);
  switch (applied?.fault.kind) {
    case 'endless':
      return await pour(socket, applied.fault.framing === 'chunked');
    case 'reset-in-body':
      // After the kernel has the bytes: an immediate reset would discard them.
      return void socket.write(firstHalf, () => reset(socket));
    case 'close-in-body':
      return void socket.end(firstHalf);
    case 'content-length':
      return void socket.end(body);
    case 'chunked':
      return await write(socket, Buffer.concat([chunk(body), chunk(Buffer.alloc(0))]));
    case 'pause-in-body':
      await write(socket, firstHalf);
      await Promise.race([applied.lifted, new Promise((resolve) => socket.once('close', resolve))]);
      return await write(socket, secondHalf);
    default:
      return await writeInChunks(socket, body);
  }
}

/** A large body does not block other answers. */
async function writeInChunks(socket: Socket, body: Buffer): Promise<void> {
  for (let at = 0; at < body.length && !socket.destroyed; at += CHUNK_SIZE) {
    await write(socket, body.subarray(at, at + CHUNK_SIZE));
    if (body.length > CHUNK_SIZE) await nextTurn();
  }
}

/** Sends bytes until the client disconnects. */
async function pour(socket: Socket, chunked: boolean): Promise<void> {
  const body = userDataOf(CHUNK_SIZE);
  const bytes = chunked ? chunk(body) : body;
  while (!socket.destroyed) await write(socket, bytes);
}

function chunk(bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]);
}

/** Resolves when the kernel has taken the bytes, or the connection is closed. */
async function write(socket: Socket, bytes: Buffer): Promise<void> {
  await new Promise<void>((resolve) => socket.write(bytes, () => resolve()));
}
