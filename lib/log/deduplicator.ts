import { systemClock, type Clock } from '../util/clock.ts';

interface Told {
  readonly until: number;
  untold: number;
  /** What is to be told at the end of the minute, if anything. */
  tell: ((repeated: number) => void) | undefined;
}

/** What is the same again is told once a minute, with how often it was not told. */
export class Repeats {
  readonly #now: () => number;
  readonly #after: Clock['after'];
  readonly #told = new Map<string, Told>();

  /** @param now milliseconds */
  constructor(now: () => number, after: Clock['after'] = systemClock.after) {
    this.#now = now;
    this.#after = after;
  }

  /** @returns how often it was not told since the last time; undefined when it is not to be told now */
  count(what: string): number | undefined {
    const now = this.#now();
    const last = this.#told.get(what);
    if (last && now < last.until) {
      last.untold += 1;
      return undefined;
    }
    this.#keep(what, now);
    return last?.untold ?? 0;
  }

  /**
   * The same for what nobody may ever ask about again: what was not told is told at the end of the minute.
   *
   * @param tell called now with 0, or later, the last one for all of them, with how many others there were
   */
  fold(what: string, tell: (repeated: number) => void): void {
    const now = this.#now();
    const last = this.#told.get(what);
    if (!last || now >= last.until) {
      this.#keep(what, now);
      tell(0);
      return;
    }
    if (!last.tell) this.#after(last.until - now, () => this.#tellRest(what, last));
    else last.untold += 1;
    last.tell = tell;
  }

  #tellRest(what: string, { tell, untold }: Told): void {
    this.#keep(what, this.#now());
    tell?.(untold);
  }

  #keep(what: string, now: number): void {
    this.#told.delete(what);
    this.#told.set(what, { until: now + TOLD_EVERY_MS, untold: 0, tell: undefined });
    const [oldest] = this.#told.keys();
    if (this.#told.size > MOST_KEPT && oldest !== undefined) this.#told.delete(oldest);
  }
}

const TOLD_EVERY_MS = 60_000;
const MOST_KEPT = 1_000;
