/** The burst: as many requests as the rate allows in this time. */
const BURST_MS = 1_000;
/** More addresses than any host has containers. */
const MAX_ADDRESSES = 10_000;

/**
 * Limits the rate of each address by the generic cell rate algorithm (GCRA): an address is one number, the time at which
 * its next request is due.
 */
export class RateLimiter {
  readonly #interval: number;
  readonly #now: () => number;
  readonly #due = new Map<string, number>();

  /**
   * @param perSecond 0 for no limit
   * @param now milliseconds, monotonic
   */
  constructor(perSecond: number, now: () => number) {
    this.#interval = perSecond === 0 ? 0 : 1000 / perSecond;
    this.#now = now;
  }

  /**
   * Counts a request.
   *
   * @returns the milliseconds that it has to wait; more than 1000 for one that is rate-limited, and not counted
   */
  delay(address: string): number {
    if (this.#interval === 0) return 0;
    const now = this.#now();
    const due = Math.max(this.#due.get(address) ?? 0, now - BURST_MS) + this.#interval;
    if (due - now > BURST_MS) return due - now;
    if (this.#due.size >= MAX_ADDRESSES && !this.#due.has(address)) this.#deleteIdle(now);
    this.#due.set(address, due);
    return Math.max(due - now, 0);
  }

  /** An address with its whole burst left is like one without a request. */
  #deleteIdle(now: number): void {
    for (const [address, due] of this.#due) if (due <= now - BURST_MS) this.#due.delete(address);
  }
}
