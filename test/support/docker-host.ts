import { createHash } from 'node:crypto';
import { setImmediate as nextTurn, setTimeout } from 'node:timers/promises';
import {
  containerEvent, isRunning, networkEvent,
  type Container, type Endpoint, type EngineEvent, type Image, type Network,
} from './docker-shapes.ts';

/** By name, or a list as in the API: for entries that are not `NAME=value`. */
export type Env = Readonly<Record<string, string>> | readonly string[];

/** Addresses on one network. */
export interface Addresses {
  readonly address?: string;
  readonly ipv6?: string;
}

export interface ContainerOptions {
  readonly name?: string;
  readonly id?: string;
  readonly env?: Env;
  readonly labels?: Readonly<Record<string, string>>;
  /** An image that addImage() made; otherwise an empty one is made. */
  readonly image?: string;
  /** On the default bridge. Without `address`, `networks` and `networkMode` a free one is taken. */
  readonly address?: string;
  readonly ipv6?: string;
  /** By the network's name, instead of the default bridge. A missing network is made. */
  readonly networks?: Readonly<Record<string, Addresses>>;
  /** A Swarm task's address on docker_gwbridge, which neither its inspect nor an event shows. */
  readonly gatewayAddress?: string;
  /** As HostConfig.NetworkMode: "host", "none", "container:name or id". */
  readonly networkMode?: string;
  readonly hostname?: string;
  readonly domainname?: string;
}

export interface NetworkOptions {
  readonly name: string;
  readonly driver?: string;
  readonly scope?: 'local' | 'swarm';
  readonly prefixLength?: number;
}

export type ContainerRef = string | { readonly id: string };

interface Lock {
  readonly freed: Promise<void>;
  readonly free: () => void;
}

/**
 * The containers, networks and images of a host. Each method is a docker command, and sends the events of the real
 * engine, in the real order.
 */
export class DockerHost {
  readonly #emit: (event: EngineEvent) => void;
  readonly #containers = new Map<string, Container>();
  readonly #networks = new Map<string, Network>();
  readonly #images = new Map<string, Image>();
  /** Of starting containers. */
  readonly #locks = new Map<string, Lock>();
  #ids = 0;
  #addresses = 0;
  /**
   * The milliseconds between `network connect` and `start` in run() and restart(): about 250 with a real
   * engine. With 0 it is one turn of the event loop.
   */
  startTakes = 0;

  /** A host with the networks that every engine has, and docker_gwbridge; `emit` gets every event. */
  constructor(emit: (event: EngineEvent) => void) {
    this.#emit = emit;
    this.addNetwork({ name: 'bridge' });
    this.addNetwork({ name: 'host', driver: 'host' });
    this.addNetwork({ name: 'none', driver: 'null' });
    this.addNetwork({ name: 'docker_gwbridge' });
  }

