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
 *
 * A plain `inspect` needs no tombstones: who a container is never changes, only its addresses and its state do.
 * After its last await a lookup changes the registry synchronously.
 */

import { withTimeout, type Clock } from '../util/clock.ts';
import { AddressLookups, GATEWAY_BRIDGE } from './address-lookups.ts';
import type { Container } from './container.ts';
import { reachesHost, type Engine, type EngineContainer, type EngineEvent } from './engine.ts';
import type { Entry, Registry } from './registry.ts';

/** On these a container has no address of its own. */
const DRIVERS_WITHOUT_ADDRESS = new Set(['host', 'null']);
/** Concurrent inspects of a read; the client has as many sockets. */
const MAX_CONCURRENT_INSPECTS = 8;
/** A starting container takes 330 ms (measured). A stuck one must not delay the others. */
const INSPECT_TIMEOUT_MS = 2_000;

export interface LookupOptions {
  engine: Pick<Engine, 'inspect' | 'networkAddresses'>;
  /** Keeps of an inspected container what the program needs. */
  describe: (container: EngineContainer) => Promise<Container>;
  clock: Clock;
  registry: Registry;
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
  /** The addresses that events have announced. */
  readonly addresses: AddressLookups;

  constructor({ engine, describe, clock, registry }: LookupOptions) {
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
    const work = async (): Promise<void> => {
      for (const { id } of queue) await withTimeout(this.#clock, INSPECT_TIMEOUT_MS, this.inspect(id), late).catch(ignore);
    };
    await Promise.all(Array.from({ length: MAX_CONCURRENT_INSPECTS }, work));
  }

  async #inspect(entry: Entry): Promise<void> {
    const found = await this.#engine.inspect(entry.id);
    if (found) await this.#describeEntry(entry, found);
    else this.#registry.remove(entry.id, true);
  }

  async #describeEntry(entry: Entry, found: EngineContainer): Promise<void> {
    // With the entry's own id, so that the same text is kept once.
    this.#registry.describe(entry, await this.#describe({ ...found, id: entry.id }));
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
    if (entry.usesOverlay) this.addresses.lookUpOnGateway(id, 1);
    const reading = registry.withTombstones(async (tombstones) => {
      await this.addresses.announced();
      if (!entry.container || !registry.addresses.hasAddresses(entry)) {
        const found = await this.#engine.inspect(id);
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
      const found = await this.#engine.inspect(id);
      if (found?.running && !tombstones.hasContainer(id)) this.#registry.replaceAddresses(entry, found.addresses);
    });
  }

  /**
   * Inspects the owners of an address and removes it from those that have lost it. Needs no tombstones: it is for an
   * engine whose events are later than its answers.
   */
  async recheck(address: string): Promise<void> {
    const registry = this.#registry;
    for (const entry of registry.addresses.owners(address)) {
      if (registry.addresses.isClaim(entry, address)) continue;
      const found = await this.#engine.inspect(entry.id);
      if (!found?.running) registry.remove(entry.id, !found);
      else if (![...found.addresses.values()].flat().includes(address)) registry.replaceAddresses(entry, found.addresses);
    }
  }
}

function ignore(): void {}
