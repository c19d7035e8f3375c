/**
 * Looks up the addresses that events announce: each `network connect` names a network, whose inspect the engine answers
 * at once, even while the container is starting. Calls for one network are coalesced into rounds.
 *
 * Interleaving: while a round awaits the engine, events are applied.
 *
 *   wanted meanwhile    goes into the next round, because the answer in flight may be too old for it
 *   removed meanwhile   the round's tombstones keep the address from coming back
 *   removed while it    is not looked up any more: until its `network disconnect` the engine still shows the endpoint of
 *   waits for a round   a dead container
 *
 * A round's answer is brought into the registry synchronously.
 */

import { sleep, type Clock } from '../util/clock.ts';
import type { Engine } from './engine.ts';
import type { Registry } from './registry.ts';

/** Swarm's overlay containers reach the host through this bridge, which no container's inspect shows. */
export const GATEWAY_BRIDGE = 'docker_gwbridge';
/**
 * A Swarm task gets its address there a few milliseconds before or after the overlay's (measured), and no event announces
 * it. So the bridge is read again until about when the task's process runs.
 */
const GATEWAY_RETRY_MS = 25;
const MAX_GATEWAY_TRIES = 12;

export interface AddressLookupOptions {
  engine: Pick<Engine, 'networkAddresses'>;
  clock: Clock;
  registry: Registry;
  /** Learns who a container is. */
  inspect: (id: string) => Promise<void>;
}

export class AddressLookups {
  readonly #options: AddressLookupOptions;
  /** Networks being looked up, each with the containers of the next round. */
  readonly #networks = new Map<string, { readonly wanted: Set<string>; readonly done: Promise<void> }>();
  #closed = false;

  constructor(options: AddressLookupOptions) {
    this.#options = options;
    options.registry.onRemoval({
      containerRemoved: (id) => {
        for (const { wanted } of this.#networks.values()) wanted.delete(id);
      },
      endpointRemoved: (id, network) => this.#networks.get(network)?.wanted.delete(id),
      allReplaced: () => {},
    });
  }

  close(): void {
    this.#closed = true;
  }

  /** Resolves when every address is known that an event has announced so far. Never rejects. */
  async announced(): Promise<void> {
    await Promise.all([...this.#networks.values()].map(({ done }) => done));
  }

  /** Looks up a container's addresses on a network. Never rejects: the container's start reads what failed. */
  lookUp(id: string, network: string): Promise<void> {
    const { registry, inspect } = this.#options;
    if (!registry.ensure(id).container) void inspect(id).catch(() => {});
    const pending = this.#networks.get(network);
    if (pending) {
      pending.wanted.add(id);
      return pending.done;
    }
    const wanted = new Set([id]);
    const done = this.#rounds(network, wanted)
      .catch(() => {})
      .finally(() => this.#networks.delete(network));
    this.#networks.set(network, { wanted, done });
    return done;
  }

  /** Looks up a Swarm task's address on the gateway bridge in the background, and tries again while it has none. */
  lookUpOnGateway(id: string, tries = MAX_GATEWAY_TRIES): void {
    void this.#lookUpOnGateway(id, tries);
  }

  async #lookUpOnGateway(id: string, tries: number): Promise<void> {
    const { registry, clock } = this.#options;
    const entry = registry.ensure(id);
    registry.setUsesOverlay(entry);
    await this.lookUp(id, GATEWAY_BRIDGE);
    if (tries === 1 || registry.addresses.isOn(entry, GATEWAY_BRIDGE) || registry.entry(id) !== entry) return;
    await sleep(clock, GATEWAY_RETRY_MS);
    // An ended container must not get its address back.
    if (!this.#closed && !registry.hasEnded(id)) await this.#lookUpOnGateway(id, tries - 1);
  }

  async #rounds(network: string, wanted: Set<string>): Promise<void> {
    const { engine, registry } = this.#options;
    while (wanted.size > 0) {
      const round = [...wanted];
      wanted.clear();
      await registry.withTombstones(async (tombstones) => {
        const found = await engine.networkAddresses(network);
        for (const id of round) {
          const addresses = found?.get(id) ?? [];
          const entry = registry.entry(id);
          if (!entry || addresses.length === 0 || tombstones.hasEndpoint(id, network)) continue;
          registry.setAddresses(entry, network, addresses);
          registry.start(entry);
        }
      });
    }
  }
}