  get containers(): Container[] {
    return [...this.#containers.values()];
  }

  get networks(): Network[] {
    return [...this.#networks.values()];
  }

  /** By id, name or the beginning of the id. */
  findContainer(ref: string): Container | undefined {
    return this.#containers.get(ref) ?? find(this.#containers.values(), ref);
  }

  findNetwork(ref: string): Network | undefined {
    return find(this.#networks.values(), ref);
  }

  findImage(ref: string): Image | undefined {
    return this.#images.get(ref) ?? [...this.#images.values()].find(({ id }) => id === ref);
  }

  /** Resolves when a start that is in progress is done; inspects of the container wait for it. */
  started(container: Container): Promise<void> | undefined {
    return this.#locks.get(container.id)?.freed;
  }

  /** Releases every inspect that waits for a start. */
  unlockAll(): void {
    for (const id of [...this.#locks.keys()]) this.#unlock(id);
  }

  /** An image whose environment and labels its containers inherit. */
  addImage(image: { name: string; env?: Env; labels?: Record<string, string> }): Image {
    const { name, env = {}, labels = {} } = image;
    const added: Image = { id: `sha256:${this.#newId('image')}`, name, env: envList(env), labels };
    this.#images.set(name, added);
    return added;
  }

  /** Adds a network, with its `network create` event, unless there is one of that name. */
  addNetwork(options: NetworkOptions): Network {
    const existing = this.#networks.get(options.name);
    if (existing !== undefined) return existing;
    const { name, driver = 'bridge', prefixLength = 16 } = options;
    const { scope = driver === 'overlay' ? 'swarm' : 'local' } = options;
    const id = this.#newId('network');
    const network: Network = { id, name, driver, scope, prefixLength, hidden: name === 'docker_gwbridge' };
    this.#networks.set(name, network);
    this.#emit(networkEvent(network, 'create', Date.now()));
    return network;
  }

  /**
   * `docker run`: container create, network connect for each network, container start, in three turns of the
   * event loop.
   */
  async run(options: ContainerOptions = {}): Promise<Container> {
    const container = this.create(options);
    await nextTurn();
    await this.#startSlowly(container);
    return container;
  }

  /** `docker create`. The container has no address yet. */
  create(options: ContainerOptions = {}): Container {
    const id = options.id ?? this.#newId('container');
    const imageName = options.image ?? 'busybox';
    const image = this.findImage(imageName) ?? this.addImage({ name: imageName });
    const networkMode = this.#networkMode(options);
    const container: Container = {
      id,
      name: options.name ?? `container-${id.slice(0, 6)}`,
      image,
      env: mergeEnv(image.env, options.env ?? {}),
      labels: { ...image.labels, ...options.labels },
      hostname: options.hostname ?? id.slice(0, 12),
      domainname: options.domainname ?? '',
      networkMode,
      created: new Date(),
      state: 'created',
      exitCode: 0,
      planned: this.#plannedEndpoints(options, networkMode),
      connected: new Map(),
      shown: new Map(),
    };
    if (this.containers.some((other) => other.name === container.name)) {
      throw new Error(`the container name ${container.name} is in use`);
    }
    container.shown = withoutAddresses(container.planned);
    this.#containers.set(id, container);
    this.#containerEvent(container, 'create');
    return container;
  }

  /**
   * Joins a network. With a running container this is `docker network connect`; with another one it is the
   * step of its start after which its inspect is held, until start(). The addresses default to create()'s.
   */
  connect(ref: ContainerRef, networkName: string, addresses?: Addresses): void {
    const container = this.#container(ref);
    const network = this.addNetwork({ name: networkName });
    const planned = container.planned.get(networkName);
    const endpoint = addresses === undefined && planned !== undefined
      ? planned
      : this.#endpoint(networkName, addresses);
    const owner = this.#ownerOf(network, endpoint.address);
    if (owner !== undefined) throw new Error(`${endpoint.address} belongs to ${owner.name}`);
    container.planned.set(networkName, endpoint);
    container.connected.set(networkName, endpoint);
    if (isRunning(container)) container.shown = new Map(container.connected);
    else this.#lock(container.id);
    if (!network.hidden) this.#emit(networkEvent(network, 'connect', Date.now(), container.id));
  }

  /** `docker start`, or its last step: joins the networks that connect() has not joined, then starts. */
  start(ref: ContainerRef): void {
    const container = this.#container(ref);
    this.#connectAll(container);
    container.state = 'running';
    container.shown = new Map(container.connected);
    this.#unlock(container.id);
    this.#containerEvent(container, 'start');
  }

  /** The container's process ends. Its addresses stay taken until disconnect(). */
  die(ref: ContainerRef, exitCode = 0): void {
    const container = this.#container(ref);
    container.state = 'exited';
    container.exitCode = exitCode;
    this.#unlock(container.id);
    this.#containerEvent(container, 'die', { exitCode: String(exitCode) });
  }

  /** Leaves a network: `docker network disconnect`, or what follows die(). */
  disconnect(ref: ContainerRef, networkName: string): void {
    const container = this.#container(ref);
    const endpoint = container.connected.get(networkName);
    if (endpoint === undefined) throw new Error(`${container.name} is not on ${networkName}`);
    container.connected.delete(networkName);
    if (isRunning(container)) {
      // The next start does not join it again.
      container.planned.delete(networkName);
      container.shown = new Map(container.connected);
    } else {
      container.shown = withoutAddresses(container.planned);
    }
    if (!endpoint.network.hidden) {
      this.#emit(networkEvent(endpoint.network, 'disconnect', Date.now(), container.id));
    }
  }

  /** `docker stop`: kill, die, network disconnect, stop. */
  stop(ref: ContainerRef): void {
    const container = this.#container(ref);
    this.#containerEvent(container, 'kill', { signal: '15' });
    this.#end(container, 0);
    this.#containerEvent(container, 'stop');
  }

  /** `docker rm -f`, or the end of `docker run --rm`: die, network disconnect, destroy. */
  remove(ref: ContainerRef, exitCode = 0): void {
    const container = this.#container(ref);
    if (isRunning(container)) this.#end(container, exitCode);
    this.destroy(container);
  }

  /** `docker rm` of a stopped container. */
  destroy(ref: ContainerRef): void {
    const container = this.#container(ref);
    for (const name of [...container.connected.keys()]) this.disconnect(container, name);
    this.#containers.delete(container.id);
    this.#unlock(container.id);
    this.#containerEvent(container, 'destroy');
  }

  /** `docker restart`; `moves` gives new addresses on networks that it is on. */
  async restart(ref: ContainerRef, moves: Readonly<Record<string, Addresses>> = {}): Promise<void> {
    const container = this.#container(ref);
    this.stop(container);
    for (const [name, addresses] of Object.entries(moves)) {
      container.planned.set(name, this.#endpoint(name, addresses));
    }
    await this.#startSlowly(container);
    this.#containerEvent(container, 'restart');
  }

  /** `docker rename`. */
  rename(ref: ContainerRef, name: string): void {
    const container = this.#container(ref);
    const oldName = `/${container.name}`;
    container.name = name;
    this.#containerEvent(container, 'rename', { oldName });
  }

  /** `docker pause`: the container keeps its addresses. */
  pause(ref: ContainerRef): void {
    const container = this.#container(ref);
    container.state = 'paused';
    this.#containerEvent(container, 'pause');
  }

  unpause(ref: ContainerRef): void {
    const container = this.#container(ref);
    container.state = 'running';
    this.#containerEvent(container, 'unpause');
  }

  // Internals

  #containerEvent(container: Container, action: string, more: Record<string, string> = {}): void {
    this.#emit(containerEvent(container, action, Date.now(), more));
  }

  #newId(kind: string): string {
    this.#ids += 1;
    return createHash('sha256').update(`${kind} ${this.#ids}`).digest('hex');
  }

  #networkMode(options: ContainerOptions): string {
    const { networkMode, networks } = options;
    if (networkMode?.startsWith('container:') === true) {
      // The engine replaces a name by the id.
      const name = networkMode.slice('container:'.length);
      return `container:${this.findContainer(name)?.id ?? name}`;
    }
    return networkMode ?? Object.keys(networks ?? {})[0] ?? 'default';
  }

  #plannedEndpoints(options: ContainerOptions, networkMode: string): Map<string, Endpoint> {
    const { address, ipv6, gatewayAddress } = options;
    const wanted = new Map<string, Addresses>();
    // First: the engine joins it before it sends the connect of the overlay network.
    if (gatewayAddress !== undefined) wanted.set('docker_gwbridge', { address: gatewayAddress });
    if (address !== undefined || ipv6 !== undefined || networkMode === 'default') {
      wanted.set('bridge', {
        ...(address !== undefined && { address }),
        ...(ipv6 !== undefined && { ipv6 }),
      });
    }
    if (networkMode === 'host' || networkMode === 'none') wanted.set(networkMode, {});
    for (const [name, addresses] of Object.entries(options.networks ?? {})) wanted.set(name, addresses);
    return new Map([...wanted].map(([name, addresses]) => [name, this.#endpoint(name, addresses)]));
  }

  /** Without a given address a free one is taken, except on networks that have none. */
  #endpoint(name: string, { address, ipv6 }: Addresses = {}): Endpoint {
    const network = this.addNetwork({ name });
    const found = address ?? (ipv6 === undefined && hasAddresses(network) ? this.#freeAddress() : '');
    return { network, address: found, ipv6: ipv6 ?? '' };
  }

  async #startSlowly(container: Container): Promise<void> {
    this.#connectAll(container);
    await (this.startTakes === 0 ? nextTurn() : setTimeout(this.startTakes));
    this.start(container);
  }

  #connectAll(container: Container): void {
    for (const name of [...container.planned.keys()]) {
      if (!container.connected.has(name)) this.connect(container, name);
    }
  }

  #end(container: Container, exitCode: number): void {
    this.die(container, exitCode);
    for (const name of [...container.connected.keys()]) this.disconnect(container, name);
  }

  #lock(id: string): void {
    if (this.#locks.has(id)) return;
    let free = (): void => {};
    const freed = new Promise<void>((resolve) => {
      free = resolve;
    });
    this.#locks.set(id, { freed, free });
  }

  #unlock(id: string): void {
    this.#locks.get(id)?.free();
    this.#locks.delete(id);
  }

  /** The next address from 127.0.0.11 on that no container has or will get. */
  #freeAddress(): string {
    const planned = this.containers.flatMap((container) => [...container.planned.values()]);
    const taken = new Set(planned.map(({ address }) => address));
    for (;;) {
      const number = 11 + (this.#addresses++ % 65_000);
      const address = `127.0.${number >> 8}.${number & 255}`;
      if (!taken.has(address)) return address;
    }
  }

  #ownerOf(network: Network, address: string): Container | undefined {
    if (address === '') return undefined;
    return this.containers.find(({ connected }) => connected.get(network.name)?.address === address);
  }

