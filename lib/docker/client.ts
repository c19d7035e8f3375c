import { statSync } from 'node:fs';
import * as http from 'node:http';
import type * as https from 'node:https';
import { normalAddress } from '../util/ip-address.ts';
import { array, object, string } from '../util/json.ts';
import type { DockerEndpoint } from './endpoint.ts';

/** A container as `GET /containers/{id}/json` or `GET /containers/json` shows it. */
export interface EngineContainer {
  readonly id: string;
  readonly name: string;
  readonly image: string;
  readonly running: boolean;
  /** `bridge`, `host`, `none`, a network's name or `container:{id}`; a list of Podman's does not say. */
  readonly networkMode: string;
  /** By the network's id; networks on which it has no address yet, or whose addresses mean nothing, are left out. */
  readonly addresses: ReadonlyMap<string, readonly string[]>;
  /** The names of its networks, also of those on which it has no address yet. */
  readonly networks: readonly string[];
  readonly hostname: string;
  /** The image's id. */
  readonly imageId: string;
  readonly env: ReadonlyMap<string, string>;
  readonly labels: ReadonlyMap<string, string>;
}

export interface ListedContainer extends EngineContainer {
  /** Whether it has ever been started. */
  readonly hasRun: boolean;
}

/** What an image brings into its containers. */
export interface EngineImage {
  readonly env: ReadonlyMap<string, string>;
  readonly labels: ReadonlyMap<string, string>;
}

/** An event of the engine, of those that `events` asks for. */
export type EngineEvent =
  | { readonly kind: 'create' | 'start' | 'die' | 'destroy'; readonly container: string }
  /** Something of its networks has changed, without saying what (Podman). */
  | { readonly kind: 'networksChanged'; readonly container: string }
  | { readonly kind: 'rename'; readonly container: string; readonly name: string }
  | {
      readonly kind: 'connect' | 'disconnect';
      readonly container: string;
      readonly network: string;
      readonly driver: string;
    };

/** A stream of events that has begun. */
export interface EngineEvents {
  /** Resolves, with the reason, when the stream is over. */
  readonly ended: Promise<Error>;
  /**
   * Podman: its events may be a quarter of a second late (measured with its file of events), and containers start and
   * end also while its service is away.
   */
  readonly isPodman: boolean;
}

/** There is no engine on its socket: nobody can start a container with it, unless it is `daemonless`. */
export class EngineUnreachable extends Error {}
/** The engine is there, but did not answer as it should. */
export class EngineFailure extends Error {}

/**
 * Networks whose addresses this host never sees a packet from: what an overlay's containers send to it comes from
 * docker_gwbridge, and macvlan and ipvlan go around it. A container on another network may have the same address, and
 * only that one is meant. The addresses of drivers that are not known here (plugins) are believed.
 */
const ADDRESSES_ELSEWHERE = new Set(['overlay', 'macvlan', 'ipvlan']);

/** Networks of one id keep their driver. Podman has names there, which come again. */
const NETWORK_ID = /^[0-9a-f]{64}$/;
/** More networks than a host has. */
const MAX_DRIVERS = 1_000;

/** Whether what a container sends to this host over a network of this driver can bear its address there. */
export function reachesHost(driver: string): boolean {
  return !ADDRESSES_ELSEWHERE.has(driver);
}

/** An inspect waits up to 330 ms for a container that is starting (measured), and longer on a busy host. */
const ANSWER_TIMEOUT_MS = 10_000;
/** A list of 1,000 containers is about 2 MB. */
const MAX_RESPONSE_LENGTH = 64 * 1024 * 1024;
/** An event's attributes hold all labels of its container. */
const MAX_EVENT_LENGTH = 4 * 1024 * 1024;
/**
 * To whom does not take an event for 100 ms while 1,024 are waiting Docker does not send it, and says nothing of that. As
 * many as were waiting then come late, one after the other. Source: moby, daemon/events, and pkg/pubsub.
 */
