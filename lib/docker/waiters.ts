/**
 * Waits until a key is notified, with a negative cache of waits that timed out. Knows nothing of Docker.
 *
 * `notify` wakes every waiter of a key and forgets the cached miss, both synchronously. A waiter's continuation runs
 * later, so it must look at the state again and not assume what woke it.
 */

import type { Clock } from '../util/clock.ts';

/** Negative-cache TTL: a caller that is not a Docker container makes three requests in a row; only the first may wait. */
const NEGATIVE_TTL_MS = 5_000;
/** The negative cache starts again when it is full: random keys must not fill the memory. */
const MAX_MISSES = 1_000;

export class Waiters {
  readonly #clock: Clock;
  readonly #waiting = new Map<string, Set<() => void>>();
  /** When each key was last waited for without success. */
  readonly #misses = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Resolves when the key is notified, or after the timeout. */
  wait(key: string, timeoutMs: number): Promise<void> {
    if (timeoutMs <= 0) return Promise.resolve();
    return new Promise((resolve) => {
      const waiting = this.#waiting.get(key) ?? new Set();
      const done = (): void => {
        cancel();
        waiting.delete(done);
        if (waiting.size === 0) this.#waiting.delete(key);
        resolve();
      };
      const cancel = this.#clock.after(timeoutMs, done);
      this.#waiting.set(key, waiting.add(done));
    });
  }

  notify(key: string): void {
    this.#misses.delete(key);
    for (const done of this.#waiting.get(key) ?? []) done();
  }

  cacheMiss(key: string): void {
    // A miss that is still cached keeps its time: repeated questions must not prolong it.
    if (this.isMiss(key)) return;
    if (this.#misses.size >= MAX_MISSES) this.#misses.clear();
    this.#misses.set(key, this.#clock.monotonic());
  }

  /** Unlike `notify`, wakes no waiter. */
  forgetMiss(key: string): void {
    this.#misses.delete(key);
  }

  /** Whether a miss is cached that was so at a time, by the monotonic clock. */
  isMiss(key: string, at = this.#clock.monotonic()): boolean {
    return at <= this.missedAt(key) + NEGATIVE_TTL_MS;
  }

  /** By the monotonic clock, also after the TTL; -Infinity if never. */
  missedAt(key: string): number {
    return this.#misses.get(key) ?? -Infinity;
  }
}
