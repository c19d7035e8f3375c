/**
 * The listener for containers: Node's HTTP server, its limits and its events, start and stop. A connection goes to
 * connections.ts and a request to request.ts.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { Server as NetServer, type AddressInfo, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Clock } from '../util/clock.ts';
import { listen } from '../util/listen.ts';
import { Connections, refuseSocket } from './connections.ts';
import { MAX_HEADERS, RequestPipeline, type PipelineOptions } from './request.ts';

export interface MetadataServerOptions extends PipelineOptions {
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
  /** Milliseconds for a request to arrive. SDKs send it in one piece; a slow client would occupy a connection. */
  readonly readTimeout: number;
  /** Milliseconds of silence on a connection while an answer is being sent. */
  readonly writeTimeout: number;
  readonly clock: Clock;
}

/** SDKs send some 500 bytes. */
const MAX_HEADER_BYTES = 8 * 1024;
/** How often Node looks for requests that are late; its own 30 s would make the read timeout meaningless. */
const TIMEOUT_CHECK_MS = 1_000;
/** An SDK makes its three requests within a second and comes back in an hour. */
const KEEP_ALIVE_TIMEOUT_MS = 15_000;
/** How long `close` waits for requests in flight. */
const DRAIN_TIMEOUT_MS = 4_000;
/** How long it leaves idle connections open: a request that is on its way still arrives and is answered. */
const IDLE_DRAIN_TIMEOUT_MS = 500;

export class MetadataServer {
  readonly #server: Server;
  readonly #connections: Connections;

  constructor(options: MetadataServerOptions) {
    const { maxConnections, maxConnectionsPerAddress, readTimeout, writeTimeout, clock } = options;
    const connections = new Connections({
      maxPerAddress: maxConnectionsPerAddress,
      recoveryTime: readTimeout + TIMEOUT_CHECK_MS,
      clock,
    });
    const pipeline = new RequestPipeline(options, connections);
    const server = createServer({
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: readTimeout,
      requestTimeout: readTimeout,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
      connectionsCheckingInterval: TIMEOUT_CHECK_MS,
      // The rate limiter would not count Node's own refusals.
      requireHostHeader: false,
    });
    server.maxHeadersCount = MAX_HEADERS;
    server.maxConnections = maxConnections;
    server.setTimeout(writeTimeout);
    const serve = (request: IncomingMessage, response: ServerResponse): void => pipeline.serve(request, response);
    server.on('request', serve);
    // Without `100 Continue`: a request with a body is refused before the body is read.
    server.on('checkContinue', serve);
    server.on('checkExpectation', serve);
    server.on('connection', (socket: Socket) => connections.admit(socket));
    server.on('connect', (_request, socket: Duplex) => refuseSocket(socket, 405, ['Allow: GET, HEAD']));
    server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => connections.refuse(error, socket));
    this.#server = server;
    this.#connections = connections;
  }

  /** @returns the port, which the system chose when `port` is 0; throws what `listen` reports */
  async listen(host: string, port: number): Promise<number> {
    return (await listen(this.#server, { host, port })).port;
  }

  /**
   * Takes over a socket that listens already.
   *
   * @returns where it listens; throws what `listen` reports
   */
  listenOn(fd: number): Promise<AddressInfo> {
    return listen(this.#server, { fd });
  }

  /** Gives up the address that it listens on, to listen on another one. */
  async stopListening(): Promise<void> {
    // Not http.Server's close(), which breaks off idle connections at once, under a request that is on its way.
    await new Promise((resolve) => NetServer.prototype.close.call(this.#server, resolve));
  }

  /** Refuses new connections, gives those that are open a last answer each, and closes. */
  async close(): Promise<void> {
    this.#connections.drain();
    const timers = [
      setTimeout(() => this.#server.closeIdleConnections(), IDLE_DRAIN_TIMEOUT_MS),
      setTimeout(() => this.#server.closeAllConnections(), DRAIN_TIMEOUT_MS),
    ];
    await this.stopListening();
    for (const timer of timers) clearTimeout(timer);
  }
}
