/**
 * Which container has which address, kept true by the engine's events:
 *
 *   create                what the container asks for is known some 250 ms before it runs
 *   network connect       so is its address, some 200 ms before it runs
 *   start                 whatever is not known yet is read now
 *   network disconnect,   the address is taken away at once; the engine gives it to the next container only after
 *   die, destroy          having said so
 *
 * An answer of the engine may be older than an event that arrived before it, so every look-up notes what was taken
 * away while it was under way (`Removals`), and does not bring that back.
 */

import { backoff } from '../util/backoff.ts';
import { sleep, withTimeout, type Clock } from '../util/clock.ts';
import { intern, DirectoryUnavailable, type Container } from './container.ts';
import {
  EngineUnreachable,
  reachesHost,
  type DockerEngine,
  type EngineContainer,
  type EngineEvent,
  type ListedContainer,
} from './client.ts';

export type DirectoryState =
  /** Docker has not answered since the start. */
  | 'starting'
  /** The events are followed, and everything from before them is read. */
  | 'synced'
  /** The stream of events is broken; the engine is asked before anything is believed. */
  | 'disconnected';

export interface DirectoryOptions {
  engine: Pick<DockerEngine, 'allContainers' | 'inspect' | 'networkAddresses' | 'events'>;
  /** Keeps of an inspected container what the program needs. */
  describe: (container: EngineContainer) => Promise<Container>;
  clock: Clock;
  random: () => number;
  /** Milliseconds between listings of all containers in addition to the events; 0 or undefined for none. */
  resyncEvery?: number;
  /** A container was created, or found. */
  onKnown?: (container: Container) => void;
  /** A container is about to run, or found running. */
  onStarted?: (container: Container) => void;
  /** A container that was started has ended. */
  onEnded?: (container: Container) => void;
  onState?: (state: DirectoryState, detail: { count: number; error?: Error }) => void;
}

/** Swarm's overlay containers reach the host through this bridge, which no container's inspect shows. */
const GATEWAY_BRIDGE = 'docker_gwbridge';
/**
 * A Swarm task gets its address there a few milliseconds after the overlay's, or just before that (measured), and no
 * event tells of it; so it is looked for again, until about when the task's process runs.
 */
const GATEWAY_RETRY_MS = 25;
const GATEWAY_TRIES = 12;
/** Stands for a network where a label says an address. */
const LABELLED = '(label)';
/** On these a container has no address of its own. */
const WITHOUT_ADDRESS = new Set(['host', 'null']);
/** A try on a socket costs next to nothing, and a daemon that comes back is to be noticed before its containers ask. */
const RECONNECT_INITIAL_MS = 100;
const RECONNECT_MAX_MS = 1_000;
/** A failed attempt to reach the engine speaks for this long: a container takes longer than that to start. */
const FAILURE_TTL_MS = 100;
/** How often unknown addresses make the engine list its containers, at the most. */
const RESCAN_INTERVAL_MS = 500;
/** Without a daemon, each answer to a container that others may share the network of needs one. */
const PODMAN_RESCAN_INTERVAL_MS = 100;
/** Podman takes a millisecond for each container; so long a rescan is followed by a rest of its own length. */
const MAX_RESCAN_REST_MS = 1_000;
/**
 * So long an unknown address is waited for: `docker network connect` gives one to a container that runs some
 * milliseconds before the engine tells of it, or lists it. An SDK has a second's patience.
 */
const EVENT_TIMEOUT_MS = 400;
/** But not again so soon: who is no container of Docker's, and is known to somebody else, asks three times in a row. */
const NEGATIVE_TTL_MS = 5_000;
/** How much that was waited for in vain is remembered, at the most. */
const MAX_NEGATIVE_ENTRIES = 1_000;
/** Inspects under way at once while reading all containers; the engine's client has as many sockets. */
const MAX_CONCURRENT_INSPECTS = 8;
/** One that is starting takes 330 ms; a container that is stuck must not keep the others from being known. */
const INSPECT_TIMEOUT_MS = 2_000;
/** Ended containers that are remembered, so that a restart finds its role known. */
const MAX_ENDED = 1_000;
/** SDKs give a request up after a second or two; whoever waits longer for an engine that hangs is told so. */
const RESOLVE_TIMEOUT_MS = 5_000;

const STREAM_BROKE_IMMEDIATELY = 'the stream of Docker events broke at once';
const STREAM_BROKE = 'the stream of Docker events broke';

