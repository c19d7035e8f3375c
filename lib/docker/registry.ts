/**
 * The containers that the directory knows, and the only code that changes an entry. Every method is synchronous, so each
 * change is complete before anything else runs, and listeners are called in the order of the changes.
 *
 *   entry state      set by                                          reported as
 *   no container     the first event or list that names the id       (nothing)
 *   known            describe: it was inspected                      known
 *   started          start: it has an address, or runs               started
 *   ended            end: it died, left its last network, or         ended, if it was started
 *                    is missing from a list
 *   forgotten        forget: destroyed, not in the engine any        ended, if it was started
 *                    more, or the oldest of 1,000 ended ones
 *
 * Between two awaits of other code nothing here changes; during an await everything may. So a lookup opens tombstones
 * (see tombstones.ts) before it waits, and gets the entry again after it.
 */

import { BoundedMap } from '../util/bounded-map.ts';
import { AddressTable } from './address-table.ts';
import { intern, type Container } from './container.ts';
import { Tombstones, type RemovalListener } from './tombstones.ts';
import type { Waiters } from './waiters.ts';

export interface ContainerListener {
  /** A container was created, or found. */
  known(container: Container): void;
  /** A container is about to run, or was found running. */
  started(container: Container): void;
  /** A started container has ended. */
  ended(container: Container): void;
}

/** Read-only outside of this file. It stays the same object until the container is forgotten. */
export interface Entry {
  readonly id: string;
  readonly container: Container | undefined;
  /** Whether it was reported as started, and not yet as ended. */
  readonly started: boolean;
  /** Whether its process runs, as far as the engine has said. */
  readonly running: boolean;
  /** Whether it has, or had, an overlay network, and so perhaps an address on Swarm's gateway bridge. */
  readonly usesOverlay: boolean;
}

type OwnEntry = { -readonly [Field in keyof Entry]: Entry[Field] };

export type AddressesByNetwork = ReadonlyMap<string, readonly string[]>;

/** Ended containers stay known, so that a restart finds the role ready. */
const MAX_ENDED = 1_000;

export class Registry {
  readonly #waiters: Waiters;
  readonly #entries = new Map<string, OwnEntry>();
  readonly #addresses = new AddressTable<OwnEntry>();
  /** By the id of the network's owner: known containers that share its network, the one that started last at the end. */
  readonly #peers = new Map<string, Set<OwnEntry>>();
  /** Ids, the one that ended last at the end. */
  readonly #ended = new BoundedMap<string, true>(MAX_ENDED);
  readonly #listeners: ContainerListener[] = [];
  readonly #removals = new Set<RemovalListener>();

  /** @param waiters notified by address (it has an owner now) and by container id (a peer started or was forgotten) */
  constructor(waiters: Waiters) {
    this.#waiters = waiters;
  }

  subscribe(listener: ContainerListener): void {
    this.#listeners.push(listener);
  }

  /** @returns a function that ends it */
  onRemoval(listener: RemovalListener): () => void {
    this.#removals.add(listener);
    return () => void this.#removals.delete(listener);
  }

  /** Runs a lookup with tombstones, which are open from before it until it ends. */
  withTombstones(lookUp: (tombstones: Tombstones) => Promise<void>): Promise<void> {
    const tombstones = new Tombstones();
    const close = this.onRemoval(tombstones);
    return lookUp(tombstones).finally(close);
  }

  // Questions

  entry(id: string): Entry | undefined {
    return this.#entries.get(id);
  }

  /** Who has which address, to read. */
  get addresses(): Pick<AddressTable<Entry>, 'owners' | 'soleOwner' | 'hasAddresses' | 'isOn' | 'isClaim'> {
    return this.#addresses;
  }

