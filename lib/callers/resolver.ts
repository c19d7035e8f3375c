import { CallerUndetermined, rethrowUndetermined, UnknownCaller, type Caller, type DemoCaller } from '../caller.ts';
import type { ContainerDirectory } from '../docker/directory.ts';
import { isLoopback } from '../util/ip-address.ts';
import { anyMapped, type AddressMapping } from './address-mapping.ts';
import type { Connection } from './connection.ts';
import type { HostAddresses } from './host/addresses.ts';
import type { HostNetwork } from './host/network.ts';

/** A source of callers besides the container directory: a Mesos agent, reverse DNS. */
export interface OtherSource {
  /** @throws CallerUndetermined when the source cannot be asked */
  resolve(address: string): Promise<Caller | undefined>;
}

export interface CallerResolverOptions {
  directory: Pick<ContainerDirectory, 'resolve' | 'peek'>;
  /** ROLE_MAPPING_FILE as it is now. */
  mapping: () => AddressMapping | undefined;
  /** In this order, for addresses that the directory does not know. */
  others: readonly OtherSource[];
  hostAddresses: Pick<HostAddresses, 'has'>;
  /** Undefined without HOST_NETWORK. */
  hostNetwork?: Pick<HostNetwork, 'resolve' | 'peek'> | undefined;
  /** The caller for loopback addresses in a demonstration. */
  demo?: DemoCaller | undefined;
}

/**
 * The only answer to "who is calling". The first of these that knows the address decides:
 *
 *   1. the demonstration's caller, for loopback
 *   2. an entry of ROLE_MAPPING_FILE for this very address
 *   3. for an address of the host itself, with HOST_NETWORK: the process that holds the connection, and nobody else
 *   4. the container directory
 *   5. the other sources
 *   6. the entry `*` of ROLE_MAPPING_FILE
 */
export class CallerResolver {
  readonly #options: CallerResolverOptions;

  constructor(options: CallerResolverOptions) {
    this.#options = options;
  }

  /**
   * Returns the caller itself, without a promise, where nothing has to be waited for.
   *
   * @throws UnknownCaller when there is no caller, CallerUndetermined when it cannot be determined now
   */
  resolve(connection: Connection): Caller | Promise<Caller> {
    const { address } = connection;
    const { directory, others, hostNetwork } = this.#options;
    const fixed = this.#fixed(address);
    if (fixed) return fixed;
    if (hostNetwork && this.isHost(address)) return hostNetwork.peek(connection) ?? hostNetwork.resolve(connection);
    if (others.length > 0 || this.#options.mapping()) return this.#askAll(address);
    const found = directory.resolve(address);
    if (!(found instanceof Promise)) return known(found, address);
    return found.then((container) => known(container, address), rethrowUndetermined);
  }

  /** What is known without waiting. For everything but credentials: it may be out of date. Never throws. */
  peek(connection: Connection): Caller | undefined {
    const { address } = connection;
    const { directory, hostNetwork } = this.#options;
    const fixed = this.#fixed(address);
    if (fixed) return fixed;
    try {
      return hostNetwork && this.isHost(address) ? hostNetwork.peek(connection) : directory.peek(address);
    } catch (error) {
      if (error instanceof CallerUndetermined) return undefined;
      throw error;
    }
  }

  /**
   * Resolves a caller that `peek` cannot know before `resolve` has found it: one on the host's network.
   *
   * @returns a promise that never rejects; undefined when there is nothing to wait for
   */
  ensureResolved(connection: Connection): Promise<unknown> | undefined {
    const { address } = connection;
    const { hostNetwork } = this.#options;
    if (!hostNetwork || this.#fixed(address) || !this.isHost(address) || hostNetwork.peek(connection)) return undefined;
    return hostNetwork.resolve(connection).catch(() => {});
  }

  /**
   * Whether an address is one of the host itself. It is not if the engine gave it to a container. It is if only a
   * container's label claims it: the label must not make one container of everything on the host.
   *
   * @throws CallerUndetermined when the system does not tell its addresses
   */
  isHost(address: string): boolean {
    const container = this.#options.directory.peek(address);
    const isFact = container !== undefined && container.labelledAddress !== address;
    return !isFact && this.#options.hostAddresses.has(address);
  }

  /** The caller that the settings alone give an address. */
  #fixed(address: string): Caller | undefined {
    const { demo, mapping } = this.#options;
    return demo && isLoopback(address) ? demo : mapping()?.get(address);
  }

  async #askAll(address: string): Promise<Caller> {
    const { directory, others, mapping } = this.#options;
    const mapped = mapping();
    let undetermined: CallerUndetermined | undefined;
    const containers: OtherSource = { resolve: async () => directory.resolve(address) };
    for (const source of [containers, ...others]) {
      try {
        const found = await source.resolve(address).catch(rethrowUndetermined);
        if (found) return found;
      } catch (error) {
        if (!(error instanceof CallerUndetermined)) throw error;
        undetermined = error;
      }
    }
    // While one source cannot be asked, the address may belong to a caller of that source.
    if (undetermined) throw undetermined;
    return known(mapped && anyMapped(mapped), address);
  }
}

function known<T extends Caller>(caller: T | undefined, address: string): T {
  if (!caller) throw new UnknownCaller(`no container has the address ${address}`);
  return caller;
}
