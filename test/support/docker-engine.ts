import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DockerHost } from './docker-host.ts';
import {
  containerInspect, containerSummary, imageInspect, isRunning, networkInspect,
  type Container, type EngineEvent,
} from './docker-shapes.ts';
import { delay, FaultRules, type Fault } from './fault-rules.ts';
import { Journal } from './journal.ts';

export type { Container, EngineEvent } from './docker-shapes.ts';

/** A certificate for the API over TLS, PEM; with `ca` a client has to show one that it signed. */
export interface EngineTls {
  readonly cert: string;
  readonly key: string;
  readonly ca?: string;
}

export interface EngineOptions {
  /** 'unix' (the default): a socket in a temporary directory. 'tcp': a free port of 127.0.0.1. */
  readonly transport?: 'unix' | 'tcp';
  /** The API over TLS, on 'tcp' only. */
  readonly tls?: EngineTls;
  /**
   * The real engine answers no inspect of a container between its `network connect` and its `start`: it waits
   * for the container's lock (measured). True by default.
   */
  readonly holdInspectUntilStart?: boolean;
}

/** A request that the engine has seen. */
export interface EngineRequest {
  readonly method: string;
  /** Without the version prefix and the query. */
  readonly path: string;
  /** "v1.41", or '' for a path without one. */
  readonly version: string;
  readonly query: URLSearchParams;
}

/** A client of GET /events, from the moment on at which it misses no event. */
export interface Subscription {
  readonly filters: string;
  readonly since: string | undefined;
  readonly open: boolean;
}

/**
 * What can go wrong with a response. On /events, which has no end, `truncated`, `malformed` and `cut` have no effect:
 * use writeToSubscribers() and dropSubscribers().
 */
export type EngineFault =
  /** Answers once the fault is lifted. */
  | { readonly kind: 'hold' }
  | { readonly kind: 'delay'; readonly ms: number }
  /** An error in the engine's form. */
  | { readonly kind: 'status'; readonly status: number; readonly message?: string }
  /** Half of the document, framed as if it were whole. */
  | { readonly kind: 'truncated' }
  /** A 200 whose body is not JSON. */
  | { readonly kind: 'malformed' }
  /** Half of the document, then the connection ends. */
  | { readonly kind: 'cut' }
  /** The connection ends instead of an answer. */
  | { readonly kind: 'reset' }
  /** This document with status 200. */
  | { readonly kind: 'body'; readonly body: unknown };

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

interface Subscriber extends Subscription {
  open: boolean;
  readonly accepts: (event: EngineEvent) => boolean;
  readonly response: ServerResponse;
}

/** As many past events as the real engine keeps for `since`. */
const HISTORY_LENGTH = 256;

/** A stand-in of the Docker Engine: its HTTP API on a socket, over a host that the test controls. */
export class DockerEngine {
  /** The engine's containers; its methods are the docker commands. */
  readonly host: DockerHost;
  readonly requests = new Journal<EngineRequest>('a request to the Docker engine');
  readonly subscriptions = new Journal<Subscription>('a subscription to the Docker events');
  /** Every event since the start, with or without subscribers. */
  readonly events = new Journal<EngineEvent>('a Docker event');
  readonly #options: EngineOptions;
  readonly #directory: string | undefined;
  #port = 0;
  #server: Server | undefined;
  readonly #faults = new FaultRules<EngineRequest, EngineFault>();
  #hanging = false;
  #afterHang: (() => void)[] = [];
  readonly #subscribers = new Set<Subscriber>();
  #history: EngineEvent[] = [];

  private constructor(options: EngineOptions) {
    this.#options = options;
    this.#directory = options.transport === 'tcp' ? undefined : mkdtempSync(join(tmpdir(), 'docker-engine-'));
    this.host = new DockerHost((event) => this.emit(event));
  }

  /** A new engine without containers, listening. */
  static async start(options: EngineOptions = {}): Promise<DockerEngine> {
    const engine = new DockerEngine(options);
    await engine.listen();
    return engine;
  }

