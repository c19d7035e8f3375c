/**
 * Reads all containers from a list, and inspects those that are new. Changes the registry synchronously after its last
 * await.
 */

import { GATEWAY_BRIDGE } from './address-lookups.ts';
import type { EngineTraits } from './confirmed-answers.ts';
import type { Engine, ListedContainer } from './engine.ts';
import type { Lookups } from './lookups.ts';
import type { AddressesByNetwork, Registry } from './registry.ts';

export interface ReadOptions {
  engine: Pick<Engine, 'allContainers' | 'networkAddresses'>;
  registry: Registry;
  lookups: Lookups;
}

const TOO_LARGE = 'its labels fill more than a megabyte of the list of containers';

/**
 * `replace` removes everything that the engine does not show. So does `renew`, while events are followed, but for
 * containers that are about to run. `add` leaves removals to the events, unless those may be late or lost.
 */
export type ReadMode = 'replace' | 'renew' | 'add';

export async function readAll({ engine, registry, lookups }: ReadOptions, traits: EngineTraits, mode: ReadMode): Promise<void> {
  await registry.withTombstones(async (tombstones) => {
    const { starts } = registry;
    const before = traits.needsConfirmation ? registry.running() : [];
    const [listed, gateway] = await Promise.all([engine.allContainers(), engine.networkAddresses(GATEWAY_BRIDGE)]);
    const running = listed.filter((one) => one.running);
    for (const { id, isTooLarge } of listed) if (isTooLarge) lookups.reject(id, new Error(TOO_LARGE));
    const isUnknown = ({ id }: ListedContainer): boolean => !registry.entry(id)?.container;
    await lookups.inspectAll(running.filter(isUnknown));

    const shown = new Map<string, AddressesByNetwork>(running.map(({ id, addresses }) => [id, addresses]));
    // A task that is starting is on the bridge before the engine lists it as running.
    for (const [id, found] of gateway ?? []) {
      if (found.length > 0 && registry.entry(id)) shown.set(id, new Map(shown.get(id)).set(GATEWAY_BRIDGE, found));
    }
    const existing = new Set(listed.map(({ id }) => id));
    if (mode !== 'add') registry.removeOthers({ shown, existing, starts, keepStarting: mode === 'renew' }, tombstones);
    else for (const id of before) if (!shown.has(id) && !tombstones.hasContainer(id)) registry.remove(id, false);
    // In the background: `peersKnown` waits for them where it matters.
    for (const one of listed) {
      if (traits.mayBecomePeer(one) && isUnknown(one)) void lookups.inspect(one.id).catch(() => {});
    }
    for (const { id, name } of running) {
      const entry = registry.entry(id);
      if (!entry || tombstones.hasContainer(id)) continue;
      registry.setRunning(entry);
      registry.rename(id, name);
    }
    for (const [id, networks] of shown) {
      const entry = registry.entry(id);
      if (!entry || tombstones.hasContainer(id)) continue;
      for (const [network, found] of networks) {
        if (!tombstones.hasEndpoint(id, network)) registry.setAddresses(entry, network, found);
      }
      registry.start(entry);
      registry.claimAddress(entry);
    }
  });
}
