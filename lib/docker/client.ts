/**
 * Client of the Docker Engine API. Paths carry no version, so every engine and Podman's compatible socket answers.
 * Source: docs.docker.com/reference/api/engine.
 */

import type { IncomingMessage } from 'node:http';
import type { Events } from '../events.ts';
import { systemClock, type Clock } from '../util/clock.ts';
import { object, string } from '../util/json.ts';
import { isEngineSocket, type DockerEndpoint } from './endpoint.ts';
import {
  AnswerTooLarge,
  PathRefused,
  reachesHost,
  UNNAMED_NETWORK,
  type Engine,
  type EngineContainer,
  type EngineEvent,
  type EngineEvents,
  type EngineImage,
  type ListedContainer,
} from './engine.ts';
import { readEvents } from './event-stream.ts';
import { parseFirstProcess, parseImage, parseInspected, parseListed, parseNetworkContainers } from './parse.ts';
import { Transport } from './transport.ts';

/** A network with such an id keeps its driver. Podman uses names instead, which can be reused. */
const NETWORK_ID = /^[0-9a-f]{64}$/;
/** More networks than a host has. */
const MAX_DRIVERS = 1_000;
/** The date of an answer is a whole second, and takes time to arrive. */
const MAX_CLOCK_ERROR_MS = 2_000;
/** Stands for a network that cannot be read, and for its driver, which then counts as any unknown one. */
const UNREADABLE = '(unreadable)';
/** Of a container that a list shows without its networks. */
const INSPECT_TIMEOUT_MS = 2_000;
/** Podman 4 filters by its own names `died` and `remove`, but then sends the former as `die`. */
const EVENT_FILTERS = {
  type: ['container', 'network'],
  event: ['create', 'start', 'die', 'died', 'destroy', 'remove', 'rename', 'connect', 'disconnect'],
};

export interface ClientOptions {
  readonly events?: Pick<Events, 'engineEventReceived' | 'enginePathRefused'>;
  readonly clock?: Clock;
  /** Whether answers need confirmation, because something between may lose events. auto: what the endpoint suggests. */
  readonly confirm?: 'auto' | 'always' | 'never';
}

export class DockerEngine implements Engine {
  readonly #transport: Transport;
  readonly #sharesClock: boolean;
  readonly #url: string;
  readonly #isRelayed: boolean;
  readonly #events: ClientOptions['events'];
  readonly #clock: Clock;
  /** The engine's time less this host's, in milliseconds. */
  #clockOffset = 0;
  #isPodman = false;
  /** By network; a pending or finished lookup each. */
  readonly #drivers = new Map<string, Promise<string | undefined>>();
  /** What a proxy before the engine does not let through, although the directory can do without. */
  readonly refusedPaths = new Set<string>();

  constructor(endpoint: DockerEndpoint, options: ClientOptions = {}) {
    const { events, clock = systemClock, confirm = 'auto' } = options;
    this.#events = events;
    this.#clock = clock;
    this.#isRelayed = confirm === 'auto' ? !isEngineSocket(endpoint) : confirm === 'always';
    this.#transport = new Transport(endpoint, this.#isRelayed, clock);
    this.#url = endpoint.url;
    this.#sharesClock = endpoint.kind === 'unix';
  }