  *started(): Generator<{ container: Container; addresses: string[] }> {
    for (const entry of this.#entries.values()) {
      const { container, started } = entry;
      if (container && started) yield { container, addresses: this.#addresses.addressesOf(entry) };
    }
  }

  /** Known containers that share the network of `id`, whether they have started or not. */
  peersOf(id: string): Iterable<Entry> {
    return this.#peers.get(id) ?? [];
  }

  hasEnded(id: string): boolean {
    return this.#ended.has(id);
  }

  // Changes

  ensure(id: string): Entry {
    let entry = this.#entries.get(id);
    if (!entry) {
      entry = { id, container: undefined, started: false, running: false, usesOverlay: false };
      this.#entries.set(id, entry);
    }
    return entry;
  }

  describe(entry: OwnEntry, container: Container): void {
    // Another lookup may have described it, or it was destroyed, while this one waited.
    if (entry.container || this.#entries.get(entry.id) !== entry) return;
    entry.container = container;
    const owner = networkOwner(entry);
    if (owner !== undefined) {
      this.#peers.set(owner, (this.#peers.get(owner) ?? new Set()).add(entry));
      // A new container is likely to start soon.
      this.#waiters.forgetMiss(owner);
    }
    for (const listener of this.#listeners) listener.known(container);
    if (this.#addresses.hasAddresses(entry)) this.start(entry);
  }

  rename(id: string, name: string): void {
    const container = this.#entries.get(id)?.container;
    if (container && name !== '') container.name = name;
  }

  setRunning(entry: OwnEntry): void {
    entry.running = true;
  }

  setUsesOverlay(entry: OwnEntry): void {
    entry.usesOverlay = true;
  }

  /** Does nothing for a container that is not known yet, or that has started. */
  start(entry: OwnEntry): void {
    if (entry.started || !entry.container) return;
    entry.started = true;
    this.claimAddress(entry);
    this.#ended.delete(entry.id);
    for (const listener of this.#listeners) listener.started(entry.container);
    const owner = networkOwner(entry);
    if (owner === undefined) return;
    const peers = this.#peers.get(owner);
    if (peers?.delete(entry)) peers.add(entry);
    this.#waiters.notify(owner);
  }

  setAddresses(entry: OwnEntry, network: string, given: readonly string[]): void {
    // Podman shows a container that shares a network with the addresses of that network's owner.
    const addresses = networkOwner(entry) === undefined ? given : [];
    this.#addresses.set(entry, intern(network), addresses);
    for (const address of addresses) this.#waiters.notify(address);
  }

  /** It has these addresses, and none on other networks. */
  replaceAddresses(entry: OwnEntry, byNetwork: AddressesByNetwork): void {
    this.#addresses.removeAssigned(entry);
    for (const [network, addresses] of byNetwork) this.setAddresses(entry, network, addresses);
  }

  /** A label's claim (Rancher's) takes no address from a container that the engine assigned it to. */
  claimAddress(entry: OwnEntry): void {
    const address = entry.container?.labelledAddress;
    if (address === undefined || networkOwner(entry) !== undefined) return;
    if (this.#addresses.claim(entry, address)) this.#waiters.notify(address);
  }

  removeEndpoint(id: string, network: string): void {
    for (const listener of this.#removals) listener.endpointRemoved(id, network);
    const entry = this.#entries.get(id);
    if (!entry) return;
    this.setAddresses(entry, network, []);
    // Its start failed: there will be no `die`.
    if (!entry.running && !this.#addresses.hasAddresses(entry)) this.#end(entry);
  }

  /** It has ended; with `forget` it does not exist any more either. */
  remove(id: string, forget: boolean): void {
    for (const listener of this.#removals) listener.containerRemoved(id);
    const entry = this.#entries.get(id);
    if (!entry) return;
    this.#addresses.remove(entry);
    this.#end(entry);
    if (forget) this.#forget(id);
  }

  /**
   * Starts again from a list of the engine: removes all addresses, and the containers that the list does not show.
   *
   * @param own tombstones of the lookup that made the list
   */
  replaceAll(running: ReadonlySet<string>, existing: ReadonlySet<string>, own: Tombstones): void {
    for (const listener of this.#removals) if (listener !== own) listener.allReplaced();
    for (const entry of this.#entries.values()) {
      this.#addresses.remove(entry);
      if (!running.has(entry.id) && (entry.started || entry.running)) this.#end(entry);
      if (!existing.has(entry.id)) this.#forget(entry.id);
    }
  }

  /** Forgets an entry that only a question for its id has made: no event would remove it. */
  forgetIfEmpty(id: string): void {
    const entry = this.#entries.get(id);
    if (entry && !entry.container && !entry.running && !this.#addresses.hasAddresses(entry)) this.#forget(id);
  }

  #end(entry: OwnEntry): void {
    if (entry.started && entry.container) {
      for (const listener of this.#listeners) listener.ended(entry.container);
      // It may be restarting.
      const owner = networkOwner(entry);
      if (owner !== undefined) this.#waiters.forgetMiss(owner);
    }
    entry.started = false;
    entry.running = false;
    const oldest = this.#ended.set(entry.id, true);
    if (oldest !== undefined) this.#forget(oldest);
  }

  #forget(id: string): void {
    const entry = this.#entries.get(id);
    if (!entry) return;
    this.#addresses.remove(entry);
    const owner = networkOwner(entry);
    if (owner !== undefined) {
      const peers = this.#peers.get(owner);
      peers?.delete(entry);
      if (peers?.size === 0) this.#peers.delete(owner);
      this.#waiters.notify(owner);
    }
    this.#ended.delete(id);
    this.#entries.delete(id);
  }
}

/** The id of the container whose network it shares. */
function networkOwner({ container }: Entry): string | undefined {
  return typeof container?.network === 'object' ? container.network.sharedWith : undefined;
}