const LATE_MS = 100;
const MAX_LATE_EVENTS = 1_000;
/** How many API calls are under way at once, at the most: a first sync should not crowd out `docker run`. */
const MAX_SOCKETS = 8;
/** No socket, or nobody listening on it. */
const NOBODY_THERE = new Set(['ENOENT', 'ECONNREFUSED']);

/** The states of a list; `stopping`, `configured` and `initialized` are Podman's. */
const RUNNING: ReadonlySet<string> = new Set(['running', 'paused', 'restarting', 'stopping']);
const NOT_RUN_YET: ReadonlySet<string> = new Set(['created', 'configured', 'initialized']);

/** Podman 4 filters by its own names for die and destroy, and then calls the former die. */
const EVENT_FILTERS = {
  type: ['container', 'network'],
  event: ['create', 'start', 'die', 'died', 'destroy', 'remove', 'rename', 'connect', 'disconnect'],
};

/**
 * A client of the Docker Engine API. Paths carry no version, so that every engine and Podman's compatible socket
 * answers. Source: docs.docker.com/reference/api/engine.
 */
export class DockerEngine {
  readonly #target: https.RequestOptions;
  readonly #isTls: boolean;
  readonly #hasOurClock: boolean;
  #made: Promise<Transport> | undefined;
  readonly #url: string;
  readonly #host: string;
  readonly #onSent: (at: number) => void;
  /** By the network's id; being asked for, or known. */
  readonly #drivers = new Map<string, Promise<string | undefined>>();

  /** @param onSent told of each event when the engine sent it, in milliseconds since the epoch */
  constructor(endpoint: DockerEndpoint, onSent: (at: number) => void = () => {}) {
    this.#onSent = onSent;
    this.#url = endpoint.url;
    // With TLS it is also the name that the certificate must have. On a socket it means nothing, but there must be one.
    this.#host = endpoint.kind === 'unix' ? 'docker' : endpoint.host;
    this.#hasOurClock = endpoint.kind === 'unix';
    this.#isTls = endpoint.kind === 'tcp' && endpoint.tls !== undefined;
    this.#target =
      endpoint.kind === 'unix'
        ? { socketPath: endpoint.socketPath }
        : { host: endpoint.host, port: endpoint.port, ...endpoint.tls };
  }

