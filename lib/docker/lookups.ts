/**
 * Looks up single containers, and brings the answers into the registry.
 *
 * Interleaving: while a lookup awaits the engine, events are applied and other lookups finish.
 *
 *   removed meanwhile             the tombstones, opened before the call, keep the answer from bringing it back
 *   full resync meanwhile         marks the tombstones stale, so the whole answer is dropped
 *   described meanwhile           the first description counts; `registry.describe` ignores later ones
 *   destroyed meanwhile           the entry is no longer the registry's; `registry.describe` ignores it
 *   inspected again meanwhile     inspects are single flight: both callers share the call
 *   still no answer               the call is given up; the container is not asked again for a while, or until it starts
 *
 * A plain `inspect` needs no tombstones: who a container is never changes, only its addresses and its state do.
 * After its last await a lookup changes the registry synchronously.
 */

import { sleep, withTimeout, type Clock } from '../util/clock.ts';
import type { Events } from '../events.ts';
import { backoff } from '../util/backoff.ts';
import { BoundedMap } from '../util/bounded-map.ts';
import { AddressLookups, GATEWAY_BRIDGE } from './address-lookups.ts';
import { ContainerTooLarge, type Container } from './container.ts';
import { AnswerTooLarge, EngineFailure, reachesHost, type Engine, type EngineContainer, type EngineEvent } from './engine.ts';
import type { Entry, Registry } from './registry.ts';

/** On these a container has no address of its own. */
const DRIVERS_WITHOUT_ADDRESS = new Set(['host', 'null']);
/** Concurrent inspects of a read; the client has as many sockets. */
const MAX_CONCURRENT_INSPECTS = 8;
/** A starting container takes 330 ms (measured). A stuck one must not delay the others. */
const INSPECT_TIMEOUT_MS = 2_000;
/** A read goes on with the next container after this time, as the client does. */
const SLOW_MS = 500;
/** After an inspect that hung. Its file system does not come back in less, if ever. */
const RETRY_INITIAL_MS = 2_000;
const RETRY_MAX_MS = 60_000;
/** More containers than hang or are too large on one host. */
const MAX_BAD = 1_000;
/** Characters that are kept of one container, its names and values together: far more than settings refer to. */
const MAX_RETAINED_LENGTH = 256 * 1024;
const UNKNOWN = {
  running: false, networkMode: '', addresses: new Map(), networks: [], hasNetworks: false, hostname: '', env: new Map(),
};

export interface LookupOptions {
  engine: Pick<Engine, 'inspect' | 'networkAddresses'>;
  /** Keeps of an inspected container what the program needs. */
  describe: (container: EngineContainer) => Promise<Container>;
  clock: Clock;
  registry: Registry;
  events: Pick<Events, 'containerTooLarge'>;
}

interface Hung {
  readonly failures: number;
  /** When it may be asked again, by the monotonic clock. */
  readonly retryAt: number;
}

export class Lookups {
  readonly #engine: LookupOptions['engine'];
  readonly #describe: LookupOptions['describe'];
  readonly #clock: Clock;
  readonly #registry: Registry;
  /** In flight, by entry. */
  readonly #inspections = new Map<Entry, Promise<void>>();
  /** Lookups in flight that may identify a container, each with the time at which it began. */
  readonly #identifications = new Map<Promise<void>, number>();
  /** Whose last inspect had no answer in time. */
  readonly #hung = new BoundedMap<string, Hung>(MAX_BAD);
  readonly #tooLarge = new BoundedMap<string, ContainerTooLarge>(MAX_BAD);
  readonly #events: LookupOptions['events'];
  /** The addresses that events have announced. */
  readonly addresses: AddressLookups;

  constructor({ engine, describe, clock, registry, events }: LookupOptions) {
    this.#events = events;
    this.#engine = engine;
    this.#describe = describe;
    this.#clock = clock;
    this.#registry = registry;
    this.addresses = new AddressLookups({ engine, clock, registry, inspect: (id) => this.inspect(id) });
  }