  #container(ref: ContainerRef): Container {
    const name = typeof ref === 'string' ? ref : ref.id;
    const container = this.findContainer(name);
    if (container === undefined) throw new Error(`no container ${name}`);
    return container;
  }
}

/** By id, name (with or without the leading slash) or the beginning of the id. */
function find<T extends { readonly id: string; readonly name: string }>(
  all: Iterable<T>, ref: string,
): T | undefined {
  const things = [...all];
  const name = ref.replace(/^\//, '');
  return things.find((thing) => thing.id === ref)
    ?? things.find((thing) => thing.name === name)
    ?? things.find((thing) => ref !== '' && thing.id.startsWith(ref));
}

function hasAddresses(network: Network): boolean {
  return network.driver !== 'host' && network.driver !== 'null';
}

function withoutAddresses(endpoints: ReadonlyMap<string, Endpoint>): Map<string, Endpoint> {
  return new Map([...endpoints].map(([name, { network }]) => [name, { network, address: '', ipv6: '' }]));
}

function envList(env: Env): string[] {
  return isList(env) ? [...env] : Object.entries(env).map(([name, value]) => `${name}=${value}`);
}

function isList(env: Env): env is readonly string[] {
  return Array.isArray(env);
}

/** The image's environment, overridden by the container's, as the engine merges them at create. */
function mergeEnv(image: readonly string[], container: Env): string[] {
  const own = envList(container);
  const names = new Set(own.map(nameOf));
  return [...own, ...image.filter((entry) => !names.has(nameOf(entry)))];
}

function nameOf(entry: string): string {
  return entry.split('=', 1)[0] ?? '';
}
