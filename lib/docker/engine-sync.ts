/**
 * Keeps the registry in step with the engine: opens the event stream, reads everything, applies the events, and starts
 * again when the stream ends.
 *
 *   state          entered                                         what answers rest on
 *   starting       at the start                                    nothing
 *   synced         the stream is open, everything before it read   the registry
 *   disconnected   the stream has ended                            the registry only while the engine provably cannot
 *                                                                  have started a container (see `nothingStarted`)
 *
 * Interleaving: concurrent calls of `connect` share one attempt, and calls of `rescan` share the next one that has not
 * begun. While a full read awaits the engine, its events are kept and applied after it, in order and
 * without an await in between, so none is lost or applied twice. While a rescan awaits the engine, events are applied at
 * once, and its tombstones keep it from bringing back what they removed. Each read changes the registry synchronously
 * after its last await.
 */

import type { Events } from '../events.ts';
import { backoff } from '../util/backoff.ts';
import { sleep, type Clock } from '../util/clock.ts';
import { GATEWAY_BRIDGE } from './address-lookups.ts';
import { EngineUnreachable, type Engine, type EngineEvent, type ListedContainer } from './engine.ts';
import type { Lookups } from './lookups.ts';
import { traitsOf, type EngineTraits } from './podman.ts';
import type { Registry } from './registry.ts';

export type DirectoryState = 'starting' | 'synced' | 'disconnected';

export interface EngineSyncOptions {
  engine: Pick<Engine, 'allContainers' | 'networkAddresses' | 'events'>;
  registry: Registry;
  lookups: Lookups;
  clock: Clock;
  random: () => number;
  /** Milliseconds between additional lists of all containers; 0 for none. */
  resyncEvery: number;
  events: Pick<Events, 'directoryStateChanged'>;
}

/** Connecting to a socket costs little, and a daemon that is back should be noticed before its containers ask. */
const RECONNECT_INITIAL_MS = 100;
const RECONNECT_MAX_MS = 1_000;
/** A failed attempt answers every `connect` within this time: a container takes longer than that to start. */
const FAILURE_TTL_MS = 100;
/** After a rescan the engine rests for as long as it took (Podman takes 1 ms per container), up to this. */
const MAX_RESCAN_REST_MS = 1_000;
export class EngineSync {
  readonly #options: EngineSyncOptions;
  #state: DirectoryState = 'starting';
  #traits = traitsOf({ isPodman: false });
  #stream = new AbortController();
  #streamEnd: Promise<void> = Promise.resolve();
  #connecting: Promise<Error | undefined> | undefined;
  #lastFailure: { at: number; error: Error } | undefined;
  /** Whether the engine has not answered anything since the event stream ended. */
  #silentSinceStream = true;
  /** The next rescan, as long as it has not begun. */
  #nextRescan: Promise<void> | undefined;
  #rescan: Promise<void> = Promise.resolve();
  #nextRescanAt = -Infinity;
  #closed = false;

  constructor(options: EngineSyncOptions) {
    this.#options = options;
  }

  get state(): DirectoryState {
    return this.#state;
  }

  get traits(): EngineTraits {
    return this.#traits;
  }