  /**
   * All running containers, with their addresses but without their environment, which only `inspect` has.
   *
   * @throws EngineUnreachable, EngineFailure
   */
  async runningContainers(): Promise<EngineContainer[]> {
    return (await this.#list('/containers/json')).filter(({ running }) => running);
  }

  /**
   * All containers, also those that have not run yet or do not run any more.
   *
   * @throws EngineUnreachable, EngineFailure
   */
  allContainers(): Promise<ListedContainer[]> {
    return this.#list('/containers/json?all=1');
  }

  /**
   * @returns undefined when there is no such container (any more)
   * @throws EngineUnreachable, EngineFailure
   */
  async inspect(container: string): Promise<EngineContainer | undefined> {
    const found = await this.#get(`/containers/${encodeURIComponent(container)}/json`);
    return found === undefined ? undefined : this.#reachable(parseInspected(found));
  }

  /**
   * The number of a container's first process, in the engine's own process namespace.
   *
   * @returns undefined when it does not run
   * @throws EngineUnreachable, EngineFailure
   */
  async firstProcessOf(container: string): Promise<number | undefined> {
    const found = await this.#get(`/containers/${encodeURIComponent(container)}/json`);
    const { Running, Pid } = object(object(found)['State']);
    return Running === true && typeof Pid === 'number' && Pid > 0 ? Pid : undefined;
  }

  /**
   * @returns undefined when there is no such image (any more)
   * @throws EngineUnreachable, EngineFailure
   */
  async image(id: string): Promise<EngineImage | undefined> {
    const found = await this.#get(`/images/${encodeURIComponent(id)}/json`);
    if (found === undefined) return undefined;
    const config = object(object(found)['Config']);
    return { env: parseEnv(config['Env']), labels: parseLabels(config['Labels']) };
  }

  /**
   * The addresses on a network, by container. Answers at once even while a container is starting, when `inspect` waits.
   *
   * @param network an id or a name
   * @returns undefined when there is no such network
   * @throws EngineUnreachable, EngineFailure
   */
  async networkAddresses(network: string): Promise<ReadonlyMap<string, readonly string[]> | undefined> {
    const found = await this.#get(`/networks/${encodeURIComponent(network)}`);
    return found === undefined ? undefined : parseNetworkContainers(found);
  }

  /**
   * Follows the events of containers and networks until the stream ends or `signal` says so.
   *
   * @param onEvent called for each event, in the engine's order
   * @returns once the engine has begun to stream
   * @throws EngineUnreachable, EngineFailure
   */
  async events(onEvent: (event: EngineEvent) => void, signal: AbortSignal): Promise<EngineEvents> {
    const query = new URLSearchParams({ filters: JSON.stringify(EVENT_FILTERS) });
    const response = await this.#open(`/events?${query}`, { signal, agent: false });
    if (response.statusCode !== 200) throw await this.#unexpected(response, '/events');
    const isPodman = response.headers['libpod-api-version'] !== undefined;
    return { ended: this.#readEvents(response, onEvent), isPodman };
  }

  close(): void {
    void this.#made?.then(({ agent }) => agent.destroy());
  }

  async #list(path: string): Promise<ListedContainer[]> {
    const list = await this.#get(path);
    if (!Array.isArray(list)) throw new EngineFailure(`the Docker Engine at ${this.#url} listed no containers`);
    return Promise.all(list.map((one) => this.#reachable(parseListed(one))));
  }

  /** Leaves out the addresses on networks that do not reach this host. */
  async #reachable<T extends EngineContainer>(container: T): Promise<T> {
    const addresses = new Map(container.addresses);
    for (const network of addresses.keys()) {
      const driver = await this.#driver(network);
      // A network that has gone meanwhile has no addresses any more.
      if (driver === undefined || !reachesHost(driver)) addresses.delete(network);
    }
    return addresses.size === container.addresses.size ? container : { ...container, addresses };
  }

  #driver(network: string): Promise<string | undefined> {
    let driver = this.#drivers.get(network);
    if (!driver) {
      driver = this.#get(`/networks/${encodeURIComponent(network)}`).then((found) => {
        return found === undefined ? undefined : string(object(found)['Driver']);
      });
      if (this.#drivers.size >= MAX_DRIVERS) this.#drivers.clear();
      this.#drivers.set(network, driver);
      const forget = (): void => void this.#drivers.delete(network);
      driver.then((found) => (found === undefined || !NETWORK_ID.test(network)) && forget(), forget);
    }
    return driver;
  }

