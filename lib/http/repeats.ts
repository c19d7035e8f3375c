/** What is the same again is told once a minute, with how often it was not told. */
export class Repeats {
  readonly #now: () => number;
  readonly #told = new Map<string, { until: number; untold: number }>();

  /** @param now milliseconds */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** @returns how often it was not told since the last time; undefined when it is not to be told now */
  count(what: string): number | undefined {
    const now = this.#now();
    const last = this.#told.get(what);
    if (last && now < last.until) {
      last.untold += 1;
      return undefined;
    }
    this.#told.delete(what);
    this.#told.set(what, { until: now + TOLD_EVERY_MS, untold: 0 });
    const [oldest] = this.#told.keys();
    if (this.#told.size > MOST_KEPT && oldest !== undefined) this.#told.delete(oldest);
    return last?.untold ?? 0;
  }
}

const TOLD_EVERY_MS = 60_000;
const MOST_KEPT = 1_000;
