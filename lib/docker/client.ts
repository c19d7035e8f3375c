/**
 * Client of the Docker Engine API. Paths carry no version, so every engine and Podman's compatible socket answers.
 * Source: docs.docker.com/reference/api/engine.
 */

import { statSync } from 'node:fs';
import * as http from 'node:http';
import type * as https from 'node:https';
import type { Events } from '../events.ts';
import { object, string } from '../util/json.ts';
import type { DockerEndpoint } from './endpoint.ts';
import {
  EngineFailure,
  EngineUnreachable,
  reachesHost,
  type Engine,
  type EngineContainer,
  type EngineEvent,
  type EngineEvents,
  type EngineImage,
  type ListedContainer,
} from './engine.ts';
import { readEvents } from './event-stream.ts';
import { parseFirstProcess, parseImage, parseInspected, parseListed, parseNetworkContainers } from './parse.ts';

/** An inspect waits up to 330 ms for a container that is starting (measured), longer on a busy host. */
const RESPONSE_TIMEOUT_MS = 10_000;
/** A list of 1,000 containers is about 2 MB. */
const MAX_RESPONSE_LENGTH = 64 * 1024 * 1024;
/** Bounds concurrent API calls: a first sync should not crowd out `docker run`. */
const MAX_SOCKETS = 8;
/** There is no socket, or no process listens on it. */
const NOT_LISTENING = new Set(['ENOENT', 'ECONNREFUSED']);
/** A network with such an id keeps its driver. Podman uses names instead, which can be reused. */
const NETWORK_ID = /^[0-9a-f]{64}$/;
/** More networks than a host has. */
const MAX_DRIVERS = 1_000;
/** Podman 4 filters by its own names `died` and `remove`, but then sends the former as `die`. */
const EVENT_FILTERS = {
  type: ['container', 'network'],
  event: ['create', 'start', 'die', 'died', 'destroy', 'remove', 'rename', 'connect', 'disconnect'],
};

export class DockerEngine implements Engine {
  readonly #target: https.RequestOptions;
  readonly #isTls: boolean;
  readonly #sharesClock: boolean;
  readonly #url: string;
  readonly #host: string;
  readonly #events: Pick<Events, 'engineEventReceived'> | undefined;
  #transport: Promise<Transport> | undefined;
  /** By network; a pending or finished lookup each. */
  readonly #drivers = new Map<string, Promise<string | undefined>>();