  #readEvents(response: http.IncomingMessage, onEvent: (event: EngineEvent) => void): Promise<Error> {
    let late = 0;
    const onSent = (at: number): void => {
      this.#onSent(at);
      late = this.#hasOurClock && Date.now() - at > LATE_MS ? late + 1 : 0;
    };
    return new Promise((resolve) => {
      let rest = '';
      let isTooLong = false;
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        const lines = (rest + chunk).split('\n');
        // One container with labels beyond measure must not break the stream for all. What takes addresses away,
        // the disconnect of a network, has no labels.
        if (isTooLong && lines.length > 1) {
          lines.shift();
          isTooLong = false;
        }
        rest = isTooLong ? '' : (lines.pop() ?? '');
        if (isTooLong) return;
        if (rest.length > MAX_EVENT_LENGTH) [rest, isTooLong] = ['', true];
        for (const line of lines) {
          if (line.trim() === '') continue;
          const event = parseEvent(line, onSent);
          if (event instanceof Error) response.destroy(event);
          else if (event) onEvent(event);
          if (late === MAX_LATE_EVENTS) response.destroy(this.#tooLate());
        }
      });
      const end = (error?: Error | null): void => {
        resolve(error ?? new EngineFailure(`the Docker Engine at ${this.#url} ended its stream of events`));
      };
      response.on('error', end);
      response.on('close', end);
    });
  }

  #tooLate(): EngineFailure {
    return new EngineFailure(`the Docker Engine at ${this.#url} sent ${MAX_LATE_EVENTS} events late: others may be missing`);
  }

  /** @returns the parsed answer, or undefined for 404 */
  async #get(path: string): Promise<unknown> {
    const response = await this.#open(path);
    if (response.statusCode === 404) {
      response.resume();
      return undefined;
    }
    if (response.statusCode !== 200) throw await this.#unexpected(response, path);
    const body = await this.#text(response, path);
    try {
      return JSON.parse(body);
    } catch {
      throw new EngineFailure(`the Docker Engine at ${this.#url} answered ${path} with malformed JSON`);
    }
  }

  async #open(path: string, options: http.RequestOptions = {}): Promise<http.IncomingMessage> {
    const { request: send, agent } = await (this.#made ??= makeTransport(this.#isTls));
    return new Promise((resolve, reject) => {
      const request = send({ ...this.#target, agent, ...options, path, headers: { Host: this.#host } });
      request.setTimeout(ANSWER_TIMEOUT_MS, () => {
        request.destroy(new EngineFailure(`the Docker Engine at ${this.#url} did not answer ${path} in time`));
      });
      request.on('error', (error: NodeJS.ErrnoException) => reject(this.#failure(error)));
      request.on('response', (response) => {
        // From here on silence is what an event stream is made of.
        if (options.agent === false) request.setTimeout(0);
        resolve(response);
      });
      request.end();
    });
  }

  async #text(response: http.IncomingMessage, path: string): Promise<string> {
    const chunks: Buffer[] = [];
    let length = 0;
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        length += chunk.length;
        if (length > MAX_RESPONSE_LENGTH) throw new EngineFailure(`the Docker Engine's answer to ${path} has no end`);
        chunks.push(chunk);
      }
    } catch (error) {
      throw this.#failure(error as NodeJS.ErrnoException);
    }
    return Buffer.concat(chunks).toString('utf8');
  }

  async #unexpected(response: http.IncomingMessage, path: string): Promise<EngineFailure> {
    const body = await this.#text(response, path);
    return new EngineFailure(
      `the Docker Engine at ${this.#url} answered ${path} with ${response.statusCode}: ${body.slice(0, 200).trim()}`,
    );
  }

  #failure(error: NodeJS.ErrnoException): Error {
    if (error instanceof EngineFailure) return error;
    const Kind = NOBODY_THERE.has(error.code ?? '') && this.#meansNoEngine() ? EngineUnreachable : EngineFailure;
    return new Kind(`the Docker Engine at ${this.#url} cannot be used: ${error.message}`, { cause: error });
  }

  /**
   * Whether nobody on the socket means that no engine runs. At another end of TCP a proxy of it may be what is missing; and
   * a socket that was mounted into a container by itself stays the old one there when the engine has made another.
   */
  #meansNoEngine(): boolean {
    const { socketPath } = this.#target;
    return typeof socketPath === 'string' && !isUnlinked(socketPath);
  }
}

function isUnlinked(path: string): boolean {
  const { nlink } = statSync(path, { throwIfNoEntry: false }) ?? {};
  return nlink === 0;
}

interface Transport {
  readonly request: typeof http.request;
  readonly agent: http.Agent;
}

/** Most engines are on a socket, and TLS takes as long to load as all of this program. */
async function makeTransport(isTls: boolean): Promise<Transport> {
  const { request, Agent } = isTls ? await import('node:https') : http;
  return { request, agent: new Agent({ keepAlive: true, maxSockets: MAX_SOCKETS, maxFreeSockets: 2 }) };
}

