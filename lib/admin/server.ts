/**
 * The operator's listener, on loopback: whether the proxy lives, whether it is ready, and what it knows. Containers
 * never reach it, and nothing can be changed by it.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { isIP } from 'node:net';
import { printableJson } from '../util/printable.ts';
import type { Exposition } from '../telemetry/metrics/prometheus.ts';
import { isReady, type Checks, type Status } from './status.ts';

export interface AdminOptions {
  /** By name; the proxy is ready when all are ok. */
  readiness: () => Checks;
  status: () => Status;
  /** What `/metrics` answers, given the request's Accept header; undefined where there is no such page. */
  metrics?: ((accept: string) => Exposition) | undefined;
}

const TIMEOUT_MS = 5_000;
/** For every answer: it is for now, it is what it says it is, and no other site's pages may have it. */
const HEADERS = {
  'Cache-Control': 'no-store',
  'X-Content-Type-Options': 'nosniff',
  'Cross-Origin-Resource-Policy': 'same-origin',
} as const;

export class AdminServer {
  readonly #server: Server;

  constructor(options: AdminOptions) {
    this.#server = createServer({ headersTimeout: TIMEOUT_MS, requestTimeout: TIMEOUT_MS, maxHeaderSize: 8 * 1024 });
    this.#server.on('request', (request, response) => answer(request, response, options));
  }

  /** @returns the port, which the system chose when `port` is 0; throws what `listen` reports */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, host || '127.0.0.1', () => {
        const address = this.#server.address();
        resolve(typeof address === 'object' && address ? address.port : port);
      });
    });
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

function answer(request: IncomingMessage, response: ServerResponse, { readiness, status, metrics }: AdminOptions): void {
  if (!isNamedByAddress(request.headers.host)) {
    return sendJson(response, 421, { error: 'ask by address or as localhost' });
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('Allow', 'GET, HEAD');
    return sendJson(response, 405, { error: 'only GET and HEAD' });
  }
  switch (request.url?.split('?')[0]) {
    case '/':
      return void sendPage(response, status());
    case '/healthz':
      return sendJson(response, 200, { status: 'alive' });
    case '/readyz': {
      const checks = readiness();
      const ready = isReady(checks);
      return sendJson(response, ready ? 200 : 503, { status: ready ? 'ready' : 'not ready', checks });
    }
    case '/status':
      return sendJson(response, 200, status());
    case '/metrics': {
      if (!metrics) return sendJson(response, 404, { error: 'there are metrics with ENABLE_PROMETHEUS=true' });
      const { type, text } = metrics(request.headers.accept ?? '');
      return send(response, 200, { 'Content-Type': type }, text);
    }
    default:
      return sendJson(response, 404, { error: 'there are /, /healthz, /readyz and /status' });
  }
}

/** A web page cannot make a browser ask with such a Host by pointing a name of its own here (DNS rebinding). */
function isNamedByAddress(host: string | undefined): boolean {
  if (host === undefined) return true; // HTTP/1.0: no browser.
  const name = host.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  return name === 'localhost' || isIP(name) > 0;
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  send(response, status, { 'Content-Type': 'application/json' }, `${printableJson(body, 2)}\n`);
}

/** Read when somebody looks at it: what it needs of ICU and OpenSSL takes a fifth of the time to start. */
async function sendPage(response: ServerResponse, status: Status): Promise<void> {
  const { page, PAGE_HEADERS } = await import('./page.ts');
  send(response, 200, { ...PAGE_HEADERS, 'Content-Type': 'text/html; charset=utf-8' }, page(status));
}

function send(response: ServerResponse, status: number, headers: Readonly<Record<string, string>>, body: string): void {
  response.writeHead(status, { ...HEADERS, ...headers });
  response.end(response.req.method === 'HEAD' ? undefined : body);
}
