import { DirectoryUnavailable, type Container } from '../docker/container.ts';
import type { ContainerDirectory } from '../docker/directory.ts';
import { anyMapped, type AddressMapping } from './address-mapping.ts';
import type { Connection, HostNetwork } from './host/network.ts';

/** Somebody else who may know whose an address is. */
export interface OtherSource {
  resolve(address: string): Promise<Container | undefined>;
}

export interface CallerResolverOptions {
  directory: Pick<ContainerDirectory, 'resolve' | 'peek' | 'peersKnown'>;
  mapping: () => AddressMapping | undefined;
  /** Asked in turn about what the directory does not know. */
  others: readonly OtherSource[];
  /** Knows who is behind the host's own addresses, which tell nothing by themselves. */
  hostNetwork?: Pick<HostNetwork, 'isHostAddress' | 'resolve' | 'peek'> | undefined;
}

/**
 * Who is behind an address: first what an operator mapped to it, then Docker's container, then whoever else knows, and
 * last what an operator mapped to everybody. Behind an address of the host itself it is the process that counts, and
 * neither the others nor what is mapped to everybody.
 */
export class CallerResolver {
  readonly #options: CallerResolverOptions;

  constructor(options: CallerResolverOptions) {
    this.#options = options;
  }

  /** @throws DirectoryUnavailable when it cannot be told now, UnknownCaller with why it is nobody */
  resolve(address: string, connection: Connection): Container | undefined | Promise<Container | undefined> {
    const { directory, mapping, others } = this.#options;
    const mapped = mapping();
    const host = this.#hostNetworkOf(address);
    if (host) return mapped?.get(address) ?? host.peek(connection) ?? host.resolve(address, connection);
    if (!mapped && others.length === 0) return directory.resolve(address);
    return mapped?.get(address) ?? this.#ask(address, mapped);
  }

  /** What is known without asking anybody; for what need not be right at any price. */
  peek(address: string, connection: Connection): Container | undefined {
    const host = this.#hostNetworkOf(address);
    return host ? host.peek(connection) : this.#options.directory.peek(address);
  }

  /**
   * Finds out what `peek` could not tell without.
   *
   * @returns a promise that never rejects; undefined when there is nothing to wait for
   */
  ensureResolved(address: string, connection: Connection): Promise<unknown> | undefined {
    const host = this.#hostNetworkOf(address);
    return host && !host.peek(connection) ? host.resolve(address, connection).catch(() => {}) : undefined;
  }

  /** See ContainerDirectory. */
  peersKnown(container: Container): Promise<void> | undefined {
    return this.#options.directory.peersKnown(container);
  }

  #hostNetworkOf(address: string): CallerResolverOptions['hostNetwork'] {
    const { directory, hostNetwork } = this.#options;
    if (!hostNetwork) return undefined;
    // What a label claims (Rancher's) is not to make one container everybody on the host.
    const container = directory.peek(address);
    const isContainers = container !== undefined && container.labelledAddress !== address;
    return !isContainers && hostNetwork.isHostAddress(address) ? hostNetwork : undefined;
  }

  async #ask(address: string, mapped: AddressMapping | undefined): Promise<Container | undefined> {
    let unavailable: DirectoryUnavailable | undefined;
    for (const source of [this.#options.directory, ...this.#options.others]) {
      try {
        const found = await source.resolve(address);
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
