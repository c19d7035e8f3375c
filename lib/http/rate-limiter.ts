/** An address that was quiet for so long may ask as much at once as it may in this time. */
const BURST_MS = 1_000;
/** More addresses than any host has containers. */
const MAX_ADDRESSES = 10_000;

/**
 * How fast one address may ask: so many requests a second, and a burst of as many at once. Each address is one number,
 * the time at which its next request is due (the generic cell rate algorithm).
 */
export class RateLimiter {
  readonly #interval: number;
  readonly #now: () => number;
  readonly #due = new Map<string, number>();

  /**
   * @param perSecond 0 for no limit
   * @param now milliseconds
   */
  constructor(perSecond: number, now: () => number) {
    this.#interval = perSecond === 0 ? 0 : 1000 / perSecond;
    this.#now = now;
  }

  /**
   * Counts a request.
   *
   * @returns milliseconds that it has to wait; more than 1000 for one that is not counted, because it is too much
   */
  delay(address: string): number {
    if (this.#interval === 0) return 0;
    const now = this.#now();
    const due = Math.max(this.#due.get(address) ?? 0, now - BURST_MS) + this.#interval;
    if (due - now > BURST_MS) return due - now;
    if (this.#due.size >= MAX_ADDRESSES && !this.#due.has(address)) this.#forget(now);
    this.#due.set(address, due);
    return Math.max(due - now, 0);
  }

  /** An address whose burst is whole again is like one that never asked. */
  #forget(now: number): void {
    for (const [address, due] of this.#due) if (due <= now - BURST_MS) this.#due.delete(address);
  }
}
