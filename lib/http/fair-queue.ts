/**
 * So many pieces of work for each address in each turn of the event loop, and the rest in the next ones: however much
 * one of them wants at once, the others wait for no more than that.
 */
export class FairQueue {
  readonly #limit: number;
  /** What has been done for an address in this turn, and who waits for the next one. */
  readonly #addresses = new Map<string, { done: number; waiting: (() => void)[] }>();

  /** @param most pieces for each address in a turn; Infinity for no limit */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** @returns undefined when it is the address's turn now, or a promise of when it will be */
  take(address: string): Promise<void> | undefined {
    if (this.#limit === Infinity) return undefined;
    const queue = this.#addresses.get(address);
    if (!queue) {
      this.#addresses.set(address, { done: 1, waiting: [] });
      if (this.#addresses.size === 1) setImmediate(() => this.#next());
      return undefined;
    }
    if (queue.done < this.#limit) {
      queue.done += 1;
      return undefined;
    }
    return new Promise((resolve) => queue.waiting.push(resolve));
  }

  #next(): void {
    for (const [address, queue] of this.#addresses) {
      const turn = queue.waiting.splice(0, this.#limit);
      if (turn.length === 0) this.#addresses.delete(address);
      queue.done = turn.length;
      for (const go of turn) go();
    }
    if (this.#addresses.size > 0) setImmediate(() => this.#next());
  }
}
