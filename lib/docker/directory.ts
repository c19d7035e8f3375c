/**
 * Which container has which address, kept current by the engine's events:
 *
 *   create                its role is known some 250 ms before it runs
 *   network connect       its address is looked up, and known some 200 ms before it runs
 *   start                 whatever is still unknown is read
 *   network disconnect,   its address is removed at once; the engine gives the address to another container only after
 *   die, destroy          it has sent the disconnect
 *
 * This file answers the questions. Below it, imports run one way:
 *
 *   engine-sync       event stream and lists → lookups, registry      podman        confirms answers where events are late
 *   lookups           one container; address-lookups: one network     registry      the containers; the only writer
 *   address-table     address → owners                                waiters       wait for a key, negative cache
 *   client            the engine's API                                event-stream, parse, engine (types)
 *
 * Interleaving: an answer that is known and current is given synchronously. One that waits looks at the registry again
 * after each await, and at the sync state at the end: if the event stream ended meanwhile, the address may belong to
 * another container now, so the question starts again with a connection to the engine. Nothing here changes the registry
 * except through a lookup.
 */

import type { Events } from '../events.ts';
import { sleep, withTimeout, type Clock } from '../util/clock.ts';
import { DirectoryUnavailable, type Container } from './container.ts';
import { EngineSync, type DirectoryState } from './engine-sync.ts';
import type { Engine } from './engine.ts';
import { Lookups, type LookupOptions } from './lookups.ts';
import { PodmanAnswers } from './podman.ts';
import { Registry, type ContainerListener } from './registry.ts';
import { Waiters } from './waiters.ts';

export type { DirectoryState } from './engine-sync.ts';
export type { ContainerListener } from './registry.ts';

export interface DirectoryOptions {
  engine: Engine;
  describe: LookupOptions['describe'];
  clock: Clock;
  random: () => number;
  /** Milliseconds between lists of all containers in addition to the events; 0 or undefined for none. */
  resyncEvery?: number;
  events: Pick<Events, 'directoryStateChanged'>;
}

/**
 * How long a request waits for the event that makes its address known: `docker network connect` gives an address to a
 * running container some milliseconds before the engine reports or lists it. SDKs wait for a second.
 */
const EVENT_TIMEOUT_MS = 400;
/** SDKs give up after a second or two; a request must not wait longer than this for an engine that hangs. */
const ANSWER_TIMEOUT_MS = 5_000;

const STREAM_ENDED_AT_ONCE = 'the Docker event stream ended at once';
const STREAM_ENDED = 'the Docker event stream ended';

export class ContainerDirectory {
  readonly #clock: Clock;
  readonly #waiters: Waiters;
  readonly #registry: Registry;
  readonly #lookups: Lookups;
  readonly #sync: EngineSync;
  readonly #answers: PodmanAnswers;