  constructor(endpoint: DockerEndpoint, events?: Pick<Events, 'engineEventReceived'>) {
    this.#events = events;
    this.#url = endpoint.url;
    // HTTP needs a Host header, also on a socket. With TLS it is the name that the certificate must have.
    this.#host = endpoint.kind === 'unix' ? 'docker' : endpoint.host;
    this.#sharesClock = endpoint.kind === 'unix';
    this.#isTls = endpoint.kind === 'tcp' && endpoint.tls !== undefined;
    this.#target =
      endpoint.kind === 'unix'
        ? { socketPath: endpoint.socketPath }
        : { host: endpoint.host, port: endpoint.port, ...endpoint.tls };
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

  async inspect(container: string): Promise<EngineContainer | undefined> {
    const found = await this.#get(`/containers/${encodeURIComponent(container)}/json`);
    return found === undefined ? undefined : this.#withReachableAddresses(parseInspected(found));
  }

  /**
   * The PID of a container's first process, in the engine's own PID namespace.
   *
   * @returns undefined when the container does not run
   * @throws EngineUnreachable, EngineFailure
   */
  async firstProcessOf(container: string): Promise<number | undefined> {
    return parseFirstProcess(await this.#get(`/containers/${encodeURIComponent(container)}/json`));
  }

  /**
   * @returns undefined when there is no such image
   * @throws EngineUnreachable, EngineFailure
   */
  async image(id: string): Promise<EngineImage | undefined> {
    const found = await this.#get(`/images/${encodeURIComponent(id)}/json`);
    return found === undefined ? undefined : parseImage(found);
  }

  /**
   * Unlike `inspect`, the engine answers this at once while a container is starting.
   *
   * @param network an id or a name
   */
  async networkAddresses(network: string): Promise<ReadonlyMap<string, readonly string[]> | undefined> {
    const found = await this.#get(`/networks/${encodeURIComponent(network)}`);
    return found === undefined ? undefined : parseNetworkContainers(found);
  }

  async events(onEvent: (event: EngineEvent) => void, signal: AbortSignal): Promise<EngineEvents> {
    const query = new URLSearchParams({ filters: JSON.stringify(EVENT_FILTERS) });
    const response = await this.#open(`/events?${query}`, { signal, agent: false });
    if (response.statusCode !== 200) throw await this.#unexpectedStatus(response, '/events');
    const onSent = (sentAt: number): void => this.#events?.engineEventReceived(sentAt);
    const ended = readEvents(response, { url: this.#url, sharesClock: this.#sharesClock, onEvent, onSent });
    return { ended, isPodman: response.headers['libpod-api-version'] !== undefined };
  }

  close(): void {
    void this.#transport?.then(({ agent }) => agent.destroy());
  }

  async #list(path: string): Promise<ListedContainer[]> {
    const list = await this.#get(path);
    if (!Array.isArray(list)) throw new EngineFailure(`the Docker Engine at ${this.#url} listed no containers`);
    return Promise.all(list.map((one) => this.#withReachableAddresses(parseListed(one))));
  }

  /** Leaves out addresses on networks that do not reach this host. */
  async #withReachableAddresses<T extends EngineContainer>(container: T): Promise<T> {
    const addresses = new Map(container.addresses);
    for (const network of addresses.keys()) {
      const driver = await this.#driverOf(network);
      // A network that was removed meanwhile has no addresses any more.
      if (driver === undefined || !reachesHost(driver)) addresses.delete(network);
    }
    return addresses.size === container.addresses.size ? container : { ...container, addresses };
  }

  #driverOf(network: string): Promise<string | undefined> {
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

  /** @returns the parsed response body, or undefined for 404 */
  async #get(path: string): Promise<unknown> {
    const response = await this.#open(path);
    if (response.statusCode === 404) {
      response.resume();
      return undefined;
    }
    if (response.statusCode !== 200) throw await this.#unexpectedStatus(response, path);
    const body = await this.#text(response, path);
    try {
      return JSON.parse(body);
    } catch {
      throw new EngineFailure(`the Docker Engine at ${this.#url} answered ${path} with malformed JSON`);
    }
  }

  async #open(path: string, options: http.RequestOptions = {}): Promise<http.IncomingMessage> {
    const { request: send, agent } = await (this.#transport ??= makeTransport(this.#isTls));
    return new Promise((resolve, reject) => {
      const request = send({ ...this.#target, agent, ...options, path, headers: { Host: this.#host } });
      request.setTimeout(RESPONSE_TIMEOUT_MS, () => {
        request.destroy(new EngineFailure(`the Docker Engine at ${this.#url} did not answer ${path} in time`));
      });
      request.on('error', (error: NodeJS.ErrnoException) => reject(this.#failure(error)));
      request.on('response', (response) => {
        // The event stream alone has no agent; on it silence is normal.
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
        if (length > MAX_RESPONSE_LENGTH) {
          throw new EngineFailure(`the response of the Docker Engine to ${path} exceeds ${MAX_RESPONSE_LENGTH} bytes`);
        }
        chunks.push(chunk);
      }
    } catch (error) {
      throw this.#failure(error as NodeJS.ErrnoException);
    }
    return Buffer.concat(chunks).toString('utf8');
  }

  async #unexpectedStatus(response: http.IncomingMessage, path: string): Promise<EngineFailure> {
    const body = await this.#text(response, path);
    return new EngineFailure(
      `the Docker Engine at ${this.#url} answered ${path} with ${response.statusCode}: ${body.slice(0, 200).trim()}`,
    );
  }

  #failure(error: NodeJS.ErrnoException): Error {
    if (error instanceof EngineFailure) return error;
    const Kind = NOT_LISTENING.has(error.code ?? '') && this.#provesNoEngine() ? EngineUnreachable : EngineFailure;
    return new Kind(`the Docker Engine at ${this.#url} cannot be used: ${error.message}`, { cause: error });
  }

  /**
   * Whether ECONNREFUSED or ENOENT proves that no engine runs. Not over TCP, where only a proxy may be down. Nor on a
   * stale socket (nlink 0): one that was bind-mounted by itself stays the old one after the engine has made another.
   */
  #provesNoEngine(): boolean {
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

/** TLS is loaded only where it is used: most engines are on a socket, and it takes as long to load as all of lib/. */
async function makeTransport(isTls: boolean): Promise<Transport> {
  const { request, Agent } = isTls ? await import('node:https') : http;
  return { request, agent: new Agent({ keepAlive: true, maxSockets: MAX_SOCKETS, maxFreeSockets: 2 }) };
}