  /** The path of the socket, for an engine on one. */
  get socketPath(): string {
    if (this.#directory === undefined) throw new Error('this engine listens on TCP');
    return join(this.#directory, 'docker.sock');
  }

  /** The value of DOCKER_URL or DOCKER_HOST. */
  get url(): string {
    return this.#directory === undefined ? `tcp://127.0.0.1:${this.#port}` : `unix://${this.socketPath}`;
  }

  /** The number of open event streams. */
  get subscriberCount(): number {
    return this.#subscribers.size;
  }

  // The daemon's life

  /** Listens; after stop() on the same address. */
  async listen(): Promise<void> {
    if (this.#server !== undefined) return;
    const serve = (request: IncomingMessage, response: ServerResponse): void => {
      this.#serve(request, response).catch((error: unknown) => {
        if (!response.headersSent) send(response, 500, json({ message: String(error) }));
      });
    };
    const { tls } = this.#options;
    const server = tls === undefined ? createServer(serve) : createTlsServer(
      { ...tls, requestCert: tls.ca !== undefined, rejectUnauthorized: tls.ca !== undefined }, serve,
    );
    this.#server = server;
    if (this.#directory === undefined) server.listen(this.#port, '127.0.0.1');
    else server.listen(this.socketPath);
    await once(server, 'listening');
    const address = server.address() as AddressInfo | string;
    if (typeof address !== 'string') this.#port = address.port;
  }

  /**
   * The daemon stops: its socket is gone, every connection ends. It sends no event of what happens meanwhile, and
   * loses its past events, as the real engine does.
   */
  async stop(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    this.#history = [];
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    await closed;
  }

  /** Stops for good and cleans up. */
  async close(): Promise<void> {
    this.resume();
    this.#faults.liftAll();
    this.host.unlockAll();
    await this.stop();
    if (this.#directory !== undefined) rmSync(this.#directory, { recursive: true, force: true });
  }

  // Faults

  /**
   * Applies `fault` to requests whose path (without version and query) is `path` or matches it, `times` times at most.
   */
  fault(path: string | RegExp, fault: EngineFault, times = Infinity): Fault {
    const applies = (request: EngineRequest): boolean =>
      typeof path === 'string' ? request.path === path : path.test(request.path);
    return this.#faults.add(fault, applies, times);
  }

  /** Like SIGSTOP: connections are accepted, but nothing is answered and no event is sent until resume(). */
  hang(): void {
    this.#hanging = true;
  }

  /** Ends hang(): answers the requests and sends the events of the meantime. */
  resume(): void {
    const held = this.#afterHang;
    this.#hanging = false;
    this.#afterHang = [];
    for (const resume of held) resume();
  }

  /** Ends every event stream, with a reset or, if `cleanly`, with its regular end. */
  dropSubscribers(cleanly = false): void {
    for (const subscriber of this.#subscribers) {
      this.#forget(subscriber);
      if (cleanly) subscriber.response.end();
      else subscriber.response.destroy();
    }
  }

  /** Sends any text on every event stream: broken JSON, half a line, many lines at once. */
  writeToSubscribers(text: string | Buffer): void {
    for (const { response } of this.#subscribers) response.write(text);
  }

  /** Sends an event, the host's or a made-up one: not while the daemon is stopped, late if it hangs. */
  emit(event: EngineEvent): void {
    this.events.add(event);
    if (this.#hanging) {
      this.#afterHang.push(() => this.#send(event));
    } else if (this.#server !== undefined) {
      this.#send(event);
    }
  }

  // Answering

  async #serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    incoming.resume();
    const request = parseRequest(incoming);
    this.requests.add(request);
    if (this.#hanging) await new Promise<void>((resolve) => this.#afterHang.push(resolve));
    const struck = this.#faults.apply(request);
    if (struck?.fault.kind === 'hold') await struck.lifted;
    if (struck?.fault.kind === 'delay') await delay(struck.fault.ms, struck.lifted);
    const fault = struck?.fault;
    if (fault?.kind === 'reset') return void response.destroy();
    if (fault?.kind === 'status') {
      return send(response, fault.status, json({ message: fault.message ?? 'a fault on demand' }));
    }
    if (fault?.kind === 'body') return send(response, 200, json(fault.body));
    if (fault?.kind === 'malformed') return send(response, 200, '{"Id": nonsense, ]\n');
    if (request.path === '/events') return this.#subscribe(request, response);
    const { status, body } = await this.#answer(request);
    const text = typeof body === 'string' ? body : json(body);
    if (fault?.kind === 'truncated') return send(response, status, text.slice(0, text.length / 2));
    if (fault?.kind === 'cut') return cutOff(response, status, text);
    return send(response, status, text);
  }

  async #answer(request: EngineRequest): Promise<Answer> {
    const { method, path, query } = request;
    if (method !== 'GET' && method !== 'HEAD') return { status: 405, body: { message: 'read only' } };
    if (path === '/_ping') return { status: 200, body: 'OK' };
    if (path === '/version') return { status: 200, body: VERSION };
    if (path === '/info') return { status: 200, body: this.#info() };
    if (path === '/containers/json') return { status: 200, body: this.#list(query) };
    if (path === '/networks') {
      return { status: 200, body: this.host.networks.map((network) => networkInspect(network)) };
    }
    const [, kind = '', name = ''] = /^\/(containers|images)\/(.+)\/json$/.exec(path)
      ?? /^\/(networks)\/([^/]+)$/.exec(path) ?? [];
    if (kind === 'containers') return await this.#inspectContainer(name);
    if (kind === 'networks') return this.#inspectNetwork(name);
    if (kind === 'images') return this.#inspectImage(name);
    return notFound('page not found');
  }

  async #inspectContainer(name: string): Promise<Answer> {
    const found = this.host.findContainer(name);
    if (found !== undefined && this.#options.holdInspectUntilStart !== false) await this.host.started(found);
    // It may have been removed while its inspect was held.
    const container = this.host.findContainer(found?.id ?? name);
    if (container === undefined) return notFound(`No such container: ${name}`);
    return { status: 200, body: containerInspect(container) };
  }

  #inspectNetwork(name: string): Answer {
    const network = this.host.findNetwork(name);
    if (network === undefined) return notFound(`network ${name} not found`);
    return { status: 200, body: networkInspect(network, this.host.containers) };
  }

  #inspectImage(name: string): Answer {
    const image = this.host.findImage(name);
    if (image === undefined) return notFound(`No such image: ${name}`);
    return { status: 200, body: imageInspect(image) };
  }

  #list(query: URLSearchParams): object[] {
    const filters = parseFilters(query.get('filters'));
    const everything = isTrue(query.get('all')) || filters.has('status');
    const matches = (container: Container): boolean =>
      (everything || isRunning(container))
      && wants(filters, 'id', (id) => container.id.startsWith(id))
      && wants(filters, 'name', (name) => container.name.includes(name.replace(/^\//, '')))
      && wants(filters, 'status', (status) => container.state === status)
      && wants(filters, 'network', (name) => container.shown.has(name));
    // The engine lists the newest first.
    return this.host.containers.filter(matches).reverse().map(containerSummary);
  }

  #info(): object {
    const { containers } = this.host;
    return {
      ID: 'STAND:IN',
      Containers: containers.length,
      ContainersRunning: containers.filter(isRunning).length,
      Driver: 'overlay2',
      Name: 'stand-in',
      ServerVersion: VERSION.Version,
      Swarm: { LocalNodeState: 'inactive' },
    };
  }

  // Events

  #subscribe(request: EngineRequest, response: ServerResponse): void {
    // The client may have disconnected while its request was held.
    if (response.destroyed) return;
    const filters = parseFilters(request.query.get('filters'));
    const since = request.query.get('since') ?? undefined;
    const accepts = (event: EngineEvent): boolean =>
      wants(filters, 'type', (type) => event.Type === type)
      && wants(filters, 'event', (action) => event.Action === action || event.Action.startsWith(`${action}:`))
      && wants(filters, 'container', (id) => event.Type === 'container' && event.Actor.ID.startsWith(id));
    const subscriber: Subscriber = {
      accepts, response, since, filters: request.query.get('filters') ?? '', open: true,
    };
    response.writeHead(200, { 'Content-Type': 'application/json', ...HEADERS });
    response.flushHeaders();
    response.on('close', () => this.#forget(subscriber));
    if (since !== undefined) {
      for (const event of this.#history) {
        if (event.timeNano / 1e9 >= Number(since) && accepts(event)) response.write(`${json(event)}\n`);
      }
    }
    this.#subscribers.add(subscriber);
    this.subscriptions.add(subscriber);
  }

  #forget(subscriber: Subscriber): void {
    subscriber.open = false;
    this.#subscribers.delete(subscriber);
  }

  #send(event: EngineEvent): void {
    this.#history = [...this.#history.slice(1 - HISTORY_LENGTH), event];
    const line = `${json(event)}\n`;
    for (const { accepts, response } of this.#subscribers) {
      if (accepts(event)) response.write(line);
    }
  }
}

const VERSION = {
  Platform: { Name: '' },
  Version: '20.10.24',
  ApiVersion: '1.41',
  MinAPIVersion: '1.12',
  Os: 'linux',
  Arch: 'amd64',
} as const;

const HEADERS = {
  'Api-Version': VERSION.ApiVersion,
  'Docker-Experimental': 'false',
  Ostype: 'linux',
  Server: `Docker/${VERSION.Version} (linux)`,
} as const;

function parseRequest(incoming: IncomingMessage): EngineRequest {
  const url = new URL(incoming.url ?? '/', 'http://docker');
  const [, version = '', path = ''] = /^(?:\/(v1\.\d+)(?=\/))?(.*)$/.exec(url.pathname) ?? [];
  return { method: incoming.method ?? '', path: decodeURIComponent(path), version, query: url.searchParams };
}

type Filters = ReadonlyMap<string, readonly string[]>;

/** Both forms that the engine accepts: {"type":["container"]} and the older {"type":{"container":true}}. */
function parseFilters(text: string | null): Filters {
  if (text === null || text === '') return new Map();
  const parsed = JSON.parse(text) as Record<string, string[] | Record<string, boolean>>;
  return new Map(Object.entries(parsed).map(([key, values]) =>
    [key, Array.isArray(values) ? values : Object.keys(values)]));
}

function wants(filters: Filters, key: string, accepts: (value: string) => boolean): boolean {
  const values = filters.get(key);
  return values === undefined || values.some(accepts);
}

function isTrue(value: string | null): boolean {
  return value !== null && !['', '0', 'no', 'false', 'none'].includes(value.toLowerCase());
}

function notFound(message: string): Answer {
  return { status: 404, body: { message } };
}

function json(value: unknown): string {
  return JSON.stringify(value);
}

function send(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, {
    'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text), ...HEADERS,
  });
  response.end(text);
}

function cutOff(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, {
    'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text), ...HEADERS,
  });
  response.write(text.slice(0, text.length / 2), () => response.destroy());
}