  constructor({ engine, describe, clock, random, resyncEvery = 0, events }: DirectoryOptions) {
    this.#clock = clock;
    this.#waiters = new Waiters(clock);
    const registry = new Registry(this.#waiters);
    const lookups = new Lookups({ engine, describe, clock, registry });
    this.#registry = registry;
    this.#lookups = lookups;
    this.#sync = new EngineSync({ engine, registry, lookups, clock, random, resyncEvery, events });
    const inner = {
      resolve: (address: string) => this.#resolve(address),
      peersKnown: (id: string) => this.#peersKnown(id),
      waitForPeers: (id: string, news: (timeoutMs: number) => Promise<void>) => this.#waitForPeers(id, news),
    };
    this.#answers = new PodmanAnswers(inner, this.#sync, lookups);
  }

  get state(): DirectoryState {
    return this.#sync.state;
  }

  /** Calls the listener for every change from now on; nothing that is known already. */
  subscribe(listener: ContainerListener): void {
    this.#registry.subscribe(listener);
  }

  /** Follows the engine until `close`. Returns at once, whether the engine answers or not. */
  start(): void {
    this.#sync.start();
  }

  close(): void {
    this.#sync.close();
    this.#lookups.addresses.close();
  }

  /** Started containers (they run, or are about to) with their addresses. */
  started(): Generator<{ container: Container; addresses: string[] }> {
    return this.#registry.started();
  }

  /**
   * The container that has an address. May wait while something about the address is being looked up.
   *
   * @param address in normal form
   * @returns undefined when no container has it
   * @throws DirectoryUnavailable when that cannot be determined now
   */
  resolve(address: string): Container | undefined | Promise<Container | undefined> {
    if (this.state !== 'synced') return this.#inTime(this.#resolveWithoutEvents(address));
    const found = this.#answers.resolve(address);
    return found instanceof Promise ? this.#inTime(found) : found;
  }

  /** The container that has an address, as far as the registry knows now. It may be out of date. */
  peek(address: string): Container | undefined {
    return this.#registry.addresses.soleOwner(address)?.container;
  }

  /**
   * A container by its full id. No other container ever gets that id, so the answer cannot go out of date.
   *
   * @returns undefined when the engine has no such container
   * @throws DirectoryUnavailable when the engine does not answer
   */
  async byId(id: string): Promise<Container | undefined> {
    try {
      await this.#inTime(this.#lookups.inspect(id));
    } catch (error) {
      this.#registry.forgetIfEmpty(id);
      throw error;
    }
    return this.#registry.entry(id)?.container;
  }

  /** Started containers that share a container's network, the one that started last at the end. */
  peersOf({ id }: Container): Container[] {
    const peers = [];
    for (const { container, started } of this.#registry.peersOf(id)) if (started && container) peers.push(container);
    return peers;
  }

  /**
   * Containers in one network namespace share an address, so their requests look alike. Before serving the owner's role or the
   * default role, wait until all its peers are known: a process runs some milliseconds before the engine reports it.
   *
   * @returns undefined when there is nothing to wait for
   * @throws DirectoryUnavailable when that cannot be determined now
   */
  peersKnown({ id }: Container): Promise<void> | undefined {
    if (this.state !== 'synced' || !this.#registry.entry(id)) return undefined;
    const known = this.#answers.peersKnown(id);
    return known && this.#inTime(known);
  }

  #resolve(address: string): Container | undefined | Promise<Container | undefined> {
    if (this.state !== 'synced') return this.#resolveWithoutEvents(address);
    return this.peek(address) ?? this.#lookUp(address);
  }

  async #lookUp(address: string): Promise<Container | undefined> {
    const began = this.#clock.monotonic();
    const owners = (): ReturnType<Registry['addresses']['owners']> => this.#registry.addresses.owners(address);
    const isUnknown = (): boolean => owners().length === 0;
    await this.#lookups.addresses.announced();
    if (isUnknown()) await this.#sync.rescan();
    if (isUnknown() && !this.#waiters.isMiss(address, began)) {
      await this.#waiters.wait(address, began + EVENT_TIMEOUT_MS - this.#clock.monotonic());
    }
    // The event that announces the address may have arrived meanwhile.
    if (isUnknown()) await this.#lookups.addresses.announced();
    for (const { id, container } of owners()) if (!container) await this.#lookups.inspect(id);
    if (isUnknown()) this.#waiters.cacheMiss(address);
    return this.state === 'synced' ? this.#soleOwner(address) : this.#resolveWithoutEvents(address);
  }

  async #resolveWithoutEvents(address: string): Promise<Container | undefined> {
    const error = await this.#sync.connect();
    if (!error && this.state === 'synced') return this.resolve(address);
    const known = this.#soleOwner(address);
    if (known && this.#sync.nothingStarted(error)) return known;
    throw new DirectoryUnavailable(error?.message ?? STREAM_ENDED_AT_ONCE, { cause: error });
  }

  /** @throws DirectoryUnavailable when different networks have assigned the address to more than one container */
  #soleOwner(address: string): Container | undefined {
    const owners = this.#registry.addresses.owners(address);
    if (owners.length > 1) {
      const names = owners.map(({ id, container }) => container?.name ?? id.slice(0, 12));
      throw new DirectoryUnavailable(`${names.join(' and ')} have the same address, on different networks`);
    }
    return owners[0]?.container;
  }

  #peersKnown(id: string): Promise<void> | undefined {
    if (!this.#awaitsPeer(id) && this.#newIdentifications(id).length === 0) return undefined;
    return this.#waitForPeers(id, (timeoutMs) => this.#waiters.wait(id, timeoutMs));
  }

  async #waitForPeers(id: string, news: (timeoutMs: number) => Promise<void>): Promise<void> {
    const until = this.#clock.monotonic() + EVENT_TIMEOUT_MS;
    const left = (): number => until - this.#clock.monotonic();
    // Each of these containers may turn out to be a peer.
    const identifications = this.#newIdentifications(id).map((identification) => identification.catch(() => {}));
    if (identifications.length > 0) await Promise.race([Promise.all(identifications), sleep(this.#clock, left())]);
    while (this.#awaitsPeer(id) && left() > 0) await news(left());
    if (left() <= 0) this.#waiters.cacheMiss(id);
    if (this.state !== 'synced') throw new DirectoryUnavailable(STREAM_ENDED);
  }

  /** Whether a peer may be about to start, and was not waited for without success just now. */
  #awaitsPeer(id: string): boolean {
    if (this.#waiters.isMiss(id)) return false;
    for (const { started } of this.#registry.peersOf(id)) if (!started) return true;
    return false;
  }

  /** Without those that were already waited for without success. */
  #newIdentifications(id: string): Promise<void>[] {
    return this.#lookups.identificationsSince(this.#waiters.missedAt(id));
  }

  /** An answer that fails or takes too long is undetermined, which is not the same as "no container". */
  async #inTime<T>(answer: Promise<T>): Promise<T> {
    try {
      return await withTimeout(this.#clock, ANSWER_TIMEOUT_MS, answer, () => {
        return new Error('the Docker Engine takes too long to identify the calling container');
      });
    } catch (error) {
      if (error instanceof DirectoryUnavailable) throw error;
      throw new DirectoryUnavailable((error as Error).message, { cause: error });
    }
  }
}
