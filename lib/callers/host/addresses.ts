import { CallerUndetermined } from '../../caller.ts';
import type { Clock } from '../../util/clock.ts';
import { hostAddresses } from '../../util/host-addresses.ts';
import { isLoopback } from '../../util/ip-address.ts';

/** Interfaces come and go with containers; so long a new address of the host belongs to nobody. */
const ADDRESSES_TTL_MS = 1_000;

/** The host's own addresses, kept for a second: asking the system takes longer than answering a request. */
export class HostAddresses {
  readonly #clock: Clock;
  readonly #read: () => Iterable<string>;
  #addresses: ReadonlySet<string> = new Set();
  #expiresAt = -Infinity;

  constructor(clock: Clock, read: () => Iterable<string> = hostAddresses) {
    this.#clock = clock;
    this.#read = read;
  }

  /**
   * @param address in its normal form
   * @throws CallerUndetermined when the system does not tell its addresses
   */
  has(address: string): boolean {
    if (isLoopback(address)) return true;
    const now = this.#clock.monotonic();
    if (now >= this.#expiresAt) {
      try {
        this.#addresses = new Set(this.#read());
      } catch (error) {
        throw new CallerUndetermined((error as Error).message, { cause: error });
      }
      this.#expiresAt = now + ADDRESSES_TTL_MS;
    }
    return this.#addresses.has(address);
  }
}