  /** Applies an event; what it leaves open is looked up in the background. See the table in directory.ts. */
  apply(event: EngineEvent): void {
    const { container: id } = event;
    switch (event.kind) {
      case 'create':
        void this.inspect(id).catch(ignore);
        if (event.labels.size > 0) void this.#announce(event).catch(ignore);
        break;
      case 'connect':
        if (DRIVERS_WITHOUT_ADDRESS.has(event.driver)) break;
        if (reachesHost(event.driver)) void this.addresses.lookUp(id, event.network);
        if (event.driver === 'overlay') this.addresses.lookUpOnGateway(id);
        break;
      case 'start':
        void this.#readStarted(id);
        break;
      case 'networksChanged':
        void this.#readAddresses(id).catch(ignore);
        break;
      case 'rename':
        this.#registry.rename(id, event.name);
        break;
      case 'disconnect':
        this.#registry.removeEndpoint(id, event.network);
        if (event.driver === 'overlay') {
          this.#registry.removeEndpoint(id, GATEWAY_BRIDGE);
          // It may still be on another overlay network.
          if (this.#registry.entry(id)?.running) this.addresses.lookUpOnGateway(id, 1);
        }
        break;
      case 'die':
      case 'destroy':
        this.#registry.remove(id, event.kind === 'destroy');
        break;
    }
  }

  /** Lookups in flight that may identify a container and began after a time. */
  identificationsSince(time: number): Promise<void>[] {
    if (this.#identifications.size === 0) return [];
    return [...this.#identifications].filter(([, began]) => began > time).map(([identification]) => identification);
  }

  /** Learns who a container is. Does nothing if that is known. */
  inspect(id: string): Promise<void> {
    const entry = this.#registry.ensure(id);
    if (entry.container) return Promise.resolve();
    let inspection = this.#inspections.get(entry);
    if (!inspection) {
      inspection = this.#inspect(entry).finally(() => this.#inspections.delete(entry));
      this.#inspections.set(entry, inspection);
      this.#trackIdentification(inspection);
    }
    return inspection;
  }

  /** Never rejects: a container that cannot be inspected in time is inspected again at its first request. */
  async inspectAll(containers: readonly { readonly id: string }[]): Promise<void> {
    const queue = containers.values();
    const late = (): Error => new Error('the inspect takes too long');
    const inspections: Promise<void>[] = [];
    const work = async (): Promise<void> => {
      for (const { id } of queue) {
        const inspection = withTimeout(this.#clock, INSPECT_TIMEOUT_MS, this.inspect(id), late).catch(ignore);
        inspections.push(inspection);
        await Promise.race([inspection, sleep(this.#clock, SLOW_MS)]);
      }
    };
    await Promise.all(Array.from({ length: MAX_CONCURRENT_INSPECTS }, work));
    await Promise.all(inspections);
  }

  /** A container of which nothing can be read. Its first rejection is reported. */
  reject(id: string, reason: Error): ContainerTooLarge {
    let rejection = this.#tooLarge.get(id);
    if (!rejection) {
      rejection = new ContainerTooLarge(reason.message, { cause: reason });
      this.#tooLarge.set(id, rejection);
      this.#events.containerTooLarge(id, reason);
    }
    return rejection;
  }

  /** Its inspect may wait until it has started, and has more. */
  async #announce({ container: id, name, image, labels }: EngineEvent & { kind: 'create' }): Promise<void> {
    const container = await this.#describe({ ...UNKNOWN, id, name, image, imageId: image, labels });
    if (retainedLength(container) <= MAX_RETAINED_LENGTH) this.#registry.announce(container);
  }

  /**
   * @param isConfirmation of a known container: asked each time, so that the end of an engine's outage is noticed at once
   * @throws ContainerTooLarge; EngineFailure, also for a container whose inspects hang
   */
  async #ask(entry: Entry, isConfirmation = false): Promise<EngineContainer | undefined> {
    const tooLarge = this.#tooLarge.get(entry.id);
    if (tooLarge) throw tooLarge;
    const { failures, retryAt } = this.#hung.get(entry.id) ?? { failures: 0, retryAt: -Infinity };
    const hangs = (): Error => new EngineFailure(`the inspect of container ${entry.id.slice(0, 12)} hangs`);
    if (this.#clock.monotonic() < retryAt && !isConfirmation) throw hangs();
    const controller = new AbortController();
    try {
      const found = await withTimeout(this.#clock, INSPECT_TIMEOUT_MS, this.#engine.inspect(entry.id, controller.signal), () => {
        const pause = backoff(failures + 1, RETRY_INITIAL_MS, RETRY_MAX_MS, () => 1);
        this.#hung.set(entry.id, { failures: failures + 1, retryAt: this.#clock.monotonic() + pause });
        controller.abort();
        return hangs();
      });
      this.#hung.delete(entry.id);
      return found;
    } catch (error) {
      throw error instanceof AnswerTooLarge ? this.reject(entry.id, error) : error;
    }
  }

  async #inspect(entry: Entry): Promise<void> {
    const found = await this.#ask(entry);
    if (found) await this.#describeEntry(entry, found);
    else this.#registry.remove(entry.id, true);
  }

  async #describeEntry(entry: Entry, found: EngineContainer): Promise<void> {
    // With the entry's own id, so that the same text is kept once.
    const container = await this.#describe({ ...found, id: entry.id }).catch((error: Error) => {
      // Its image is.
      throw error instanceof AnswerTooLarge ? this.reject(entry.id, error) : error;
    });
    const length = retainedLength(container);
    if (length > MAX_RETAINED_LENGTH) {
      throw this.reject(entry.id, new Error(`its labels and variables that settings refer to are ${length} characters long`));
    }
    this.#registry.describe(entry, container);
  }

  #trackIdentification(identification: Promise<void>): void {
    this.#identifications.set(identification, this.#clock.monotonic());
    const forget = (): void => void this.#identifications.delete(identification);
    identification.then(forget, forget);
  }

