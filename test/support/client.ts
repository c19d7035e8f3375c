import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { parseResponses, type RawResponse } from './http-bytes.ts';

/** Without a timeout a hang would have no message. No assertion depends on it. */
const TIMEOUT_MS = 20_000;

export interface RequestOptions {
  readonly port: number;
  /** The source address, which identifies the container: any of 127.0.0.0/8 (127.0.0.1). */
  readonly from?: string;
  /** The server's address (127.0.0.1). */
  readonly host?: string;
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string | string[]>>;
  readonly body?: string | Buffer;
  readonly signal?: AbortSignal;
}

export interface Response {
  readonly status: number;
  /** By name in lower case; several values of a name are joined by ", ". */
  readonly headers: Readonly<Record<string, string>>;
  /** Alternating names and values, as received. */
  readonly rawHeaders: readonly string[];
  readonly body: string;
  readonly bytes: Buffer;
}

/**
 * Sends one request on a new connection, as a container would. Rejects if the connection fails, also within the body, so
 * a truncated answer never looks complete.
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
  /** Stops after so many complete responses (1). Infinity waits until the server closes the connection. */
  readonly responses?: number;
}

export interface RawResult {
  /** All received bytes. */
  readonly received: Buffer;
  /** The complete responses in them. */
  readonly responses: readonly RawResponse[];
  /** True if the server closed or reset the connection. */
  readonly closed: boolean;
}

/**
 * Sends bytes that no HTTP library would send. Resolves when `responses` complete responses have arrived or the server
 * closes the connection.
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
    const finish = (closed: boolean): void => {
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
      if (parseResponses(soFar, toHead).length >= wanted) finish(false);
    });
    socket.once('error', (error) => {
      // After the connection is established, a reset is a result, not a failure.
      if (connected) return;
      clearTimeout(timer);
      reject(error);
    });
    socket.once('close', () => finish(true));
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
