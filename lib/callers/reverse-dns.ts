import { lookupService } from 'node:dns/promises';
import { BoundedMap } from '../util/bounded-map.ts';
import { withTimeout, type Clock } from '../util/clock.ts';
import type { Container } from '../docker/container.ts';

export interface ReverseDnsOptions {
  containers: () => Iterable<Container>;
  /** What of both names is compared: the first group, or without one the whole match. */
  pattern: RegExp;
  clock: Clock;
  /** From an address to its name; rejects when it has none. */
  nameOf?: (address: string) => Promise<string>;
}

const LOOKUP_TIMEOUT_MS = 1_000;
/** A name stands for so long; a container that gets the address meanwhile would get the name's role. */
const CACHE_TTL_MS = 5_000;
/** Addresses that are remembered at once, at the most. */
const MAX_CACHED = 1_000;
/** Source: RFC 1035, section 2.3.4. */
const MAX_NAME_LENGTH = 255;

/**
 * Finds the container whose `hostname.domainname` is the name that DNS (or /etc/hosts) gives to an address. Whoever
 * answers that DNS decides which role an address has: it is off unless an operator wants it.
 */
export class ReverseDns {
  readonly #options: ReverseDnsOptions;
  readonly #names = new BoundedMap<string, { name: Promise<string | undefined>; until: number }>(MAX_CACHED);

  constructor(options: ReverseDnsOptions) {
    this.#options = options;
  }

  async resolve(address: string): Promise<Container | undefined> {
    const name = this.#compared((await this.#nameOf(address)) ?? '');
    if (name === undefined) return undefined;
    const matching = [...this.#options.containers()].filter(({ hostname }) => this.#compared(hostname) === name);
    // Two containers of one name cannot be told apart, and neither may have the other's role.
    return matching.length === 1 ? matching[0] : undefined;
  }

  #nameOf(address: string): Promise<string | undefined> {
    const { clock, nameOf = systemName } = this.#options;
    const known = this.#names.get(address);
    if (known && clock.monotonic() < known.until) return known.name;
    const name = withTimeout(clock, LOOKUP_TIMEOUT_MS, nameOf(address), () => new Error('too slow')).catch(() => undefined);
    this.#names.set(address, { name, until: clock.monotonic() + CACHE_TTL_MS });
    return name;
  }

  #compared(name: string): string | undefined {
    // A container's name may be of any length, and what is done with it takes the square of that.
    if (name.length > MAX_NAME_LENGTH) return undefined;
    const match = this.#options.pattern.exec(name.replace(/\.+$/, ''));
    // Not somewhere in the middle of a name that somebody else chose.
    if (match?.index !== 0) return undefined;
    return (match[1] ?? match[0]).toLowerCase() || undefined;
  }
}

async function systemName(address: string): Promise<string> {
  const { hostname } = await lookupService(address, 0);
  if (hostname === address) throw new Error('no name');
  return hostname;
}