  /** The engine now shows everything about the container; reads what no earlier event has announced. */
  async #readStarted(id: string): Promise<void> {
    const registry = this.#registry;
    const entry = registry.ensure(id);
    registry.setRunning(entry);
    registry.start(entry);
    // An inspect waits for a start; now there is nothing to wait for.
    this.#hung.delete(id);
    if (entry.usesOverlay) this.addresses.lookUpOnGateway(id, 1);
    const reading = registry.withTombstones(async (tombstones) => {
      await this.addresses.announced();
      if (!entry.container || !registry.addresses.hasAddresses(entry)) {
        const found = await this.#ask(entry);
        if (!found?.running || tombstones.hasContainer(id)) return;
        await this.#describeEntry(entry, found);
        for (const [network, addresses] of found.addresses) {
          if (!tombstones.hasEndpoint(id, network)) registry.setAddresses(entry, network, addresses);
        }
      }
      if (!tombstones.hasContainer(id)) registry.start(entry);
    });
    if (!entry.container) this.#trackIdentification(reading);
    // If the engine has gone, the resync reads everything again. Otherwise the first request reads this container.
    await reading.catch(ignore);
  }

  /** Reads the addresses of a container that has started. */
  async #readAddresses(id: string): Promise<void> {
    const entry = this.#registry.entry(id);
    if (!entry?.started) return;
    await this.#registry.withTombstones(async (tombstones) => {
      const found = await this.#ask(entry);
      if (found?.running && !tombstones.hasContainer(id)) this.#registry.replaceAddresses(entry, found.addresses);
    });
  }

  /** Inspects the owners of an address and removes it from those that have lost it. */
  async recheck(address: string): Promise<void> {
    const registry = this.#registry;
    for (const entry of registry.addresses.owners(address)) {
      if (registry.addresses.isClaim(entry, address)) continue;
      await registry.withTombstones(async (tombstones) => {
        const found = await this.#ask(entry, true);
        const addresses = new Map(found?.addresses);
        if (found?.running && registry.addresses.isOn(entry, GATEWAY_BRIDGE)) {
          addresses.set(GATEWAY_BRIDGE, (await this.#engine.networkAddresses(GATEWAY_BRIDGE))?.get(entry.id) ?? []);
        }
        if (tombstones.hasContainer(entry.id)) return;
        for (const network of addresses.keys()) if (tombstones.hasEndpoint(entry.id, network)) addresses.delete(network);
        if (!found?.running) registry.remove(entry.id, !found);
        else if (![...addresses.values()].flat().includes(address)) registry.replaceAddresses(entry, addresses);
      });
    }
  }
}

function retainedLength({ name, image, hostname, env, labels, networks }: Container): number {
  const texts = [name, image, hostname, ...networks, ...[...env, ...labels].flat()];
  return texts.reduce((length, text) => length + text.length, 0);
}

function ignore(): void {}
