/** Limits concurrent tasks. Waiting tasks run in order, urgent ones first. */
export class PrioritySemaphore {
  readonly #limit: number;
  #running = 0;
  #waiting: { start: () => void; isUrgent: () => boolean }[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** @param isUrgent checked whenever a permit is released, because a task can become urgent while it waits */
  async run<T>(task: () => Promise<T>, isUrgent: () => boolean): Promise<T> {
    if (this.#running < this.#limit) this.#running += 1;
    else await new Promise<void>((start) => this.#waiting.push({ start, isUrgent }));
    try {
      return await task();
    } finally {
      // Hand the permit directly to the next task, so that a new one cannot overtake it.
      const next = this.#waiting.find((candidate) => candidate.isUrgent()) ?? this.#waiting[0];
      this.#waiting = this.#waiting.filter((other) => other !== next);
      if (next) next.start();
      else this.#running -= 1;
    }
  }
}
