import type { Clock } from '../util/clock.ts';

interface Address {
  taken: number;
  /** Who waits for a place, the one that has waited the longest first. */
  readonly waiting: Set<() => void>;
}

/** So many places for each address. Whoever comes when all are taken waits for one, but not for ever. */
export class Places {
  readonly #most: number;
  readonly #patience: number;
  readonly #clock: Clock;
  readonly #addresses = new Map<string, Address>();

  /**
   * @param most of one address
   * @param patience milliseconds that one is waited for
   */
  constructor(most: number, patience: number, clock: Clock) {
    this.#most = most;
    this.#patience = patience;
    this.#clock = clock;
  }

  /** @returns whether there is a place, or a promise of that; who has one must leave it */
  take(address: string): boolean | Promise<boolean> {
    let places = this.#addresses.get(address);
    if (!places) this.#addresses.set(address, (places = { taken: 0, waiting: new Set() }));
    if (places.taken < this.#most) {
      places.taken += 1;
      return true;
    }
    const { waiting } = places;
    return new Promise((resolve) => {
      const cancel = this.#clock.after(this.#patience, () => {
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

  leave(address: string): void {
    const places = this.#addresses.get(address);
    if (!places) return;
    // The place goes straight to the next one, so that nobody overtakes.
    for (const go of places.waiting) {
      places.waiting.delete(go);
      return go();
    }
    places.taken -= 1;
    if (places.taken === 0) this.#addresses.delete(address);
  }
}
