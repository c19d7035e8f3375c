/**
 * Fair scheduling: each iteration of the event loop takes so many requests of each address, and leaves the others to the
 * next iterations. However many one address has queued, those of the others wait for no more than that.
 */
export class FairQueue {
  readonly #limit: number;
  /** How many requests the current iteration has taken of an address, and those that wait for the next one. */
  readonly #addresses = new Map<string, { taken: number; waiting: (() => void)[] }>();

  /** @param limit requests of each address in an iteration; Infinity for no limit */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** @returns undefined when the request is taken in this iteration, or a promise of its turn */
  take(address: string): Promise<void> | undefined {
    if (this.#limit === Infinity) return undefined;
    const queue = this.#addresses.get(address);
    if (!queue) {
      this.#addresses.set(address, { taken: 1, waiting: [] });
      if (this.#addresses.size === 1) setImmediate(() => this.#next());
      return undefined;
    }
    if (queue.taken < this.#limit) {
      queue.taken += 1;
      return undefined;
    }
    return new Promise((resolve) => queue.waiting.push(resolve));
  }

  #next(): void {
    for (const [address, queue] of this.#addresses) {
      const turn = queue.waiting.splice(0, this.#limit);
      if (turn.length === 0) this.#addresses.delete(address);
      queue.taken = turn.length;
      for (const resolve of turn) resolve();
    }
    if (this.#addresses.size > 0) setImmediate(() => this.#next());
  }
}
