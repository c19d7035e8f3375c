/**
 * At most so many tasks at once; the others wait their turn, the urgent ones first.
 */
export class PrioritySemaphore {
  readonly #limit: number;
  #running = 0;
  #waiting: { start: () => void; isUrgent: () => boolean }[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** @param isUrgent asked whenever a place becomes free, because somebody may have begun to wait meanwhile */
  async run<T>(task: () => Promise<T>, isUrgent: () => boolean): Promise<T> {
    if (this.#running < this.#limit) this.#running += 1;
    else await new Promise<void>((start) => this.#waiting.push({ start, isUrgent }));
    try {
      return await task();
    } finally {
      // The place goes straight to the next one, so that nobody overtakes.
      const next = this.#waiting.find((candidate) => candidate.isUrgent()) ?? this.#waiting[0];
      this.#waiting = this.#waiting.filter((other) => other !== next);
      if (next) next.start();
      else this.#running -= 1;
    }
  }
}
