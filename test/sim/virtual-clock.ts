import type { Clock } from '../../lib/util/clock.ts';
import { EventQueue } from './event-queue.ts';

/** Node polls for input once in so many events: that costs more than most events do. */
const EVENTS_A_POLL = 256;

/** Time that goes from one timer to the next. */
export class VirtualClock implements Clock {
  readonly #timers = new EventQueue<() => void>();
  #now: number;

  /** @param start milliseconds since the epoch */
  constructor(start = Date.parse('2026-01-01T00:00:00Z')) {
    this.#now = start;
  }

  readonly now = (): number => this.#now;
  readonly monotonic = (): number => this.#now;

  after(milliseconds: number, action: () => void): () => void {
    return this.#timers.add(this.#now + Math.max(milliseconds, 0), action);
  }

  /**
   * Lets time pass until that moment. Each timer fires at its own; all promises that follow from it are settled before
   * the next one, because each has a turn of setImmediate's queue, between which Node runs what promises wait for.
   *
   * @throws what a timer's action throws
   */
  run(until: number): Promise<void> {
    return new Promise((resolve, reject) => {
      let open = true;
      const end = (settle: () => void): void => {
        open = false;
        settle();
      };
      const step = (): void => {
        if (!open) return;
        const due = this.#timers.take(until);
        if (due === undefined) {
          this.#now = until;
          return end(resolve);
        }
        this.#now = due.at;
        try {
          due.what();
        } catch (error) {
          end(() => reject(error as Error));
        }
      };
      const steps = (): void => {
        for (let event = 0; event < EVENTS_A_POLL; event += 1) setImmediate(step);
        setImmediate(() => {
          if (open) steps();
        });
      };
      steps();
    });
  }
}