/** What went away while a look-up was under way. */
class Tombstones {
  /** Containers (`id`) and endpoints (`id network`). */
  readonly removed = new Set<string>();
  /** Everything was read anew meanwhile; the look-up is of the past. */
  stale = false;

  hasContainer(id: string): boolean {
    return this.stale || this.removed.has(id);
  }

  hasEndpoint(container: string, network: string): boolean {
    return this.hasContainer(container) || this.removed.has(endpointKey(container, network));
  }
}

interface Entry {
  readonly id: string;
  container: Container | undefined;
  /** Set while the container is being inspected. */
  inspection: Promise<void> | undefined;
  started: boolean;
  /** Whether it has, or had, an overlay network, and so perhaps an address on the gateway bridge. */
  overlay: boolean;
  /** Whether its process runs, as far as the engine has said. */
  running: boolean;
  /** By network. */
  readonly addresses: Map<string, readonly string[]>;
}

export class ContainerDirectory {
  readonly #options: DirectoryOptions;
  readonly #entries = new Map<string, Entry>();
  /** More than one has an address only where drivers of networks allow that; then it is nobody's. */
  readonly #byAddress = new Map<string, readonly Entry[]>();
  /** Containers that share another one's network, by that one's id, whether they run or not. */
  readonly #peers = new Map<string, Set<Entry>>();
  /** Inspects under way that tell who a container is, and when they began. */
  readonly #inspects = new Map<Promise<unknown>, number>();
  /** Who waits for somebody to have an address, or to share the network of a container (by its id). */
  readonly #waiters = new Map<string, Set<() => void>>();
  /** Until when it is not waited for again, because it was in vain; forgotten when there is news. */
  readonly #negativeCache = new Map<string, number>();
  /** By address: what the engine is being asked, and the asking after that, which has not begun. */
  readonly #confirmations = new Map<string, { done: Promise<void>; next: Promise<void> | undefined }>();
  readonly #inFlight = new Set<Tombstones>();
  /** Networks that are being looked up, each with the containers whose address there is wanted. */
  readonly #pendingNetworks = new Map<string, { containers: Set<string>; done: Promise<void> }>();
  /** Ids, the one that ended last at the end. */
  readonly #ended = new Set<string>();
  /** Whether the engine has not answered anything since the stream of events broke. */
  #unreachableSinceEvents = true;
  #stream = new AbortController();
  #streamEnd: Promise<void> = Promise.resolve();
  /** The engine's events come late, and it needs no daemon to start containers: see EngineEvents. */
  #isPodman = false;
  #closed = false;
  #state: DirectoryState = 'starting';
  #connecting: Promise<Error | undefined> | undefined;
  #lastFailure: { at: number; error: Error } | undefined;
  /** The next reading of everything, as long as it has not begun. */
  #nextRescan: Promise<void> | undefined;
  #rescan: Promise<void> = Promise.resolve();
  /** When the next one may begin. */
  #rescanAt = -Infinity;

  constructor(options: DirectoryOptions) {
    this.#options = options;
  }

  get state(): DirectoryState {
    return this.#state;
  }

  /** Containers that run, or are about to, with their addresses. */
  *started(): Generator<{ container: Container; addresses: string[] }> {
    for (const { container, started, addresses } of this.#entries.values()) {
      if (container && started) yield { container, addresses: [...addresses.values()].flat() };
    }
  }

  /** Follows the engine until `close`; returns at once, whether the engine is there or not. */
  start(): void {
    void this.#follow();
    const { resyncEvery = 0 } = this.#options;
    if (resyncEvery > 0) void this.#resync(resyncEvery);
  }

  close(): void {
    this.#closed = true;
    this.#stream.abort();
  }

