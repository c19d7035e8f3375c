import { DirectoryUnavailable, type Container } from '../containers/container.ts';
import type { ContainerDirectory } from '../containers/directory.ts';
import { anyMapped, type AddressMapping } from '../roles/address-mapping.ts';

/** Somebody else who may know whose an address is. */
export interface OtherSource {
  find(address: string): Promise<Container | undefined>;
}

export interface CallerFinderOptions {
  directory: Pick<ContainerDirectory, 'find'>;
  mapping: () => AddressMapping | undefined;
  /** Asked in turn about what the directory does not know. */
  others: readonly OtherSource[];
}

/**
 * Who is behind an address: first what an operator mapped to it, then Docker's container, then whoever else knows, and
 * last what an operator mapped to everybody.
 */
export class CallerFinder {
  readonly #options: CallerFinderOptions;

  constructor(options: CallerFinderOptions) {
    this.#options = options;
  }

  /** @throws DirectoryUnavailable when it cannot be told now */
  find(address: string): Container | undefined | Promise<Container | undefined> {
    const { directory, mapping, others } = this.#options;
    const mapped = mapping();
    if (!mapped && others.length === 0) return directory.find(address);
    return mapped?.get(address) ?? this.#ask(address, mapped);
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
