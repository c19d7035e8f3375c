import { systemClock, type Clock } from '../util/clock.ts';

interface Suppression {
  readonly until: number;
  suppressed: number;
  /** What is to be told at the end of the minute, if anything. */
  report: ((repeated: number) => void) | undefined;
}

/** What is the same again is told once a minute, with how often it was not told. */
export class LogDeduplicator {
  readonly #now: () => number;
  readonly #after: Clock['after'];
  readonly #suppressions = new Map<string, Suppression>();

  /** @param now milliseconds */
  constructor(now: () => number, after: Clock['after'] = systemClock.after) {
    this.#now = now;
    this.#after = after;
  }

  /** @returns how often it was not told since the last time; undefined when it is not to be told now */
  count(what: string): number | undefined {
    const now = this.#now();
    const last = this.#suppressions.get(what);
    if (last && now < last.until) {
      last.suppressed += 1;
      return undefined;
    }
    this.#keep(what, now);
    return last?.suppressed ?? 0;
  }

  /**
   * The same for what nobody may ever ask about again: what was not told is told at the end of the minute.
   *
   * @param tell called now with 0, or later, the last one for all of them, with how many others there were
   */
  deduplicate(what: string, report: (repeated: number) => void): void {
    const now = this.#now();
    const last = this.#suppressions.get(what);
    if (!last || now >= last.until) {
      this.#keep(what, now);
      report(0);
      return;
    }
    if (!last.report) this.#after(last.until - now, () => this.#reportSuppressed(what, last));
    else last.suppressed += 1;
    last.report = report;
  }

  #reportSuppressed(what: string, { report, suppressed }: Suppression): void {
    this.#keep(what, this.#now());
    report?.(suppressed);
  }

  #keep(what: string, now: number): void {
    this.#suppressions.delete(what);
    this.#suppressions.set(what, { until: now + WINDOW_MS, suppressed: 0, report: undefined });
    const [oldest] = this.#suppressions.keys();
    if (this.#suppressions.size > MAX_ENTRIES && oldest !== undefined) this.#suppressions.delete(oldest);
  }
}

const WINDOW_MS = 60_000;
const MAX_ENTRIES = 1_000;
