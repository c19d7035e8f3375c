/**
 * At most so many tasks at once; the others wait their turn, the urgent ones first.
 */
export class Limiter {
  readonly #most: number;
  #running = 0;
  readonly #urgent: (() => void)[] = [];
  readonly #waiting: (() => void)[] = [];

  constructor(most: number) {
    this.#most = most;
  }

  async run<T>(task: () => Promise<T>, isUrgent: () => boolean): Promise<T> {
    if (this.#running < this.#most) this.#running += 1;
    else await new Promise<void>((resolve) => (isUrgent() ? this.#urgent : this.#waiting).push(resolve));
    try {
      return await task();
    } finally {
      // The place goes straight to the next one, so that nobody overtakes.
      const next = this.#urgent.shift() ?? this.#waiting.shift();
      if (next) next();
      else this.#running -= 1;
    }
  }
}