  /**
   * The container that has an address. In the usual case the answer is there at once; a promise is given only while
   * something about the address is being found out.
   *
   * @param address in its normal form
   * @returns undefined when no container has the address
   * @throws DirectoryUnavailable when it cannot be told now
   */
  resolve(address: string): Container | undefined | Promise<Container | undefined> {
    if (this.#state !== 'synced') return this.#withTimeout(this.#resolveWithoutEvents(address));
    const known = this.#isPodman ? undefined : this.peek(address);
    return known ?? this.#withTimeout(this.#resolve(address));
  }

  /** What is known without asking anybody; for what need not be right at any price. */
  peek(address: string): Container | undefined {
    const owners = this.#byAddress.get(address);
    return owners?.length === 1 ? owners[0]?.container : undefined;
  }

  /**
   * A container by its whole id, which no other one ever gets; so nothing of it goes out of date.
   *
   * @returns undefined when the engine has no such container
   * @throws DirectoryUnavailable when the engine cannot be asked
   */
  async byId(id: string): Promise<Container | undefined> {
    try {
      await this.#withTimeout(this.#inspect(id));
    } catch (error) {
      const entry = this.#entries.get(id);
      // Nothing else has told of it, and nothing will tell of its end.
      if (entry && !entry.container && !entry.running && entry.addresses.size === 0) this.#forget(id);
      if (error instanceof DirectoryUnavailable) throw error;
      throw new DirectoryUnavailable((error as Error).message, { cause: error });
    }
    return this.#entries.get(id)?.container;
  }

  /**
   * Who shares a container's network can be told from it by nothing; so before that one's role, or a role that is only
   * the default, is given, it is to be known who does. A container's process runs some milliseconds before the engine
   * says so.
   *
   * @returns what to wait for; undefined when everything is known
   * @throws DirectoryUnavailable when it cannot be told now
   */
  peersKnown({ id }: Container): Promise<void> | undefined {
    if (this.#state !== 'synced' || !this.#entries.has(id)) return undefined;
    const isOpen = this.#isPodman || this.#newInspects(id).length > 0 || this.#awaitsPeer(id);
    return isOpen ? this.#withTimeout(this.#waitForPeers(id)) : undefined;
  }

  async #waitForPeers(id: string): Promise<void> {
    const { clock } = this.#options;
    if (this.#isPodman) await this.#listAgain();
    const until = clock.monotonic() + EVENT_TIMEOUT_MS;
    const left = (): number => until - clock.monotonic();
    // Of each of these it may turn out that it is one.
    const inspects = this.#newInspects(id).map((inspect) => inspect.catch(() => {}));
    if (inspects.length > 0) await Promise.race([Promise.all(inspects), sleep(clock, left())]);
    while (this.#awaitsPeer(id) && left() > 0) {
      await (this.#isPodman ? this.#listAgain() : this.#waitFor(id, left()));
    }
    if (left() <= 0) this.#cacheMiss(id);
    if (this.#state !== 'synced') throw new DirectoryUnavailable(STREAM_BROKE);
  }

  /** For an engine whose events come late. */
  async #listAgain(): Promise<void> {
    await this.#requestRescan().catch((error: Error) => {
      throw new DirectoryUnavailable(error.message, { cause: error });
    });
  }

  /** Whether there is a container that would share its network if it were started, and has not just been waited for. */
  #awaitsPeer(id: string): boolean {
    if (this.#isCachedMiss(id)) return false;
    for (const { started } of this.#peers.get(id) ?? []) if (!started) return true;
    return false;
  }

  /** Those that have not been waited for in vain already. */
  #newInspects(id: string): Promise<unknown>[] {
    if (this.#inspects.size === 0) return [];
    const since = (this.#negativeCache.get(id) ?? -Infinity) - NEGATIVE_TTL_MS;
    return [...this.#inspects].filter(([, began]) => began > since).map(([inspect]) => inspect);
  }

  async #resolve(address: string): Promise<Container | undefined> {
    const { clock } = this.#options;
    const asked = clock.monotonic();
    try {
      await this.#lookupsDone();
      if (this.#isPodman) await this.#confirmed(address);
      if (!this.#byAddress.has(address)) await this.#requestRescan();
      if (!this.#byAddress.has(address) && !this.#isCachedMiss(address, asked)) {
        await this.#waitFor(address, asked + EVENT_TIMEOUT_MS - clock.monotonic());
      }
      // The event that tells of it may have come meanwhile.
      if (!this.#byAddress.has(address)) await this.#lookupsDone();
      for (const entry of this.#byAddress.get(address) ?? []) if (!entry.container) await this.#inspect(entry.id);
      if (!this.#byAddress.has(address)) this.#cacheMiss(address);
    } catch (error) {
      throw new DirectoryUnavailable((error as Error).message, { cause: error });
    }
    // The stream of events may have broken, and the address gone elsewhere, in the meantime.
    if (this.#state !== 'synced') return this.#resolveWithoutEvents(address);
    return this.#soleOwner(address);
  }

  #isCachedMiss(key: string, now = this.#options.clock.monotonic()): boolean {
    return now <= (this.#negativeCache.get(key) ?? -Infinity);
  }

  #cacheMiss(key: string): void {
    if (this.#negativeCache.size >= MAX_NEGATIVE_ENTRIES) this.#negativeCache.clear();
    const now = this.#options.clock.monotonic();
    if (!this.#isCachedMiss(key, now)) this.#negativeCache.set(key, now + NEGATIVE_TTL_MS);
  }

  /** Resolves when there is news of what is awaited, or after so long. */
  #waitFor(key: string, milliseconds: number): Promise<void> {
    if (milliseconds <= 0) return Promise.resolve();
    return new Promise((resolve) => {
      const waiting = this.#waiters.get(key) ?? new Set();
      const done = (): void => {
        cancel();
        waiting.delete(done);
        if (waiting.size === 0) this.#waiters.delete(key);
        resolve();
      };
      const cancel = this.#options.clock.after(milliseconds, done);
      this.#waiters.set(key, waiting.add(done));
    });
  }

  #notify(key: string): void {
    this.#negativeCache.delete(key);
    for (const done of this.#waiters.get(key) ?? []) done();
  }

  #soleOwner(address: string): Container | undefined {
    const owners = this.#byAddress.get(address) ?? [];
    if (owners.length > 1) {
      const names = owners.map(({ id, container }) => container?.name ?? id.slice(0, 12));
      throw new DirectoryUnavailable(`${names.join(' and ')} have the same address, on different networks`);
    }
    return owners[0]?.container;
  }

  /** Has asked the engine about an address after the call; all who come meanwhile share the next asking. */
  #confirmed(address: string): Promise<void> {
    const asking = this.#confirmations.get(address);
    if (asking) return (asking.next ??= asking.done.catch(() => {}).then(() => this.#confirmNow(address)));
    return this.#confirmNow(address);
  }

  #confirmNow(address: string): Promise<void> {
    const done = this.#confirm(address).finally(() => {
      if (this.#confirmations.get(address)?.done === done) this.#confirmations.delete(address);
    });
    this.#confirmations.set(address, { done, next: undefined });
    return done;
  }

  /** Asks the engine whether an address is still where it was, and takes it away if not. */
  async #confirm(address: string): Promise<void> {
    for (const entry of this.#byAddress.get(address) ?? []) {
      if (entry.addresses.get(LABELLED)?.includes(address)) continue;
      const found = await this.#options.engine.inspect(entry.id);
      if (!found?.running) this.#remove(entry.id, !found);
      else if (![...found.addresses.values()].flat().includes(address)) this.#replaceAddresses(entry, found.addresses);
    }
  }

  async #resolveWithoutEvents(address: string): Promise<Container | undefined> {
    const error = await this.#connect();
    if (!error && this.#state === 'synced') return this.resolve(address);
    const known = this.#soleOwner(address);
    // Nobody can have started a container with an engine that has not been there, and so have got the address.
    const nobodyStarted = error instanceof EngineUnreachable && this.#unreachableSinceEvents && !this.#isPodman;
    if (known && nobodyStarted) return known;
    throw new DirectoryUnavailable(error?.message ?? STREAM_BROKE_IMMEDIATELY, { cause: error });
  }

  async #resync(every: number): Promise<void> {
    while (!this.#closed) {
      await sleep(this.#options.clock, every);
      if (this.#state === 'synced') await this.#requestRescan().catch(() => {});
    }
  }

  #withTimeout<T>(answer: Promise<T>): Promise<T> {
    return withTimeout(this.#options.clock, RESOLVE_TIMEOUT_MS, answer, () => {
      return new DirectoryUnavailable('the Docker Engine takes too long to say which container is asking');
    });
  }

  async #follow(): Promise<void> {
    const { clock, random } = this.#options;
    let failures = 0;
    while (!this.#closed) {
      const began = clock.monotonic();
      const error = await this.#connect();
      if (!error) await this.#streamEnd;
      failures = !error && clock.monotonic() - began > RECONNECT_MAX_MS ? 1 : failures + 1;
      // A stream that broke is opened again at once; not so with an engine that breaks every one at once.
      if (!error && failures === 1) continue;
      if (!this.#closed) await sleep(clock, backoff(failures, RECONNECT_INITIAL_MS, RECONNECT_MAX_MS, random));
    }
  }

  /**
   * One attempt to reach the engine and to read everything; whoever asks while it is under way shares it.
   *
   * @returns what went wrong, or undefined when the directory is synced
   */
  #connect(): Promise<Error | undefined> {
    if (this.#state === 'synced') return Promise.resolve(undefined);
    const { clock } = this.#options;
    if (this.#lastFailure && clock.monotonic() - this.#lastFailure.at < FAILURE_TTL_MS) {
      return Promise.resolve(this.#lastFailure.error);
    }
    this.#connecting ??= this.#openAndSync()
      .then(
        () => undefined,
        (error: Error) => {
          if (!(error instanceof EngineUnreachable)) this.#unreachableSinceEvents = false;
          if (error.message !== this.#lastFailure?.error.message) this.#report(error);
          this.#lastFailure = { at: clock.monotonic(), error };
          return error;
        },
      )
      .finally(() => (this.#connecting = undefined));
    return this.#connecting;
  }

  async #openAndSync(): Promise<void> {
    const { engine } = this.#options;
    const stream = new AbortController();
    this.#stream = stream;
    // What happens during the first reading is heard, and applied after it.
    const missed: EngineEvent[] = [];
    let reading = true;
    const { ended, isPodman } = await engine.events((event) => {
      if (reading) missed.push(event);
      else this.#apply(event);
    }, stream.signal);
    this.#unreachableSinceEvents = false;
    this.#isPodman = isPodman;
    let over: Error | undefined;
    const streamEnd = ended.then((error) => {
      over = error;
      if (!reading && !this.#closed) this.#setState('disconnected', error);
    });

    try {
      await this.#readAll('replace');
      if (over) throw over;
    } catch (error) {
      stream.abort();
      throw error;
    }
    reading = false;
    for (const event of missed) this.#apply(event);
    this.#streamEnd = streamEnd;
    this.#lastFailure = undefined;
    this.#unreachableSinceEvents = true;
    this.#setState('synced');
  }

  #setState(state: DirectoryState, error?: Error): void {
    this.#state = state;
    this.#report(error);
  }

  #report(error?: Error): void {
    const count = [...this.started()].length;
    this.#options.onState?.(this.#state, error ? { count, error } : { count });
  }

  /** A reading of all containers that begins after the call; all who ask meanwhile share it. */
  #requestRescan(): Promise<void> {
    const { clock } = this.#options;
    const every = this.#isPodman ? PODMAN_RESCAN_INTERVAL_MS : RESCAN_INTERVAL_MS;
    this.#nextRescan ??= this.#rescan
      .catch(() => {})
      .then(() => sleep(clock, this.#rescanAt - clock.monotonic()))
      .then(() => {
        this.#nextRescan = undefined;
        const began = clock.monotonic();
        this.#rescanAt = began + every;
        return (this.#rescan = this.#readAll('add').finally(() => {
          const ended = clock.monotonic();
          this.#rescanAt = Math.max(this.#rescanAt, ended + Math.min(ended - began, MAX_RESCAN_REST_MS));
        }));
      });
    return this.#nextRescan;
  }

  /** Waits until every address that an event has announced is known. */
  async #lookupsDone(): Promise<void> {
    await Promise.all([...this.#pendingNetworks.values()].map(({ done }) => done));
  }

  /**
   * @param mode `replace` forgets everything that the engine does not show; `add` leaves taking away to the events, but
   *   for an engine whose events come late
   */
  async #readAll(mode: 'replace' | 'add'): Promise<void> {
    const { engine } = this.#options;
    await this.#withTombstones(async (tombstones) => {
      const before = this.#isPodman ? [...this.#entries.values()].filter(({ started }) => started) : [];
      const [listed, gateway] = await Promise.all([engine.allContainers(), engine.networkAddresses(GATEWAY_BRIDGE)]);
      const running = listed.filter((one) => one.running);
      const isUnknown = ({ id }: ListedContainer): boolean => !this.#entries.get(id)?.container;
      const unknown = running.filter(isUnknown).values();
      await Promise.all(
        Array.from({ length: MAX_CONCURRENT_INSPECTS }, async () => {
          // One that cannot be inspected is asked for again when it is needed; the others do not wait for that.
          for (const { id } of unknown) {
            const late = (): Error => new Error('the inspect takes too long');
            await withTimeout(this.#options.clock, INSPECT_TIMEOUT_MS, this.#inspect(id), late).catch(() => {});
          }
        }),
      );

      const ids = new Set(running.map(({ id }) => id));
      if (mode === 'replace') {
        for (const other of this.#inFlight) other.stale = other !== tombstones;
        this.#forgetAllBut(ids, new Set(listed.map(({ id }) => id)));
      } else if (this.#isPodman) {
        for (const { id } of before) if (!ids.has(id) && !tombstones.hasContainer(id)) this.#remove(id, false);
      }
      // Nobody waits for these here: see #knowSharers.
      for (const one of listed) if (this.#mayBecomePeer(one) && isUnknown(one)) void this.#inspect(one.id).catch(() => {});
      for (const { id, name, addresses } of running) {
        const entry = this.#entries.get(id);
        if (!entry || tombstones.hasContainer(id)) continue;
        entry.running = true;
        this.#rename(id, name);
        for (const [network, found] of addresses) {
          if (!tombstones.hasEndpoint(id, network)) this.#setAddresses(entry, network, found);
        }
        this.#setStarted(entry);
        this.#setLabelledAddress(entry);
      }
      // A task that is being started is there before the engine lists it as running.
      for (const [id, found] of gateway ?? []) {
        const entry = this.#entries.get(id);
        if (!entry || found.length === 0 || tombstones.hasEndpoint(id, GATEWAY_BRIDGE)) continue;
        this.#setAddresses(entry, GATEWAY_BRIDGE, found);
        this.#setStarted(entry);
      }
    });
  }

  /** Whether one that does not run may be there to share another one's network. Podman's list does not say. */
  #mayBecomePeer({ running, hasRun, networkMode }: ListedContainer): boolean {
    return !running && (this.#isPodman ? !hasRun : networkMode.startsWith('container:'));
  }

  #forgetAllBut(running: ReadonlySet<string>, existing: ReadonlySet<string>): void {
    for (const entry of this.#entries.values()) {
      for (const network of [...entry.addresses.keys()]) this.#setAddresses(entry, network, []);
      if (!running.has(entry.id) && (entry.started || entry.running)) this.#setEnded(entry);
      if (!existing.has(entry.id)) this.#forget(entry.id);
    }
  }

  #apply(event: EngineEvent): void {
    const { container: id } = event;
    switch (event.kind) {
      case 'create':
        void this.#inspect(id).catch(() => {});
        break;
      case 'connect':
        if (WITHOUT_ADDRESS.has(event.driver)) break;
        if (reachesHost(event.driver)) void this.#requestNetwork(event.network, id);
        if (event.driver === 'overlay') this.#lookForGateway(id, GATEWAY_TRIES);
        break;
      case 'start':
        void this.#readStarted(id);
        break;
      case 'networksChanged':
        void this.#readAddresses(id);
        break;
      case 'rename':
        this.#rename(id, event.name);
        break;
      case 'disconnect':
        this.#removeEndpoint(id, event.network);
        if (event.driver === 'overlay') {
          this.#removeEndpoint(id, GATEWAY_BRIDGE);
          if (this.#entries.get(id)?.running) this.#lookForGateway(id, 1);
        }
        break;
      case 'die':
      case 'destroy':
        this.#remove(id, event.kind === 'destroy');
        break;
    }
  }

  /** By now the engine tells everything about a container; whatever no earlier event has told is read. */
  async #readStarted(id: string): Promise<void> {
    const entry = this.#entry(id);
    entry.running = true;
    if (entry.container) this.#setStarted(entry);
    if (entry.overlay) this.#lookForGateway(id, 1);
    const reading = this.#withTombstones(async (tombstones) => {
      await this.#lookupsDone();
      if (!entry.container || entry.addresses.size === 0) {
        const found = await this.#options.engine.inspect(id);
        if (!found?.running || tombstones.hasContainer(id)) return;
        await this.#describe(entry, found);
        for (const [network, addresses] of found.addresses) {
          if (!tombstones.hasEndpoint(id, network)) this.#setAddresses(entry, network, addresses);
        }
      }
      if (!tombstones.hasContainer(id)) this.#setStarted(entry);
    });
    if (!entry.container) this.#trackInspect(reading);
    await reading.catch(() => {
      // The stream ends with the engine; then everything is read anew. Otherwise the first request reads it.
    });
  }

  /** Podman says that a network has changed, not how. */
  async #readAddresses(id: string): Promise<void> {
    const entry = this.#entries.get(id);
    if (!entry?.started) return;
    await this.#withTombstones(async (tombstones) => {
      const found = await this.#options.engine.inspect(id);
      if (found?.running && !tombstones.hasContainer(id)) this.#replaceAddresses(entry, found.addresses);
    }).catch(() => {});
  }

