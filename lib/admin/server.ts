/**
 * The operator's listener, on loopback: whether the proxy lives, whether it is ready, and what it knows. Containers
 * never reach it.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { isIP } from 'node:net';
import type { Exposition } from '../telemetry/prometheus.ts';

/** One thing that has to be so before containers can be served. */
export interface Check {
  readonly ok: boolean;
  readonly detail: string;
}

export interface AdminOptions {
  /** By name; the proxy is ready when all are ok. */
  readiness: () => Readonly<Record<string, Check>>;
  status: () => unknown;
  /** What `/metrics` answers, given the request's Accept header; undefined where there is no such page. */
  metrics?: ((accept: string) => Exposition) | undefined;
}

const TIMEOUT_MS = 5_000;

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
  if (!isNamedByAddress(request.headers.host)) return reply(response, 421, { error: 'ask by address or as localhost' });
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('Allow', 'GET, HEAD');
    return reply(response, 405, { error: 'only GET and HEAD' });
  }
  switch (request.url?.split('?')[0]) {
    case '/healthz':
      return reply(response, 200, { status: 'alive' });
    case '/readyz': {
      const checks = readiness();
      const ready = Object.values(checks).every(({ ok }) => ok);
      return reply(response, ready ? 200 : 503, { status: ready ? 'ready' : 'not ready', checks });
    }
    case '/status':
      return reply(response, 200, status());
    case '/metrics': {
      if (!metrics) return reply(response, 404, { error: 'there are metrics with ENABLE_PROMETHEUS=true' });
      const { type, text } = metrics(request.headers.accept ?? '');
      response.writeHead(200, { 'Content-Type': type, 'Cache-Control': 'no-store' });
      response.end(request.method === 'HEAD' ? undefined : text);
      return;
    }
    default:
      return reply(response, 404, { error: 'there are /healthz, /readyz and /status' });
  }
}

/** A web page cannot make a browser ask with such a Host by pointing a name of its own here (DNS rebinding). */
function isNamedByAddress(host: string | undefined): boolean {
  if (host === undefined) return true; // HTTP/1.0: no browser.
  const name = host.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  return name === 'localhost' || isIP(name) > 0;
}

function reply(response: ServerResponse, status: number, body: unknown): void {
  const text = `${JSON.stringify(body, null, 2)}\n`;
  response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
  response.end(response.req.method === 'HEAD' ? undefined : text);
}
