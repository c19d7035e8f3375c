import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { parseResponses, type RawResponse } from './http-bytes.ts';

/** How long a client waits for an answer, in milliseconds. It turns a hang into a message, no more. */
const TIMEOUT_MS = 20_000;

export interface RequestOptions {
  readonly port: number;
  /** The source address, which is who the container is: any of 127.0.0.0/8 (the default is 127.0.0.1). */
  readonly from?: string;
  /** Where the server is; by default 127.0.0.1. */
  readonly host?: string;
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string | string[]>>;
  readonly body?: string | Buffer;
  readonly signal?: AbortSignal;
}

export interface Response {
  readonly status: number;
  /** By name in lower case; repeated ones joined by ", ". */
  readonly headers: Readonly<Record<string, string>>;
  /** Name and value in turn, as they came. */
  readonly rawHeaders: readonly string[];
  readonly body: string;
  readonly bytes: Buffer;
}

/**
 * One request on a connection of its own, as a container would send it. Rejects when the connection fails,
 * also in the middle of the body: a truncated answer is never taken for a whole one.
 */
export function request(options: RequestOptions): Promise<Response> {
  const { port, from = '127.0.0.1', host = '127.0.0.1', method = 'GET', path = '/', headers = {} } = options;
  const { body, signal } = options;
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest({
      host, port, method, path, headers, localAddress: host.includes(':') ? undefined : from, agent: false,
      ...(signal !== undefined && { signal }),
    });
    const timer = setTimeout(() => {
      outgoing.destroy(new Error(`no answer to ${method} ${path} within ${TIMEOUT_MS} ms`));
    }, TIMEOUT_MS);
    outgoing.once('close', () => clearTimeout(timer));
    outgoing.once('error', reject);
    outgoing.once('response', (incoming) => {
      const chunks: Buffer[] = [];
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
      incoming.once('error', reject);
      incoming.once('end', () => {
        const bytes = Buffer.concat(chunks);
        const { statusCode: status = 0, rawHeaders } = incoming;
        resolve({ status, headers: headersOf(rawHeaders), rawHeaders, body: bytes.toString(), bytes });
      });
    });
    outgoing.end(body);
  });
}

export interface RawOptions {
  readonly port: number;
  readonly from?: string;
  readonly host?: string;
  /** A string is latin1. */
  readonly bytes: string | Buffer;
  /** Stops after so many whole responses, by default one; Infinity waits for the server to close. */
  readonly responses?: number;
}

export interface RawResult {
  /** Everything that came. */
  readonly received: Buffer;
  /** The whole responses in it. */
  readonly responses: readonly RawResponse[];
  /** True if the server ended the connection, by an orderly close or a reset. */
  readonly closed: boolean;
}

/**
 * Sends bytes that no HTTP library would send and gives what comes back, until `responses` whole responses
 * are there or the server closes.
 */
export function raw(options: RawOptions): Promise<RawResult> {
  const { port, from = '127.0.0.1', host = '127.0.0.1', bytes, responses: wanted = 1 } = options;
  const text = typeof bytes === 'string' ? bytes : bytes.toString('latin1');
  const toHead = text.startsWith('HEAD ');
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, ...(!host.includes(':') && { localAddress: from }) });
    const chunks: Buffer[] = [];
    let connected = false;
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new Error(`no answer to ${JSON.stringify(text.slice(0, 200))} within ${TIMEOUT_MS} ms`));
    }, TIMEOUT_MS);
    const settle = (closed: boolean): void => {
      clearTimeout(timer);
      const received = Buffer.concat(chunks);
      resolve({ received, responses: parseResponses(received.toString('latin1'), toHead, closed), closed });
      socket.destroy();
    };
    socket.once('connect', () => {
      connected = true;
      socket.write(text, 'latin1');
    });
    socket.on('data', (chunk) => {
      chunks.push(chunk);
      if (wanted === Infinity) return;
      const soFar = Buffer.concat(chunks).toString('latin1');
      if (parseResponses(soFar, toHead).length >= wanted) settle(false);
    });
    socket.once('error', (error) => {
      // A reset of a connection that was made is an answer of a kind.
      if (connected) return;
      clearTimeout(timer);
      reject(error);
    });
    socket.once('close', () => settle(true));
  });
}

function headersOf(rawHeaders: readonly string[]): Record<string, string> {
  const headers: Record<string, string> = {};
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = (rawHeaders[at] ?? '').toLowerCase();
    const value = rawHeaders[at + 1] ?? '';
    headers[name] = name in headers ? `${headers[name]}, ${value}` : value;
  }
  return headers;
}
