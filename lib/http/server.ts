/**
 * The listener for containers. A request goes through these steps, and the first that objects answers it:
 *
 *   0. an address that asks too fast waits, or is told so                429
 *   1. its target gets its one canonical reading                         400
 *   2. the router says what kind of answer that path has                 404
 *   3. the head is one that HTTP allows, with few headers                400, 417, 431
 *   4. the method is one that the answer has                             405
 *   5. there is no body                                                  400, 413
 *   6. a session token is a good one, and is there where it must be      401
 *   7. the handler answers                                               or one row of the table in failure.ts
 */

import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, STATUS_CODES, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { Server as NetServer, type AddressInfo, type ListenOptions, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { sleep, systemClock } from '../util/clock.ts';
import type { Container } from '../docker/container.ts';
import { normalAddress } from '../util/ip-address.ts';
import { Memo } from '../util/memo.ts';
import type { Log } from '../log/log.ts';
import { canonicalPath } from './canonical-path.ts';
import { sendText, SERVER, TOKEN_HEADER, type Exchange, type Handler } from './exchange.ts';
import { errorPage, failureOf, Refusal, sendFailure, overloaded } from './errors.ts';
import { RateLimiter } from './rate-limiter.ts';
import { route, type Route } from './router.ts';
import type { SessionTokens } from './session-tokens.ts';
import { FairQueue } from './fair-queue.ts';

export interface Handlers {
  sessionToken: Handler;
  iamListing: Handler;
  iamInfo: Handler;
  roleName: Handler;
  roleCredentials: (exchange: Exchange, role: string, extended: boolean) => void | Promise<void>;
  containerCredentials: Handler;
  metrics: Handler;
  passThrough: Handler;
}

export interface MetadataServerOptions {
  handlers: Handlers;
  tokens: SessionTokens;
  /** Whether reads without a session token are refused. */
  tokenRequired: boolean;
  /** The container behind an address and a connection, as far as it is known at once. */
  peek: (address: string, connection: Socket) => Container | undefined;
  /** Finds out what `peek` could not tell; undefined when there is nothing to wait for. Never rejects. */
  ensureResolved?: (address: string, connection: Socket) => Promise<unknown> | undefined;
  maxConnections: number;
  maxConnectionsPerAddress: number;
  /** 0 for no limit. */
  maxRequestsPerSecond: number;
  /** Milliseconds for a request to arrive: SDKs send it in one piece; who takes long holds a connection for nothing. */
  readTimeout: number;
  /** Milliseconds of silence on a connection while an answer is being sent. */
  writeTimeout: number;
  /** Told of every answer when it is sent, or given up. */
  onAnswered?: AnswerListener;
  log: Log;
}

/**
 * What was answered stands in the exchange and its response.
 *
 * @param found what kind of answer the path has; undefined for a request that was refused before that was known
 * @param failure why there was no such answer; undefined when there was
 * @param seconds how long it took
 */
export type AnswerListener = (exchange: Exchange, found: Route | undefined, failure: unknown, seconds: number) => void;

/** SDKs send some 500 bytes; anything near this is no SDK. */
const MAX_HEADER_BYTES = 8 * 1024;
/** How often the read time-out is looked at; Node's own half a minute would make it meaningless. */
const TIMEOUT_CHECK_MS = 1_000;
/** An SDK makes its three requests within a second and comes back in an hour. */
const KEEP_ALIVE_TIMEOUT_MS = 15_000;
/** Who asks too fast waits, which costs nothing; who would wait longer than this is told so after it. */
const MAX_DELAY_MS = 1_000;
/** So long at least nothing is read from an address that has sent more than may wait. */
const OVERFLOW_DELAY_MS = 2_000;
/** SDKs send some 10. Node drops what is beyond its limit, so that a header would not be seen. */
const MAX_HEADERS = 100;
/** A connection that is refused takes the answer at once, or never. */
const REFUSAL_TIMEOUT_MS = 1_000;
/** Of one address, in a turn of the event loop: some 0.2 ms, for which the others wait. */
const MAX_REQUESTS_PER_TURN = 4;
/** SDKs ask for a handful. */
const MAX_CACHED_TARGETS = 256;
/** At the end, what is in flight gets so long. */
const DRAIN_TIMEOUT_MS = 4_000;
/** And an idle connection so long, in which a request that is on its way still arrives and is answered. */
const IDLE_DRAIN_TIMEOUT_MS = 500;

/** Node's code for a request that has not come in time. */
const TIMED_OUT = 'ERR_HTTP_REQUEST_TIMEOUT';
const RETRY_AFTER = ['Retry-After: 1'];

/** What a request target means. */
interface Reading {
  readonly path: string;
  readonly route: Route;
}

/** Who shares the limits: everything from one address. */
interface Client {
  readonly address: string;
  readonly connections: Set<Connection>;
  /** Answers that it waits for: on one connection there may be many requests behind each other. */
  waiting: number;
  /** Too many wait: nothing is read for a while, as Node keeps all that it has read until its connection ends. */
  readsPaused: boolean;
  /** When that ended, or will; by performance.now(). */
  readsPausedUntil: number;
}

interface Connection {
  readonly socket: Socket;
  readonly client: Client;
  /** Answers that are not given yet. */
  readonly pending: Set<ServerResponse>;
  /** Requests whose time has not come yet. */
  readonly delayed: Map<ConnectionExchange, NodeJS.Timeout>;
  /** It has been answered for the last time. */
  closing: boolean;
  /** More requests have come than an address may have waiting; it ends with the answer that says so. */
  overflowed: boolean;
}

const CONNECTION = Symbol('connection');

/** What is known of a connection stands on its socket: a WeakMap of so many short lives keeps the collector busy. */
interface KnownSocket extends Duplex {
  [CONNECTION]?: Connection;
}

interface ConnectionExchange extends Exchange {
  readonly connection: Connection;
}

export class MetadataServer {
  readonly #options: MetadataServerOptions;
  readonly #server: Server;
  readonly #clients = new Map<string, Client>();
  readonly #readings = new Memo(MAX_CACHED_TARGETS, readTarget);
  readonly #rateLimiter: RateLimiter;
  readonly #queue: FairQueue;
  #draining = false;

  constructor(options: MetadataServerOptions) {
    this.#options = options;
    this.#rateLimiter = new RateLimiter(options.maxRequestsPerSecond, () => performance.now());
    this.#queue = new FairQueue(options.maxRequestsPerSecond === 0 ? Infinity : MAX_REQUESTS_PER_TURN);
    this.#server = createServer({
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: options.readTimeout,
      requestTimeout: options.readTimeout,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
      connectionsCheckingInterval: TIMEOUT_CHECK_MS,
      // Node's own refusals would not count for the pace of who asks.
      requireHostHeader: false,
    });
    this.#server.maxHeadersCount = MAX_HEADERS;
    this.#server.maxConnections = options.maxConnections;
    this.#server.setTimeout(options.writeTimeout);
    const serve = (request: IncomingMessage, response: ServerResponse): void => this.#serve(request, response);
    this.#server.on('request', serve);
    // Nobody is told to continue: a request with a body is refused before the body is read.
    this.#server.on('checkContinue', serve);
    this.#server.on('checkExpectation', serve);
    this.#server.on('connection', (socket: Socket) => this.#admit(socket));
    this.#server.on('connect', (_request, socket: Duplex) => refuseSocket(socket, 405, ['Allow: GET, HEAD']));
    this.#server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => this.#hangUp(error, socket));
  }

  /** @returns the port, which the system chose when `port` is 0; throws what `listen` reports */
  async listen(host: string, port: number): Promise<number> {
    return (await this.#listen({ host, port })).port;
  }

  /**
   * Takes over a socket that listens already.
   *
   * @returns where it listens; throws what `listen` reports
   */
  listenOn(fd: number): Promise<AddressInfo> {
    return this.#listen({ fd });
  }

  async #listen(at: ListenOptions | { readonly fd: number }): Promise<AddressInfo> {
    this.#server.listen(at);
    await once(this.#server, 'listening');
    return this.#server.address() as AddressInfo;
  }

  /** Gives up the address that it listens on, to listen on another one. */
  async stopListening(): Promise<void> {
    await new Promise((resolve) => NetServer.prototype.close.call(this.#server, resolve));
  }

  /**
   * Takes no new connections, answers what arrives on those that are open, each with its last answer, and closes.
   */
  async close(): Promise<void> {
    this.#draining = true;
    for (const { connections } of this.#clients.values()) {
      for (const { pending } of connections) for (const response of pending) response.shouldKeepAlive = false;
    }
    const timers = [
      setTimeout(() => this.#server.closeIdleConnections(), IDLE_DRAIN_TIMEOUT_MS),
      setTimeout(() => this.#server.closeAllConnections(), DRAIN_TIMEOUT_MS),
    ];
    // Not http.Server's own close, which breaks idle connections off at once, under a request that is on its way.
    await new Promise<void>((resolve) => NetServer.prototype.close.call(this.#server, () => resolve()));
    for (const timer of timers) clearTimeout(timer);
  }

  #admit(socket: Socket): void {
    const address = normalAddress(socket.remoteAddress ?? '');
    if (address === undefined) {
      socket.destroy(); // It has gone already.
      return;
    }
    let client = this.#clients.get(address);
    if (!client) this.#clients.set(address, (client = newClient(address)));
    if (client.connections.size >= this.#options.maxConnectionsPerAddress) {
      refuseSocket(socket, 503, RETRY_AFTER);
      return;
    }
    const connection: Connection = {
      socket, client, pending: new Set(), delayed: new Map(), closing: false, overflowed: false,
    };
    (socket as KnownSocket)[CONNECTION] = connection;
    client.connections.add(connection);
    // Node reads on whenever an answer is finished.
    socket.on('resume', keepPaused);
    if (client.readsPaused) socket.pause();
    socket.once('close', () => {
      client.connections.delete(connection);
      this.#forget(client);
      for (const [exchange, timer] of connection.delayed) {
        clearTimeout(timer);
        exchange.response.statusCode = 429;
        this.#answered(exchange, undefined, overloaded(429, 'too_fast', 'the caller has left before its turn'));
      }
      // Of requests behind each other Node tells only the first that nobody is there any more.
      for (const response of connection.pending) if (!response.socket) response.destroy().emit('close');
    });
  }

  /** What came is no request. It is answered so, unless an answer is under way, into which nothing must be written. */
  #hangUp(error: NodeJS.ErrnoException, socket: Socket): void {
    const connection = (socket as KnownSocket)[CONNECTION];
    if (connection?.closing && connection.pending.size === 0) socket.destroySoon();
    else if (!socket.writable || error.code === 'ECONNRESET' || connection?.pending.size) socket.destroy();
    else if (error.code === TIMED_OUT && connection && this.#readsWerePaused(connection.client)) refuseSocket(socket, 503, RETRY_AFTER);
    else refuseSocket(socket, statusOfParseError(error.code));
  }

  /** What has come of it may be what was not read. */
  #readsWerePaused({ readsPausedUntil }: Client): boolean {
    return performance.now() < readsPausedUntil + this.#options.readTimeout + TIMEOUT_CHECK_MS;
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const connection = (request.socket as KnownSocket)[CONNECTION];
    if (!connection) return; // It was refused.
    if (connection.overflowed) return; // It came with the one that was too many.
    const { client } = connection;
    client.waiting += 1;
    connection.pending.add(response);
    const exchange: ConnectionExchange = {
      request,
      response,
      connection,
      address: client.address,
      began: performance.now(),
      id: randomUUID(),
      path: '',
      tokenSeconds: undefined,
      container: undefined,
      roleRequest: undefined,
      credentials: undefined,
      hadToWait: false,
      upstream: undefined,
    };
    // After a refused body, what follows on the connection is no request.
    if (this.#draining || hasBody(request)) response.shouldKeepAlive = false;
    // A refusal comes late: told at once, whoever asks too much would ask again at once.
    if (client.waiting > this.#options.maxConnectionsPerAddress) {
      // Nobody needs to send so many behind each other; what else is on its way on this connection is not looked at.
      connection.overflowed = true;
      response.shouldKeepAlive = false;
      const refusal = overloaded(503, 'too_many', 'too many requests of this address are waiting');
      const delay = refusalDelay(OVERFLOW_DELAY_MS);
      this.#pauseReads(client, delay);
      this.#later(exchange, delay, () => this.#fail(exchange, undefined, refusal));
      return;
    }
    const delay = this.#rateLimiter.delay(client.address);
    if (delay > MAX_DELAY_MS) {
      const refusal = overloaded(429, 'too_fast', 'too many requests from this address');
      this.#later(exchange, refusalDelay(MAX_DELAY_MS), () => this.#fail(exchange, undefined, refusal));
    } else if (delay > 0) this.#later(exchange, delay, () => this.#answerInTurn(exchange));
    else this.#answerInTurn(exchange);
  }

  /** Reads nothing more from an address for so many milliseconds. */
  #pauseReads(client: Client, milliseconds: number): void {
    if (client.readsPaused) return;
    client.readsPaused = true;
    client.readsPausedUntil = performance.now() + milliseconds;
    for (const { socket } of client.connections) socket.pause();
    const release = (): void => {
      client.readsPaused = false;
      for (const { socket } of client.connections) socket.resume();
      this.#forget(client);
    };
    setTimeout(release, milliseconds).unref();
  }

  #later(exchange: ConnectionExchange, milliseconds: number, action: () => void): void {
    const { delayed } = exchange.connection;
    const timer = setTimeout(() => {
      delayed.delete(exchange);
      action();
    }, milliseconds);
    delayed.set(exchange, timer);
  }

  /** Nothing is left of it: who leaves while answers are waited for, and comes back, is the same one. */
  #forget(client: Client): void {
    if (client.connections.size === 0 && client.waiting === 0 && !client.readsPaused && this.#clients.get(client.address) === client) {
      this.#clients.delete(client.address);
    }
  }

  #answerInTurn(exchange: ConnectionExchange): void {
    const turn = this.#queue.take(exchange.address);
    if (turn) void turn.then(() => this.#answer(exchange));
    else this.#answer(exchange);
  }

  #answer(exchange: ConnectionExchange): void {
    let found: Route | undefined;
    try {
      const { path, route } = this.#readings.of(exchange.request.url ?? '');
      exchange.path = path;
      found = route;
      const resolving = this.#ensureResolved(exchange, route);
      const answering = resolving ? resolving.then(() => this.#proceed(exchange, route)) : this.#proceed(exchange, route);
      if (!answering) this.#answered(exchange, found, undefined);
      else {
        answering.then(
          () => this.#answered(exchange, found, undefined),
          (error: unknown) => this.#fail(exchange, found, error),
        );
      }
    } catch (error) {
      this.#fail(exchange, found, error);
    }
  }

  #fail(exchange: ConnectionExchange, found: Route | undefined, error: unknown): void {
    const failure = failureOf(error);
    if (failure.unexpected && !exchange.response.headersSent) this.#logUnexpected(exchange, error);
    sendFailure(exchange, failure);
    this.#answered(exchange, found, error);
  }

  #answered(exchange: ConnectionExchange, found: Route | undefined, failure: unknown): void {
    const { response, connection } = exchange;
    if (!connection.pending.delete(response)) return;
    connection.client.waiting -= 1;
    this.#forget(connection.client);
    connection.closing ||= !response.shouldKeepAlive;
    this.#options.onAnswered?.(exchange, found, failure, (performance.now() - exchange.began) / 1000);
  }

  #proceed(exchange: Exchange, found: Route): void | Promise<void> {
    this.#check(exchange, found);
    return this.#handle(exchange, found);
  }

  /** A session token is for the caller: before it is made or looked at it must be known who that is. */
  #ensureResolved({ address, request }: Exchange, { kind }: Route): Promise<unknown> | undefined {
    const isAboutToken = kind === 'session-token' || request.headers[TOKEN_HEADER] !== undefined;
    return isAboutToken ? this.#options.ensureResolved?.(address, request.socket) : undefined;
  }

  /**
   * For work beyond that of a request: it counts like so many, but is not refused.
   *
   * @returns when it may be done
   */
  async charge({ address }: Exchange, requests: number): Promise<void> {
    for (let counted = 0; counted < requests; counted += 1) {
      let delay = this.#rateLimiter.delay(address);
      for (; delay > MAX_DELAY_MS; delay = this.#rateLimiter.delay(address)) await sleep(systemClock, MAX_DELAY_MS);
      if (delay > 0) await sleep(systemClock, delay);
    }
    await this.#queue.take(address);
  }

  #check(exchange: Exchange, { kind }: Route): void {
    const { request } = exchange;
    checkHead(request);
    if (kind === 'refused') throw new Refusal(404, 'host_credentials', 'credentials of the host are not to be had');
    const allowed = kind === 'session-token' ? request.method === 'PUT' : isRead(request.method);
    if (!allowed) {
      const methods = kind === 'session-token' ? 'PUT' : 'GET, HEAD';
      throw new Refusal(405, 'method', 'the method is not one of this path', ['Allow', methods]);
    }

    if (hasBody(request)) {
      const status = request.headers['transfer-encoding'] === undefined ? 413 : 400;
      throw new Refusal(status, 'body', 'the request has a body');
    }
    if (kind !== 'session-token' && kind !== 'health' && kind !== 'metrics') this.#checkToken(exchange);
  }

  #checkToken(exchange: Exchange): void {
    const { tokens, tokenRequired } = this.#options;
    const token = exchange.request.headers[TOKEN_HEADER];
    if (token === undefined) {
      if (tokenRequired) throw new Refusal(401, 'token_missing', 'a session token is required');
      return;
    }
    const [subject, earlierSubject] = [this.subjectOf(exchange), exchange.address];
    exchange.tokenSeconds =
      typeof token === 'string' ? (tokens.remaining(token, subject) ?? tokens.remaining(token, earlierSubject)) : undefined;
    if (exchange.tokenSeconds === undefined) throw new Refusal(401, 'token_invalid', 'the session token is not valid');
  }

  /** Whom a session token is for: the container, so that it serves at all its addresses; an unknown caller's address. */
  subjectOf({ address, request }: Exchange): string {
    return this.#options.peek(address, request.socket)?.id ?? address;
  }

  #handle(exchange: Exchange, found: Route): void | Promise<void> {
    const { handlers } = this.#options;
    switch (found.kind) {
      case 'session-token':
        return handlers.sessionToken(exchange);
      case 'iam-listing':
        return handlers.iamListing(exchange);
      case 'iam-info':
        return handlers.iamInfo(exchange);
      case 'role-name':
        return handlers.roleName(exchange);
      case 'role-credentials':
        return handlers.roleCredentials(exchange, found.role, found.extended);
      case 'container-credentials':
        return handlers.containerCredentials(exchange);
      case 'metrics':
        return handlers.metrics(exchange);
      case 'health':
        return sendText(exchange, '');
      case 'pass-through':
        return handlers.passThrough(exchange);
      case 'refused':
        throw new Refusal(404, 'host_credentials', 'credentials of the host are not to be had');
    }
  }

  #logUnexpected({ id, path }: Exchange, error: unknown): void {
    const text = String((error as Error)?.stack ?? error);
    this.#options.log.error('request failed unexpectedly', { request_id: id, path, error: text });
  }
}

