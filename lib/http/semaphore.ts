import type { Clock } from '../util/clock.ts';

interface Address {
  taken: number;
  /** Who waits for a place, the one that has waited the longest first. */
  readonly waiting: Set<() => void>;
}

/** So many places for each address. Whoever comes when all are taken waits for one, but not for ever. */
export class Semaphore {
  readonly #limit: number;
  readonly #timeout: number;
  readonly #clock: Clock;
  readonly #addresses = new Map<string, Address>();

  /**
   * @param most of one address
   * @param patience milliseconds that one is waited for
   */
  constructor(limit: number, timeout: number, clock: Clock) {
    this.#limit = limit;
    this.#timeout = timeout;
    this.#clock = clock;
  }

  /** @returns whether there is a place, or a promise of that; who has one must leave it */
  acquire(address: string): boolean | Promise<boolean> {
    let state = this.#addresses.get(address);
    if (!state) this.#addresses.set(address, (state = { taken: 0, waiting: new Set() }));
    if (state.taken < this.#limit) {
      state.taken += 1;
      return true;
    }
    const { waiting } = state;
    return new Promise((resolve) => {
      const cancel = this.#clock.after(this.#timeout, () => {
        waiting.delete(go);
        resolve(false);
      });
      const go = (): void => {
        cancel();
        resolve(true);
      };
      waiting.add(go);
    });
  }

  release(address: string): void {
    const state = this.#addresses.get(address);
    if (!state) return;
    // The place goes straight to the next one, so that nobody overtakes.
    for (const go of state.waiting) {
      state.waiting.delete(go);
      return go();
    }
    state.taken -= 1;
    if (state.taken === 0) this.#addresses.delete(address);
  }
}