  #replaceAddresses(entry: Entry, addresses: EngineContainer['addresses']): void {
    for (const network of [...entry.addresses.keys()]) {
      if (network !== LABELLED) this.#setAddresses(entry, network, []);
    }
    for (const [network, found] of addresses) this.#setAddresses(entry, network, found);
  }

  #lookForGateway(id: string, tries: number): void {
    const entry = this.#entry(id);
    entry.overlay = true;
    void this.#requestNetwork(GATEWAY_BRIDGE, id).then(() => {
      if (tries === 1 || entry.addresses.has(GATEWAY_BRIDGE) || this.#entries.get(id) !== entry) return;
      this.#options.clock.after(GATEWAY_RETRY_MS, () => {
        // Only for one that is on its way: die and a new sync take the address away, or bring it.
        if (!this.#closed && !this.#ended.has(id)) this.#lookForGateway(id, tries - 1);
      });
    });
  }

  /**
   * Looks up a container's addresses on a network; wishes for the same network share a call to the engine.
   *
   * @returns a promise that never rejects, of when the look-up is done
   */
  #requestNetwork(network: string, container: string): Promise<void> {
    const { container: known } = this.#entry(container);
    if (!known) void this.#inspect(container).catch(() => {});
    const pending = this.#pendingNetworks.get(network);
    if (pending) {
      pending.containers.add(container);
      return pending.done;
    }
    const containers = new Set([container]);
    const done = this.#lookUpNetwork(network, containers)
      .catch(() => {})
      .finally(() => this.#pendingNetworks.delete(network));
    this.#pendingNetworks.set(network, { containers, done });
    return done;
  }

  async #lookUpNetwork(network: string, pending: Set<string>): Promise<void> {
    while (pending.size > 0) {
      // What is wished for during the call might be too new for its answer: it is left for the next round.
      const containers = [...pending];
      pending.clear();
      await this.#withTombstones(async (tombstones) => {
        const found = await this.#options.engine.networkAddresses(network);
        for (const id of containers) {
          const addresses = found?.get(id) ?? [];
          const entry = this.#entries.get(id);
          if (!entry || addresses.length === 0 || tombstones.hasEndpoint(id, network)) continue;
          this.#setAddresses(entry, network, addresses);
          if (entry.container) this.#setStarted(entry);
        }
      });
    }
  }

  /** Runs a look-up with the set into which everything is put that goes away meanwhile. */
  async #withTombstones(lookUp: (tombstones: Tombstones) => Promise<void>): Promise<void> {
    const tombstones = new Tombstones();
    this.#inFlight.add(tombstones);
    try {
      await lookUp(tombstones);
    } finally {
      this.#inFlight.delete(tombstones);
    }
  }

  /** Learns who a container is; at most one call for each is under way. */
  #inspect(id: string): Promise<void> {
    const entry = this.#entry(id);
    if (entry.container) return Promise.resolve();
    if (entry.inspection) return entry.inspection;
    entry.inspection = this.#options.engine
      .inspect(id)
      .then((found) => (found ? this.#describe(entry, found) : this.#remove(id, true)))
      .finally(() => (entry.inspection = undefined));
    this.#trackInspect(entry.inspection);
    return entry.inspection;
  }

  /** Notes that it is being found out who a container is. */
  #trackInspect(inspect: Promise<unknown>): void {
    this.#inspects.set(inspect, this.#options.clock.monotonic());
    const forget = (): void => void this.#inspects.delete(inspect);
    inspect.then(forget, forget);
  }

  async #describe(entry: Entry, found: EngineContainer): Promise<void> {
    // The same text as the entry's, so that it is kept once.
    const container = await this.#options.describe({ ...found, id: entry.id });
    // It may have been described by another look-up, or destroyed, meanwhile.
    if (entry.container || this.#entries.get(entry.id) !== entry) return;
    entry.container = container;
    if (typeof container.network === 'object') {
      const { sharedWith } = container.network;
      this.#peers.set(sharedWith, (this.#peers.get(sharedWith) ?? new Set()).add(entry));
      // It may well start.
      this.#negativeCache.delete(sharedWith);
    }
    this.#options.onKnown?.(container);
    if (entry.addresses.size > 0) this.#setStarted(entry);
  }

  #entry(id: string): Entry {
    let entry = this.#entries.get(id);
    if (!entry) {
      entry = {
        id,
        container: undefined,
        inspection: undefined,
        started: false,
        overlay: false,
        running: false,
        addresses: new Map(),
      };
      this.#entries.set(id, entry);
    }
    return entry;
  }

  #rename(id: string, name: string): void {
    const container = this.#entries.get(id)?.container;
    if (container && name !== '') container.name = name;
  }

  #remove(id: string, destroyed: boolean): void {
    for (const tombstones of this.#inFlight) tombstones.removed.add(id);
    for (const { containers } of this.#pendingNetworks.values()) containers.delete(id);
    const entry = this.#entries.get(id);
    if (!entry) return;
    for (const network of [...entry.addresses.keys()]) this.#setAddresses(entry, network, []);
    this.#setEnded(entry);
    if (destroyed) this.#forget(id);
  }

  #forget(id: string): void {
    const entry = this.#entries.get(id);
    const network = entry?.container?.network;
    if (entry && typeof network === 'object') {
      const peers = this.#peers.get(network.sharedWith);
      peers?.delete(entry);
      if (peers?.size === 0) this.#peers.delete(network.sharedWith);
      this.#notify(network.sharedWith);
    }
    this.#ended.delete(id);
    this.#entries.delete(id);
  }

  #removeEndpoint(id: string, network: string): void {
    for (const tombstones of this.#inFlight) tombstones.removed.add(endpointKey(id, network));
    this.#pendingNetworks.get(network)?.containers.delete(id);
    const entry = this.#entries.get(id);
    if (!entry) return;
    this.#setAddresses(entry, network, []);
    // Its start has failed: there will be no die.
    if (!entry.running && entry.addresses.size === 0) this.#setEnded(entry);
  }

  #setAddresses(entry: Entry, network: string, given: readonly string[]): void {
    // Podman shows the addresses of the container that it shares the network of; they are that one's.
    const addresses = typeof entry.container?.network === 'object' ? [] : given;
    const before = entry.addresses.get(network) ?? [];
    if (addresses.length > 0) entry.addresses.set(intern(network), addresses);
    else entry.addresses.delete(network);
    for (const address of new Set([...before, ...addresses])) this.#setOwner(address, entry, network);
  }

  /** Notes whether a container has an address, now that something has changed on a network. */
  #setOwner(address: string, entry: Entry, network: string): void {
    const has = hasAddress(entry, address);
    // On one network it can have been given to another one only if that has gone, which is told later.
    const others = (this.#byAddress.get(address) ?? []).filter(
      (other) => other !== entry && !(has && other.addresses.get(network)?.includes(address)),
    );
    const owners = has ? [...others, entry] : others;
    // What the engine gave to somebody is no longer the one's who only claims it.
    const given = owners.filter((one) => hasAddress(one, address, LABELLED));
    const counting = given.length > 0 ? given : owners;
    if (counting.length > 0) this.#byAddress.set(address, counting);
    else this.#byAddress.delete(address);
    if (has) this.#notify(address);
  }

  /** A label is a claim: it takes no address away from a container that the engine gave it to. */
  #setLabelledAddress(entry: Entry): void {
    const address = entry.container?.labelledAddress;
    if (address !== undefined && !this.#byAddress.has(address)) this.#setAddresses(entry, LABELLED, [address]);
  }

  #setStarted(entry: Entry): void {
    if (entry.started || !entry.container) return;
    entry.started = true;
    this.#setLabelledAddress(entry);
    this.#ended.delete(entry.id);
    this.#options.onStarted?.(entry.container);
    const { network } = entry.container;
    if (typeof network === 'object') this.#notify(network.sharedWith);
  }

  #setEnded(entry: Entry): void {
    if (entry.started && entry.container) {
      this.#options.onEnded?.(entry.container);
      // It may start again.
      if (typeof entry.container.network === 'object') this.#negativeCache.delete(entry.container.network.sharedWith);
    }
    entry.started = false;
    entry.running = false;
    this.#ended.delete(entry.id);
    this.#ended.add(entry.id);
    const [longestEnded] = this.#ended;
    if (this.#ended.size > MAX_ENDED && longestEnded !== undefined) this.#forget(longestEnded);
  }
}

/** On any network but `except`. */
function hasAddress({ addresses }: Entry, address: string, except?: string): boolean {
  return [...addresses].some(([network, found]) => network !== except && found.includes(address));
}

function endpointKey(container: string, network: string): string {
  return `${container} ${network}`;
}