function parseListed(value: unknown): ListedContainer {
  const container = object(value);
  const state = string(container['State']);
  return {
    id: string(container['Id']),
    name: string(array(container['Names'])[0]).replace(/^\//, ''),
    image: string(container['Image']),
    running: RUNNING.has(state),
    hasRun: !NOT_RUN_YET.has(state),
    networkMode: string(object(container['HostConfig'])['NetworkMode']),
    addresses: parseEndpoints(object(container['NetworkSettings'])['Networks']),
    networks: Object.keys(object(object(container['NetworkSettings'])['Networks'])),
    hostname: '',
    imageId: string(container['ImageID']),
    env: new Map(),
    labels: parseLabels(container['Labels']),
  };
}

function parseInspected(value: unknown): EngineContainer {
  const container = object(value);
  const config = object(container['Config']);
  return {
    id: string(container['Id']),
    name: string(container['Name']).replace(/^\//, ''),
    image: string(config['Image']),
    running: object(container['State'])['Running'] === true,
    networkMode: string(object(container['HostConfig'])['NetworkMode']),
    addresses: parseEndpoints(object(container['NetworkSettings'])['Networks']),
    networks: Object.keys(object(object(container['NetworkSettings'])['Networks'])),
    hostname: [string(config['Hostname']), string(config['Domainname'])].filter((part) => part !== '').join('.'),
    imageId: string(container['Image']),
    env: parseEnv(config['Env']),
    labels: parseLabels(config['Labels']),
  };
}

/** `NAME=value` each. */
function parseEnv(value: unknown): ReadonlyMap<string, string> {
  const env = new Map<string, string>();
  for (const entry of array(value).map(string)) {
    const equals = entry.indexOf('=');
    if (equals !== -1) env.set(entry.slice(0, equals), entry.slice(equals + 1));
  }
  return env;
}

function parseLabels(value: unknown): ReadonlyMap<string, string> {
  return new Map(Object.entries(object(value)).map(([name, label]) => [name, string(label)]));
}

/** `NetworkSettings.Networks`, which is keyed by the network's name. */
function parseEndpoints(value: unknown): ReadonlyMap<string, readonly string[]> {
  const byNetwork = new Map<string, readonly string[]>();
  for (const endpoint of Object.values(object(value)).map(object)) {
    const addresses = parseAddresses(endpoint['IPAddress'], endpoint['GlobalIPv6Address']);
    if (addresses.length > 0) byNetwork.set(string(endpoint['NetworkID']), addresses);
  }
  return byNetwork;
}

function parseNetworkContainers(value: unknown): ReadonlyMap<string, readonly string[]> {
  const byContainer = new Map<string, readonly string[]>();
  for (const [container, endpoint] of Object.entries(object(object(value)['Containers']))) {
    const { IPv4Address, IPv6Address } = object(endpoint);
    byContainer.set(container, parseAddresses(IPv4Address, IPv6Address));
  }
  return byContainer;
}

/** Addresses with or without a prefix length; empty where there is none. */
function parseAddresses(...values: unknown[]): string[] {
  return values
    .map((value) => normalAddress(string(value).replace(/\/.*$/, '')))
    .filter((address) => address !== undefined);
}

/** @returns undefined for an event that means nothing here */
function parseEvent(line: string, onSent: (at: number) => void): EngineEvent | EngineFailure | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return new EngineFailure('the Docker Engine sent an event that is no JSON');
  }
  const { Type, Action, Actor, timeNano } = object(value);
  if (typeof timeNano === 'number') onSent(timeNano / 1e6);
  const id = string(object(Actor)['ID']);
  const attributes = object(object(Actor)['Attributes']);
  if (Type === 'container') {
    switch (Action) {
      case 'create':
      case 'start':
      case 'die':
      case 'destroy':
        return { kind: Action, container: id };
      case 'died':
        return { kind: 'die', container: id };
      case 'remove':
        return { kind: 'destroy', container: id };
      case 'rename':
        return { kind: Action, container: id, name: string(attributes['name']).replace(/^\//, '') };
    }
  }
  if (Type === 'network' && (Action === 'connect' || Action === 'disconnect')) {
    // Podman tells the container alone, in the network's place.
    if (attributes['container'] === undefined) return { kind: 'networksChanged', container: id };
    return { kind: Action, container: string(attributes['container']), network: id, driver: string(attributes['type']) };
  }
  return undefined;
}