  /**
   * Running containers with their addresses, but without their environment, which only `inspect` has.
   *
   * @throws EngineUnreachable, EngineFailure
   */
  async runningContainers(): Promise<EngineContainer[]> {
    return (await this.#list('/containers/json')).filter(({ running }) => running);
  }

  allContainers(): Promise<ListedContainer[]> {
    return this.#list('/containers/json?all=1');
  }

  async inspect(container: string, signal?: AbortSignal): Promise<EngineContainer | undefined> {
    const found = await this.#transport.get(`/containers/${encodeURIComponent(container)}/json`, signal);
    return found === undefined ? undefined : this.#withReachableAddresses(parseInspected(found));
  }

  /**
   * The PID of a container's first process, in the engine's own PID namespace.
   *
   * @returns undefined when the container does not run
   * @throws EngineUnreachable, EngineFailure
   */
  async firstProcessOf(container: string): Promise<number | undefined> {
    return parseFirstProcess(await this.#transport.get(`/containers/${encodeURIComponent(container)}/json`));
  }

  /**
   * @returns undefined when there is no such image
   * @throws EngineUnreachable, EngineFailure
   */
  async image(id: string): Promise<EngineImage | undefined> {
    const found = await this.#optional('/images/', id, '/json');
    return found === undefined ? undefined : parseImage(found);
  }

  /**
   * Unlike `inspect`, the engine answers this at once while a container is starting.
   *
   * @param network an id or a name
   */
  async networkAddresses(network: string): Promise<ReadonlyMap<string, readonly string[]> | undefined> {
    const found = await this.#network(network);
    return found === undefined || found === UNREADABLE ? undefined : parseNetworkContainers(found);
  }

  async events(onEvent: (event: EngineEvent) => void, signal: AbortSignal, seconds: number): Promise<EngineEvents> {
    const response = await this.#openEvents(signal, seconds);
    const onSent = (sentAt: number): void => this.#events?.engineEventReceived(sentAt);
    const ended = readEvents(response, { url: this.#url, sharesClock: this.#sharesClock, onEvent, onSent });
    return { ended, isPodman: this.#isPodman, isRelayed: this.#isRelayed };
  }

  /** The engine's own clock decides when the stream ends; the date of its answer tells whether that is the same. */
  async #openEvents(signal: AbortSignal, seconds: number, isRetry = false): Promise<IncomingMessage> {
    const now = (this.#clock.now() + this.#clockOffset) / 1000;
    const until = (now + seconds).toFixed(3);
    // A bounded stream begins with past events from `since` on. Docker leaves them out for a time to come; Podman would
    // leave out the events until then as well.
    const since = this.#isPodman ? now.toFixed(3) : until;
    const query = new URLSearchParams({ filters: JSON.stringify(EVENT_FILTERS), since, until });
    const response = await this.#transport.open(`/events?${query}`, signal);
    const isPodman = response.headers['libpod-api-version'] !== undefined;
    const offset = this.#offsetOf(response.headers.date);
    if (isRetry || (isPodman === this.#isPodman && Math.abs(offset - this.#clockOffset) <= MAX_CLOCK_ERROR_MS)) return response;
    this.#isPodman = isPodman;
    this.#clockOffset = offset;
    response.on('error', () => {}).destroy();
    return this.#openEvents(signal, seconds, true);
  }

  #offsetOf(date = ''): number {
    const offset = Date.parse(date) + 500 - this.#clock.now();
    return Math.abs(offset) > MAX_CLOCK_ERROR_MS ? offset : 0;
  }

  close(): void {
    this.#transport.close();
  }

  async #list(path: string): Promise<ListedContainer[]> {
    const list = await this.#transport.list(path, parseListed);
    return Promise.all(
      list.map(async (one) => {
        const isComplete = one.hasNetworks || !one.running || one.addresses.size > 0;
        const found = isComplete ? one : await this.inspect(one.id, AbortSignal.timeout(INSPECT_TIMEOUT_MS)).catch(() => {});
        return this.#withReachableAddresses(found ? { ...one, addresses: found.addresses, networks: found.networks } : one);
      }),
    );
  }

  /** One that has too large labels does not keep the others from being read. */
  async #network(network: string): Promise<unknown> {
    try {
      return await this.#optional('/networks/', network, '', UNREADABLE);
    } catch (error) {
      if (error instanceof AnswerTooLarge) return UNREADABLE;
      throw error;
    }
  }

  /** What the directory can do without, if a proxy before the engine refuses it. */
  async #optional(before: string, name: string, after: string, otherwise?: unknown): Promise<unknown> {
    const path = `${before}{id}${after}`;
    try {
      const found = await this.#transport.get(`${before}${encodeURIComponent(name)}${after}`);
      this.refusedPaths.delete(path);
      return found;
    } catch (error) {
      if (!(error instanceof PathRefused)) throw error;
      if (!this.refusedPaths.has(path)) this.#events?.enginePathRefused(path, error);
      this.refusedPaths.add(path);
      return otherwise;
    }
  }

  /** Leaves out addresses on networks that do not reach this host. */
  async #withReachableAddresses<T extends EngineContainer>(container: T): Promise<T> {
    const addresses = new Map(container.addresses);
    for (const network of addresses.keys()) {
      if (network === UNNAMED_NETWORK) continue;
      const driver = await this.#driverOf(network);
      // A network that was removed meanwhile has no addresses any more.
      if (driver === undefined || !reachesHost(driver)) addresses.delete(network);
    }
    return addresses.size === container.addresses.size ? container : { ...container, addresses };
  }

  #driverOf(network: string): Promise<string | undefined> {
    let driver = this.#drivers.get(network);
    if (!driver) {
      driver = this.#network(network).then((found) => {
        return found === undefined ? undefined : found === UNREADABLE ? UNREADABLE : string(object(found)['Driver']);
      });
      if (this.#drivers.size >= MAX_DRIVERS) this.#drivers.clear();
      this.#drivers.set(network, driver);
      const forget = (): void => void this.#drivers.delete(network);
      driver.then((found) => (found === undefined || found === UNREADABLE || !NETWORK_ID.test(network)) && forget(), forget);
    }
    return driver;
  }
}
