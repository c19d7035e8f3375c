/**
 * The operator's endpoint, on loopback: liveness, readiness, status and metrics. It is read-only, and containers cannot
 * reach it.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { isIP } from 'node:net';
import { listen } from '../util/listen.ts';
import { printableJson } from '../util/printable.ts';
import type { Exposition } from '../telemetry/metrics/prometheus.ts';
import { isReady, type Checks, type Status } from './status.ts';

export interface AdminOptions {
  /** The proxy is ready when every check is ok. */
  readiness: () => Checks;
  status: () => Status;
  /** Answers `/metrics` for an Accept header; undefined if Prometheus is not enabled. */
  metrics?: ((accept: string) => Exposition) | undefined;
}

const TIMEOUT_MS = 5_000;
/** On every answer: do not cache, do not sniff the type, do not share with other sites. */
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

  /** @returns the port that it listens on; throws what `listen` reports */
  async listen(host: string, port: number): Promise<number> {
    return (await listen(this.#server, { host: host || '127.0.0.1', port })).port;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

function answer(request: IncomingMessage, response: ServerResponse, { readiness, status, metrics }: AdminOptions): void {
  if (!isNamedByAddress(request.headers.host)) {
    return sendJson(response, 421, { error: 'the Host header must be an IP address or localhost' });
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('Allow', 'GET, HEAD');
    return sendJson(response, 405, { error: 'the method must be GET or HEAD' });
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
      if (!metrics) return sendJson(response, 404, { error: 'metrics are disabled; set ENABLE_PROMETHEUS=true' });
      const { type, text } = metrics(request.headers.accept ?? '');
      return send(response, 200, { 'Content-Type': type }, text);
    }
    default:
      return sendJson(response, 404, { error: 'unknown path; the paths are /, /healthz, /readyz, /status and /metrics' });
  }
}

/** Prevents DNS rebinding: a web page that points its own name here makes the browser send that name as Host. */
function isNamedByAddress(host: string | undefined): boolean {
  if (host === undefined) return true; // HTTP/1.0, so not a browser.
  const name = host.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  return name === 'localhost' || isIP(name) > 0;
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  send(response, status, { 'Content-Type': 'application/json' }, `${printableJson(body, 2)}\n`);
}

/** The page is imported on use: initialising ICU and OpenSSL for it would take a fifth of the start-up time. */
async function sendPage(response: ServerResponse, status: Status): Promise<void> {
  const { page, PAGE_HEADERS } = await import('./page.ts');
  send(response, 200, { ...PAGE_HEADERS, 'Content-Type': 'text/html; charset=utf-8' }, page(status));
}

function send(response: ServerResponse, status: number, headers: Readonly<Record<string, string>>, body: string): void {
  response.writeHead(status, { ...HEADERS, ...headers });
  response.end(response.req.method === 'HEAD' ? undefined : body);
}
