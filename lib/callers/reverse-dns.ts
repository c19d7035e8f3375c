import { Resolver } from 'node:dns/promises';
import { readFile } from 'node:fs/promises';
import { CallerUndetermined } from '../caller.ts';
import { BoundedMap } from '../util/bounded-map.ts';
import { withTimeout, type Clock } from '../util/clock.ts';
import type { Container } from '../docker/container.ts';
import { normalAddress } from '../util/ip-address.ts';

export interface ReverseDnsOptions {
  containers: () => Iterable<Container>;
  /** Selects the part of both names to compare: its first group, or without one its whole match. */
  pattern: RegExp;
  clock: Clock;
  /** Rejects when the address has no name, and soon after the signal. */
  nameOf?: (address: string, signal: AbortSignal) => Promise<string>;
}

/** For one look-up, and for its wait until the one before has ended. */
const LOOKUP_TIMEOUT_MS = 1_000;
/** For one query to one server; three of them find the second or third server of resolv.conf within the second. */
const QUERY_TIMEOUT_MS = 300;
const MAX_QUERIES = 3;
/** Short, because a container that gets the address in the meantime would get the role of the name's owner. */
const CACHE_TTL_MS = 5_000;
const MAX_CACHED = 1_000;
/** Source: RFC 1035, section 2.3.4. */
const MAX_NAME_LENGTH = 255;

const HOSTS_FILE = '/etc/hosts';

/**
 * Finds the container whose `hostname.domainname` is the name that DNS (or /etc/hosts) gives to an address. Whoever
 * controls that DNS decides which role an address has, so it is off by default.
 *
 * Callers choose how many look-ups there are, so they run one at a time, and never on the four threads that Node has for
 * `dns.lookup` and files: eight look-ups without an answer kept the proxy from finding STS for 40 seconds.
 */
export class ReverseDns {
  readonly #options: ReverseDnsOptions;
  readonly #names = new BoundedMap<string, { name: Promise<string | undefined>; until: number }>(MAX_CACHED);
  /** Resolves when the latest look-up has ended; undefined when none is running. */
  #latest: Promise<unknown> | undefined;

  constructor(options: ReverseDnsOptions) {
    this.#options = options;
  }

  /** @throws CallerUndetermined when too many other look-ups came first */
  async resolve(address: string): Promise<Container | undefined> {
    const name = this.#compared((await this.#nameOf(address)) ?? '');
    if (name === undefined) return undefined;
    const matching = [...this.#options.containers()].filter(({ hostname }) => this.#compared(hostname) === name);
    // Two containers with one name cannot be told apart, and neither may have the other's role.
    return matching.length === 1 ? matching[0] : undefined;
  }

  #nameOf(address: string): Promise<string | undefined> {
    const { clock } = this.#options;
    const known = this.#names.get(address);
    if (known && clock.monotonic() < known.until) return known.name;
    const expires = clock.monotonic() + LOOKUP_TIMEOUT_MS;
    const lookUp = (): Promise<string | undefined> => this.#lookUp(address, expires);
    const name = this.#latest ? this.#latest.then(lookUp) : lookUp();
    const entry = { name, until: Infinity };
    this.#names.set(address, entry);
    const ended = name.then(
      () => (entry.until = clock.monotonic() + CACHE_TTL_MS),
      () => (entry.until = -Infinity),
    ).finally(() => {
      if (this.#latest === ended) this.#latest = undefined;
    });
    this.#latest = ended;
    return name;
  }

  /** @param expires when the caller has waited too long for its turn */
  async #lookUp(address: string, expires: number): Promise<string | undefined> {
    const { clock, nameOf = systemName } = this.#options;
    if (clock.monotonic() >= expires) throw new CallerUndetermined('too many reverse DNS look-ups are waiting');
    const controller = new AbortController();
    const late = (): Error => new Error('too slow');
    return withTimeout(clock, LOOKUP_TIMEOUT_MS, nameOf(address, controller.signal), late)
      .catch(() => undefined)
      .finally(() => controller.abort());
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

async function systemName(address: string, signal: AbortSignal): Promise<string> {
  return hostsName(await readFile(HOSTS_FILE, 'utf8').catch(() => ''), address) ?? dnsName(address, signal);
}

/** @returns the first name that a hosts file has for an address */
export function hostsName(file: string, address: string): string | undefined {
  for (const line of file.split('\n')) {
    const [entry = '', name] = line.replace(/#.*/, '').trim().split(/\s+/);
    if (name !== undefined && normalAddress(entry) === address) return name;
  }
  return undefined;
}

/**
 * Asks c-ares, which needs no thread. A new resolver reads resolv.conf again, as `getnameinfo` does.
 *
 * @param servers those of resolv.conf if it is undefined
 */
export async function dnsName(address: string, signal: AbortSignal, servers?: readonly string[]): Promise<string> {
  const resolver = new Resolver({ timeout: QUERY_TIMEOUT_MS, tries: MAX_QUERIES });
  if (servers) resolver.setServers(servers);
  signal.addEventListener('abort', () => resolver.cancel(), { once: true });
  const [name] = await resolver.reverse(address);
  if (name === undefined) throw new Error('no name');
  return name;
}
