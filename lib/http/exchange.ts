import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Container } from '../docker/container.ts';
import type { Credentials } from '../credentials/credentials.ts';
import type { RoleRequest } from '../roles/role-request.ts';
import type { UpstreamTiming } from '../imds/client.ts';

/** One request on its way to its answer, with what is found out about it on the way. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** The caller's address in its normal form. */
  readonly address: string;
  /** performance.now() when the request's head had been read. */
  readonly began: number;
  /** Names the request in the log and in the answer. */
  readonly id: string;
  /** Canonical; empty when the target has no canonical form. */
  path: string;
  /** Seconds that the caller's session token has left; undefined without one. */
  tokenSeconds: number | undefined;
  container: Container | undefined;
  roleRequest: RoleRequest | undefined;
  /** Those that are handed out. */
  credentials: Credentials | undefined;
  /** Whether they were not there yet when they were asked for. */
  hadToWait: boolean;
  /** How long the real metadata service took. */
  upstream: UpstreamTiming | undefined;
}

/** Answers at once wherever it can, because promises cost more than a warm answer's own work. */
export type Handler = (exchange: Exchange) => void | Promise<void>;

/** Goes on at once with what is there, or when it is. */
export function mapMaybeAsync<T, U>(value: T | Promise<T>, goOn: (value: T) => U | Promise<U>): U | Promise<U> {
  return value instanceof Promise ? value.then(goOn) : goOn(value);
}

/** The header in which a session token travels, as Node names it. */
export const TOKEN_HEADER = 'x-aws-ec2-metadata-token';
/** The one in which its time in seconds does, as IMDS spells it. */
export const TOKEN_TTL_HEADER = 'X-Aws-Ec2-Metadata-Token-Ttl-Seconds';

/** What IMDS calls itself. */
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

/** Answers as IMDS would: HEAD gets the head alone, a token-bearing request the token's remaining time. */
export function send(exchange: Exchange, { status, type, body, headers }: Answer): void {
  const { request, response, tokenSeconds } = exchange;
  if (response.headersSent || response.destroyed) return;
  const length = Buffer.byteLength(body);
  const head = ['Content-Type', type, 'Content-Length', String(length), 'Server', SERVER, ...ownHeaders(exchange)];
  if (headers) head.push(...headers);
  if (tokenSeconds !== undefined) head.push(TOKEN_TTL_HEADER, String(tokenSeconds));
  response.writeHead(status, head);
  // Node writes a text together with the head, a buffer apart from it; for ASCII latin1 is the cheapest encoding.
  if (request.method === 'HEAD') response.end();
  else response.end(body, length === body.length ? 'latin1' : 'utf8');
}

export function sendText(exchange: Exchange, text: string): void {
  send(exchange, { status: 200, type: 'text/plain', body: text });
}
