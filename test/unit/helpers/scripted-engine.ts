import { EngineFailure, type Engine, type EngineContainer, type EngineEvent, type EngineEvents, type ListedContainer } from '../../../lib/docker/engine.ts';
import { anEngineContainer } from './fixtures.ts';
import { deferred } from './promises.ts';

export const BRIDGE = 'bridge-id';
export const GATEWAY = 'docker_gwbridge';
export const OVERLAY = 'overlay-id';

export interface Described {
  readonly name?: string;
  readonly networkMode?: string;
  readonly env?: readonly string[];
}

/** Calls whose answers are held. */
export interface Hold {
  /** How many are held. */
  readonly waiting: number;
  /** Answers the held calls, and no longer holds later ones. */
  release(): void;
}

interface Stream {
  readonly onEvent: (event: EngineEvent) => void;
  readonly end: (error: Error) => void;
}

/**
 * An engine whose answers the test controls. An answer's content is fixed when the call is made, so a held answer is
 * older than the events that arrive meanwhile.
 */
export class ScriptedEngine implements Engine {
  /** Every call in order: `list`, `inspect {id}`, `network {id}`, `events`. */
  readonly calls: string[] = [];
  isPodman = false;
  /** Thrown by every call while set. */
  failure: Error | undefined;
  readonly #containers = new Map<string, Described>();
  readonly #running = new Set<string>();
  readonly #haveRun = new Set<string>();
  /** Addresses by network, then by container. */
  readonly #networks = new Map<string, Map<string, readonly string[]>>();
  readonly #holds = new Map<string, { queue: (() => void)[] }>();
  readonly #failures = new Map<string, Error>();
  #streams: Stream[] = [];

  // The engine's state

  exists(id: string, described: Described = {}): void {
    this.#containers.set(id, described);
  }

  runs(
    id: string,
    addresses: Readonly<Record<string, readonly string[]>> = {},
    described: Described = {},
  ): void {
    this.exists(id, { ...this.#containers.get(id), ...described });
    this.#running.add(id);
    this.#haveRun.add(id);
    for (const [network, found] of Object.entries(addresses)) this.joins(id, network, ...found);
  }

  joins(id: string, network: string, ...addresses: string[]): void {
    const members = this.#networks.get(network) ?? new Map<string, readonly string[]>();
    this.#networks.set(network, members.set(id, addresses));
  }

  leaves(id: string, network: string): void {
    this.#networks.get(network)?.delete(id);
  }

  stops(id: string): void {
    this.#running.delete(id);
    for (const network of this.#networks.keys()) this.leaves(id, network);
  }

  removes(id: string): void {
    this.stops(id);
    this.#containers.delete(id);
    this.#haveRun.delete(id);
  }

  // Events

  get followers(): number {
    return this.#streams.length;
  }

  emit(...events: EngineEvent[]): void {
    for (const event of events) for (const { onEvent } of this.#streams) onEvent(event);
  }

  /** Ends the event stream. */
  breaksStream(error: Error = new EngineFailure('the stream ended')): void {
    for (const { end } of this.#streams.splice(0)) end(error);
  }

  /** Holds the answers to a call. */
  holds(call: string): Hold {
    const hold = { queue: [] as (() => void)[] };
    this.#holds.set(call, hold);
    return {
      get waiting() {
        return hold.queue.length;
      },
      release: () => {
        if (this.#holds.get(call) === hold) this.#holds.delete(call);
        for (const goOn of hold.queue.splice(0)) goOn();
      },
    };
  }

  /** Makes a call fail. */
  fails(call: string, error: Error = new EngineFailure(`${call} fails`)): void {
    this.#failures.set(call, error);
  }

  mends(call: string): void {
    this.#failures.delete(call);
  }

  count(call: string): number {
    return this.calls.filter((made) => made === call).length;
  }

  // What the directory calls

  allContainers(): Promise<ListedContainer[]> {
    const listed = (id: string): ListedContainer => {
      return { ...this.#show(id), env: new Map(), hasRun: this.#haveRun.has(id) };
    };
    return this.#answer('list', () => [...this.#containers.keys()].map(listed));
  }

  inspect(id: string): Promise<EngineContainer | undefined> {
    return this.#answer(`inspect ${id}`, () => (this.#containers.has(id) ? this.#show(id) : undefined));
  }

  networkAddresses(network: string): Promise<ReadonlyMap<string, readonly string[]> | undefined> {
    return this.#answer(`network ${network}`, () => {
      const members = this.#networks.get(network);
      return members && new Map(members);
    });
  }

  async events(
    onEvent: (event: EngineEvent) => void,
    signal: AbortSignal,
  ): Promise<EngineEvents> {
    await this.#answer('events', () => undefined);
    const { promise: ended, resolve: end } = deferred<Error>();
    const stream = { onEvent, end };
    this.#streams.push(stream);
    signal.addEventListener('abort', () => {
      this.#streams = this.#streams.filter((other) => other !== stream);
      end(new Error('aborted'));
    });
    return { ended, isPodman: this.isPodman };
  }

  #show(id: string): EngineContainer {
    const { name = `name-of-${id}`, networkMode = 'default', env = [] } = this.#containers.get(id) ?? {};
    const addresses = new Map<string, readonly string[]>();
    for (const [network, members] of this.#networks) {
      const found = members.get(id);
      // No inspect shows the gateway bridge.
      if (found && network !== GATEWAY) addresses.set(network, found);
    }
    const running = this.#running.has(id);
    const pairs = env.map((entry) => entry.split(/=(.*)/s, 2) as [string, string]);
    return anEngineContainer({ id, name, running, networkMode, addresses, env: new Map(pairs) });
  }

  async #answer<T>(call: string, answer: () => T): Promise<T> {
    this.calls.push(call);
    const failure = this.failure ?? this.#failures.get(call);
    if (failure) throw failure;
    const snapshot = answer();
    const hold = this.#holds.get(call);
    if (hold) await new Promise<void>((resolve) => hold.queue.push(resolve));
    return snapshot;
  }
}

// Events in short

export const created = (container: string): EngineEvent => ({ kind: 'create', container });
export const started = (container: string): EngineEvent => ({ kind: 'start', container });
export const died = (container: string): EngineEvent => ({ kind: 'die', container });
export const destroyed = (container: string): EngineEvent => ({ kind: 'destroy', container });
export const renamed = (container: string, name: string): EngineEvent => ({
  kind: 'rename',
  container,
  name,
});
export const connected = (container: string, network: string, driver = 'bridge'): EngineEvent => {
  return { kind: 'connect', container, network, driver };
};
export const disconnected = (container: string, network: string, driver = 'bridge'): EngineEvent => {
  return { kind: 'disconnect', container, network, driver };
};
