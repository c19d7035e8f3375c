import { lookupService } from 'node:dns/promises';
import { BoundedMap } from '../util/bounded-map.ts';
import { withTimeout, type Clock } from '../util/clock.ts';
import type { Container } from '../docker/container.ts';

export interface ReverseDnsOptions {
  containers: () => Iterable<Container>;
  /** Selects the part of both names to compare: its first group, or without one its whole match. */
  pattern: RegExp;
  clock: Clock;
  /** Rejects when the address has no name. */
  nameOf?: (address: string) => Promise<string>;
}

const LOOKUP_TIMEOUT_MS = 1_000;
/** Short, because a container that gets the address in the meantime would get the role of the name's owner. */
const CACHE_TTL_MS = 5_000;
const MAX_CACHED = 1_000;
/** Source: RFC 1035, section 2.3.4. */
const MAX_NAME_LENGTH = 255;

/**
 * Finds the container whose `hostname.domainname` is the name that DNS (or /etc/hosts) gives to an address. Whoever
 * controls that DNS decides which role an address has, so it is off by default.
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
    // Two containers with one name cannot be told apart, and neither may have the other's role.
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
    // A container chooses its name's length, and matching can take quadratic time.
    if (name.length > MAX_NAME_LENGTH) return undefined;
    const match = this.#options.pattern.exec(name.replace(/\.+$/, ''));
    // A match inside a name that somebody else chose proves nothing.
    if (match?.index !== 0) return undefined;
    return (match[1] ?? match[0]).toLowerCase() || undefined;
  }
}

async function systemName(address: string): Promise<string> {
  const { hostname } = await lookupService(address, 0);
  if (hostname === address) throw new Error('no name');
  return hostname;
}
