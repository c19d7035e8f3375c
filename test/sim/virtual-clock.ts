import type { Clock } from '../../lib/util/clock.ts';
import { EventQueue } from './event-queue.ts';

/** Node polls for I/O once per so many events, because a poll costs more than most events. */
const EVENTS_A_POLL = 256;

/** A clock that jumps from one timer to the next. */
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
   * Advances the time to `until`. All promise reactions of a timer run before the next timer fires: each timer has its own
   * setImmediate callback, and Node drains the microtask queue between two of them.
   *
   * @throws what a timer's action throws
   */
  run(until: number): Promise<void> {
    return new Promise((resolve, reject) => {
      let open = true;
      const end = (report: () => void): void => {
        open = false;
        report();
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
