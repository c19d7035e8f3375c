import type { Clock } from './clock.ts';

/** So many requests leave some ten megabytes behind; a thousand containers that start do not ask as often. */
const MIN_BURST_REQUESTS = 5_000;
/** How often it is looked whether a burst is over: when there were no more than so many requests meanwhile. */
const CHECK_INTERVAL_MS = 3_000;
const MAX_QUIET_REQUESTS = 100;

/**
 * Gives memory back after a burst of requests. V8 collects garbage when something is allocated, so on an idle host what
 * the burst has left would stay for ever.
 */
export class AfterBurst {
  readonly #clock: Clock;
  readonly #collect: () => void | Promise<void>;
  #requests = 0;
  #requestsBefore = 0;

  constructor(clock: Clock, collect: () => void | Promise<void> = collectGarbage) {
    this.#clock = clock;
    this.#collect = collect;
  }

  /** Counts a request. */
  answered(): void {
    this.#requests += 1;
    if (this.#requests === MIN_BURST_REQUESTS) this.#look();
  }

  #look(): void {
    this.#requestsBefore = this.#requests;
    this.#clock.after(CHECK_INTERVAL_MS, () => {
      if (this.#requests > this.#requestsBefore + MAX_QUIET_REQUESTS) return this.#look();
      this.#requests = 0;
      void this.#collect();
      // V8 makes its young generation smaller where little was allocated since the collection before.
      this.#clock.after(CHECK_INTERVAL_MS, () => void this.#collect());
    });
  }
}

/** The collector of V8, which Node gives only to who asks for it; some 20 ms for this program. */
async function collectGarbage(): Promise<void> {
  // Most hosts never need it.
  const [{ setFlagsFromString }, { runInNewContext }] = [await import('node:v8'), await import('node:vm')];
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
}
