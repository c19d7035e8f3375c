import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Caller } from '../caller.ts';
import type { Credentials } from '../credentials/credentials.ts';
import type { RoleRequest } from '../roles/role-request.ts';
import type { UpstreamTiming } from '../imds/client.ts';
import type { Connection } from './connections.ts';

/** One request and its response, with what the steps of the pipeline have found out. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly connection: Connection;
  /** The client's, in its normal form. */
  readonly address: string;
  /** performance.now() when the request's head had been read. */
  readonly began: number;
  /** Names the request in the log and in the answer. */
  readonly id: string;
  /** Canonical; empty when the target has no canonical form. */
  path: string;
  /** Seconds until the caller's session token expires; undefined without one. */
  tokenSeconds: number | undefined;
  /** Undefined while it is not known. Resolved with certainty only for an answer that depends on the caller's role. */
  caller: Caller | undefined;
  roleRequest: RoleRequest | undefined;
  /** The ones in the answer. */
  credentials: Credentials | undefined;
  /** Whether they were not cached when they were requested. */
  hadToWait: boolean;
  /** How long the upstream IMDS took. */
  upstream: UpstreamTiming | undefined;
}

/** Answers synchronously wherever it can: a promise costs more than a warm answer's own work. */
export type Handler = (exchange: Exchange) => void | Promise<void>;

/** Applies a function to a value: at once if the value is there, or when it is. */
export function mapMaybeAsync<T, U>(value: T | Promise<T>, apply: (value: T) => U | Promise<U>): U | Promise<U> {
  return value instanceof Promise ? value.then(apply) : apply(value);
}

/** The header that carries a session token, in Node's spelling. */
export const TOKEN_HEADER = 'x-aws-ec2-metadata-token';
/** The header that carries its TTL in seconds, in the spelling of IMDS. */
export const TOKEN_TTL_HEADER = 'X-Aws-Ec2-Metadata-Token-Ttl-Seconds';

/** The value of IMDS's `Server` header. */
export const SERVER = 'EC2ws';

export interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
  /** More headers: name, value, name, value … */
  readonly headers?: readonly string[];
}

/** The headers that go-metadataproxy puts on every answer. */
export function ownHeaders({ id }: Exchange): string[] {
  return ['X-Powered-By', 'metadataproxy', 'X-Request-ID', id];
}

/** Answers as IMDS does: no body for HEAD, and the token's remaining TTL for a request that has a token. */
export function send(exchange: Exchange, { status, type, body, headers }: Answer): void {
  const { request, response, tokenSeconds } = exchange;
  if (response.headersSent || response.destroyed) return;
  const length = Buffer.byteLength(body);
  const head = ['Content-Type', type, 'Content-Length', String(length), 'Server', SERVER, ...ownHeaders(exchange)];
  if (headers) head.push(...headers);
  if (tokenSeconds !== undefined) head.push(TOKEN_TTL_HEADER, String(tokenSeconds));
  response.writeHead(status, head);
  // Node writes a string together with the head, but a buffer separately; for ASCII, latin1 is the cheapest encoding.
  if (request.method === 'HEAD') response.end();
  else response.end(body, length === body.length ? 'latin1' : 'utf8');
}

export function sendText(exchange: Exchange, text: string): void {
  send(exchange, { status: 200, type: 'text/plain', body: text });
}