  /** Follows the engine in the background until `close`. */
  start(): void {
    void this.#follow();
    if (this.#options.resyncEvery > 0) void this.#resync();
  }

  close(): void {
    this.#closed = true;
    this.#stream.abort();
  }

  /**
   * Whether no container can have started, and got an address, since the event stream ended.
   *
   * @param error of the last attempt to connect
   */
  nothingStarted(error: Error | undefined): boolean {
    return error instanceof EngineUnreachable && this.#silentSinceStream && this.#traits.startsNeedApi;
  }

  /**
   * One attempt to open the event stream and to read everything.
   *
   * @returns what went wrong, or undefined when the directory is synced
   */
  connect(): Promise<Error | undefined> {
    if (this.#state === 'synced') return Promise.resolve(undefined);
    const { clock } = this.#options;
    if (this.#lastFailure && clock.monotonic() - this.#lastFailure.at < FAILURE_TTL_MS) {
      return Promise.resolve(this.#lastFailure.error);
    }
    this.#connecting ??= this.#openAndRead()
      .then(
        () => undefined,
        (error: Error) => {
          if (!(error instanceof EngineUnreachable)) this.#silentSinceStream = false;
          // The same error of each attempt is reported once.
          if (error.message !== this.#lastFailure?.error.message) this.#report(error);
          this.#lastFailure = { at: clock.monotonic(), error };
          return error;
        },
      )
      .finally(() => (this.#connecting = undefined));
    return this.#connecting;
  }

  /** Lists all containers once more, beginning after the call. */
  rescan(): Promise<void> {
    const { clock } = this.#options;
    this.#nextRescan ??= this.#rescan
      .catch(() => {})
      .then(() => sleep(clock, this.#nextRescanAt - clock.monotonic()))
      .then(() => {
        this.#nextRescan = undefined;
        const began = clock.monotonic();
        this.#nextRescanAt = began + this.#traits.rescanIntervalMs;
        return (this.#rescan = this.#read('add').finally(() => {
          const ended = clock.monotonic();
          this.#nextRescanAt = Math.max(this.#nextRescanAt, ended + Math.min(ended - began, MAX_RESCAN_REST_MS));
        }));
      });
    return this.#nextRescan;
  }

  async #follow(): Promise<void> {
    const { clock, random } = this.#options;
    let failures = 0;
    while (!this.#closed) {
      const began = clock.monotonic();
      const error = await this.connect();
      if (!error) await this.#streamEnd;
      failures = !error && clock.monotonic() - began > RECONNECT_MAX_MS ? 1 : failures + 1;
      // Reopen a stream that ended at once, but not again and again if each one ends at once.
      if (!error && failures === 1) continue;
      if (!this.#closed) await sleep(clock, backoff(failures, RECONNECT_INITIAL_MS, RECONNECT_MAX_MS, random));
    }
  }

  async #resync(): Promise<void> {
    while (!this.#closed) {
      await sleep(this.#options.clock, this.#options.resyncEvery);
      if (this.#state === 'synced') await this.rescan().catch(() => {});
    }
  }

  async #openAndRead(): Promise<void> {
    const { engine, lookups } = this.#options;
    const stream = new AbortController();
    this.#stream = stream;
    const early: EngineEvent[] = [];
    let isReading = true;
    const opened = await engine.events((event) => {
      if (isReading) early.push(event);
      else lookups.apply(event);
    }, stream.signal);
    this.#silentSinceStream = false;
    this.#traits = traitsOf(opened);
    let ended: Error | undefined;
    const streamEnd = opened.ended.then((error) => {
      ended = error;
      if (!isReading && !this.#closed) this.#setState('disconnected', error);
    });

    try {
      await this.#read('replace');
      if (ended) throw ended;
    } catch (error) {
      stream.abort();
      throw error;
    }
    isReading = false;
    for (const event of early) lookups.apply(event);
    this.#streamEnd = streamEnd;
    this.#lastFailure = undefined;
    this.#silentSinceStream = true;
    this.#setState('synced');
  }

  /**
   * Reads all containers.
   *
   * @param mode `replace` removes everything that the engine does not show; `add` leaves removals to the events, unless
   *   those are late
   */
  async #read(mode: 'replace' | 'add'): Promise<void> {
    const { engine, registry, lookups } = this.#options;
    await registry.withTombstones(async (tombstones) => {
      const before = this.#traits.eventsAreLate ? [...registry.started()].map(({ container }) => container.id) : [];
      const [listed, gateway] = await Promise.all([engine.allContainers(), engine.networkAddresses(GATEWAY_BRIDGE)]);
      const running = listed.filter((one) => one.running);
      const isUnknown = ({ id }: ListedContainer): boolean => !registry.entry(id)?.container;
      await lookups.inspectAll(running.filter(isUnknown));

      const ids = new Set(running.map(({ id }) => id));
      if (mode === 'replace') registry.replaceAll(ids, new Set(listed.map(({ id }) => id)), tombstones);
      else for (const id of before) if (!ids.has(id) && !tombstones.hasContainer(id)) registry.remove(id, false);
      // In the background: `peersKnown` waits for them where it matters.
      for (const one of listed) {
        if (this.#traits.mayBecomePeer(one) && isUnknown(one)) void lookups.inspect(one.id).catch(() => {});
      }
      for (const { id, name, addresses } of running) {
        const entry = registry.entry(id);
        if (!entry || tombstones.hasContainer(id)) continue;
        registry.setRunning(entry);
        registry.rename(id, name);
        for (const [network, found] of addresses) {
          if (!tombstones.hasEndpoint(id, network)) registry.setAddresses(entry, network, found);
        }
        registry.start(entry);
        registry.claimAddress(entry);
      }
      // A task that is starting is on the bridge before the engine lists it as running.
      for (const [id, found] of gateway ?? []) {
        const entry = registry.entry(id);
        if (!entry || found.length === 0 || tombstones.hasEndpoint(id, GATEWAY_BRIDGE)) continue;
        registry.setAddresses(entry, GATEWAY_BRIDGE, found);
        registry.start(entry);
      }
    });
  }

  #setState(state: DirectoryState, error?: Error): void {
    this.#state = state;
    this.#report(error);
  }

  #report(error?: Error): void {
    const { registry, events } = this.#options;
    const count = [...registry.started()].length;
    events.directoryStateChanged(this.#state, error ? { count, error } : { count });
  }
}
