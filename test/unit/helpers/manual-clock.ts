import type { Clock } from '../../../lib/util/clock.ts';

interface Timer {
  readonly at: number;
  readonly action: () => void;
}

/** Time that stands still until a test moves it. */
export class ManualClock implements Clock {
  #now: number;
  readonly #timers = new Set<Timer>();

  /** @param start milliseconds since the epoch */
  constructor(start = Date.parse('2026-01-01T00:00:00Z')) {
    this.#now = start;
  }

  // Bound, because code under test may take `clock.now` alone.
  readonly now = (): number => this.#now;
  readonly monotonic = (): number => this.#now;

  after(milliseconds: number, action: () => void): () => void {
    if (milliseconds <= 0) {
      // As with the system's clock: at once, but never before the caller has gone on.
      const due = setImmediate(action);
      return () => clearImmediate(due);
    }
    const timer = { at: this.#now + milliseconds, action };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Milliseconds until each timer that is set, the next one first. */
  get pending(): number[] {
    return [...this.#timers].map(({ at }) => at - this.#now).sort((a, b) => a - b);
  }

  /**
   * Lets time pass: each timer that becomes due fires at its own moment, and all that follows from it
   * happens.
   */
  async advance(milliseconds: number): Promise<void> {
    await settled();
    const until = this.#now + milliseconds;
    for (let timer = this.#next(until); timer; timer = this.#next(until)) {
      this.#timers.delete(timer);
      this.#now = timer.at;
      timer.action();
      await settled();
    }
    this.#now = until;
    await settled();
  }

  #next(until: number): Timer | undefined {
    const due = [...this.#timers].filter(({ at }) => at <= until);
    return due.reduce<Timer | undefined>(
      (first, timer) => (first && first.at <= timer.at ? first : timer),
      undefined,
    );
  }
}

/**
 * Everything that needs neither time nor input has happened: promises are chained a few timers of no time
 * deep.
 */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 8; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}
