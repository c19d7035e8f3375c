import type { Clock } from '../util/clock.ts';

interface Permits {
  taken: number;
  /** Those that wait for a permit, the longest waiting first. */
  readonly waiting: Set<() => void>;
}

/** A semaphore for each address. When all permits are taken, `acquire` waits for one until the timeout. */
export class Semaphore {
  readonly #limit: number;
  readonly #timeout: number;
  readonly #clock: Clock;
  readonly #addresses = new Map<string, Permits>();

  /**
   * @param limit permits of each address
   * @param timeout milliseconds
   */
  constructor(limit: number, timeout: number, clock: Clock) {
    this.#limit = limit;
    this.#timeout = timeout;
    this.#clock = clock;
  }

  /** @returns whether a permit was acquired, which must be released then, or a promise of that */
  acquire(address: string): boolean | Promise<boolean> {
    let permits = this.#addresses.get(address);
    if (!permits) this.#addresses.set(address, (permits = { taken: 0, waiting: new Set() }));
    if (permits.taken < this.#limit) {
      permits.taken += 1;
      return true;
    }
    const { waiting } = permits;
    return new Promise((resolve) => {
      const cancel = this.#clock.after(this.#timeout, () => {
        waiting.delete(grant);
        resolve(false);
      });
      const grant = (): void => {
        cancel();
        resolve(true);
      };
      waiting.add(grant);
    });
  }

  release(address: string): void {
    const permits = this.#addresses.get(address);
    if (!permits) return;
    // The permit goes straight to the next one that waits, so that no newcomer overtakes it.
    for (const grant of permits.waiting) {
      permits.waiting.delete(grant);
      return grant();
    }
    permits.taken -= 1;
    if (permits.taken === 0) this.#addresses.delete(address);
  }
}
