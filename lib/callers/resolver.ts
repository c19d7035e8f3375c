import { DirectoryUnavailable, type Container } from '../docker/container.ts';
import type { ContainerDirectory } from '../docker/directory.ts';
import { anyMapped, type AddressMapping } from './address-mapping.ts';
import type { Connection, HostNetwork } from './host/network.ts';

/** Somebody else who may know whose an address is. */
export interface OtherSource {
  find(address: string): Promise<Container | undefined>;
}

export interface CallerFinderOptions {
  directory: Pick<ContainerDirectory, 'find' | 'glance' | 'sharersKnown'>;
  mapping: () => AddressMapping | undefined;
  /** Asked in turn about what the directory does not know. */
  others: readonly OtherSource[];
  /** Knows who is behind the host's own addresses, which tell nothing by themselves. */
  hostNetwork?: Pick<HostNetwork, 'isOwn' | 'find' | 'glance'> | undefined;
}

/**
 * Who is behind an address: first what an operator mapped to it, then Docker's container, then whoever else knows, and
 * last what an operator mapped to everybody. Behind an address of the host itself it is the process that counts, and
 * neither the others nor what is mapped to everybody.
 */
export class CallerFinder {
  readonly #options: CallerFinderOptions;

  constructor(options: CallerFinderOptions) {
    this.#options = options;
  }

  /** @throws DirectoryUnavailable when it cannot be told now, UnknownCaller with why it is nobody */
  find(address: string, connection: Connection): Container | undefined | Promise<Container | undefined> {
    const { directory, mapping, others } = this.#options;
    const mapped = mapping();
    const host = this.#hostNetworkOf(address);
    if (host) return mapped?.get(address) ?? host.glance(connection) ?? host.find(address, connection);
    if (!mapped && others.length === 0) return directory.find(address);
    return mapped?.get(address) ?? this.#ask(address, mapped);
  }

  /** What is known without asking anybody; for what need not be right at any price. */
  glance(address: string, connection: Connection): Container | undefined {
    const host = this.#hostNetworkOf(address);
    return host ? host.glance(connection) : this.#options.directory.glance(address);
  }

  /**
   * Finds out what `glance` could not tell without.
   *
   * @returns a promise that never rejects; undefined when there is nothing to wait for
   */
  settle(address: string, connection: Connection): Promise<unknown> | undefined {
    const host = this.#hostNetworkOf(address);
    return host && !host.glance(connection) ? host.find(address, connection).catch(() => {}) : undefined;
  }

  /** See ContainerDirectory. */
  sharersKnown(container: Container): Promise<void> | undefined {
    return this.#options.directory.sharersKnown(container);
  }

  #hostNetworkOf(address: string): CallerFinderOptions['hostNetwork'] {
    const { directory, hostNetwork } = this.#options;
    if (!hostNetwork) return undefined;
    // What a label claims (Rancher's) is not to make one container everybody on the host.
    const container = directory.glance(address);
    const isContainers = container !== undefined && container.labelledAddress !== address;
    return !isContainers && hostNetwork.isOwn(address) ? hostNetwork : undefined;
  }

  async #ask(address: string, mapped: AddressMapping | undefined): Promise<Container | undefined> {
    let unavailable: DirectoryUnavailable | undefined;
    for (const source of [this.#options.directory, ...this.#options.others]) {
      try {
        const found = await source.find(address);
        if (found) return found;
      } catch (error) {
        if (!(error instanceof DirectoryUnavailable)) throw error;
        unavailable = error;
      }
    }
    // As long as somebody cannot be asked, the address may be a container's.
    if (unavailable) throw unavailable;
    return mapped && anyMapped(mapped);
  }
}