/** From `least` milliseconds to twice as many, so that those who were refused together do not come again together. */
function refusalDelay(least: number): number {
  return least * (1 + Math.random());
}

function newClient(address: string): Client {
  return { address, connections: new Set(), waiting: 0, readsPaused: false, readsPausedUntil: -Infinity };
}

function keepPaused(this: KnownSocket): void {
  const connection = this[CONNECTION];
  if (!connection?.overflowed && !connection?.client.readsPaused) return;
  this.pause();
  // pause() tells nobody when it was called before, and Node, which reads past the stream, has gone on.
  this.emit('pause');
}

/** What Node would refuse by itself. */
function checkHead({ headers, rawHeaders, httpVersion }: IncomingMessage): void {
  if (rawHeaders.length > 2 * MAX_HEADERS) throw new Refusal(431, 'bad_head', `more than ${MAX_HEADERS} headers`);
  if (headers.host === undefined && httpVersion === '1.1') throw new Refusal(400, 'bad_head', 'the request names no host');
  const { expect } = headers;
  if (expect !== undefined && !/^100-continue$/i.test(expect)) {
    throw new Refusal(417, 'bad_head', 'the request expects what is not done here');
  }
}

/** @throws BadTarget */
function readTarget(target: string): Reading {
  const path = canonicalPath(target);
  return { path, route: route(path) };
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0;
}

function isRead(method: string | undefined): boolean {
  return method === 'GET' || method === 'HEAD';
}

function statusOfParseError(code: string | undefined): number {
  if (code === 'HPE_HEADER_OVERFLOW') return 431;
  return code === TIMED_OUT ? 408 : 400;
}

/** Answers where there is no request to answer, and hangs up. */
function refuseSocket(socket: Duplex, status: number, headers: readonly string[] = []): void {
  const page = errorPage(status);
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'Content-Type: text/html',
    `Content-Length: ${page.length}`,
    `Server: ${SERVER}`,
    'Connection: close',
    ...headers,
  ];
  // After CONNECT Node itself listens for nothing any more.
  socket.on('error', () => {});
  const timer = setTimeout(() => socket.destroy(), REFUSAL_TIMEOUT_MS);
  socket.once('close', () => clearTimeout(timer));
  socket.end(`${head.join('\r\n')}\r\n\r\n${page}`, () => socket.destroy());
}
