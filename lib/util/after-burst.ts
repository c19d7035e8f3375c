import type { Clock } from './clock.ts';

/** This many requests leave about ten megabytes of garbage. Starting a thousand containers causes fewer. */
const MIN_BURST_REQUESTS = 5_000;
/** A burst is over after an interval with no more than MAX_QUIET_REQUESTS. */
const CHECK_INTERVAL_MS = 3_000;
const MAX_QUIET_REQUESTS = 100;

/** Collects garbage after a burst of requests. V8 only does so on allocation, so an idle proxy would keep the garbage. */
export class AfterBurst {
  readonly #clock: Clock;
  readonly #collect: () => void | Promise<void>;
  #requests = 0;
  #requestsBefore = 0;

  constructor(clock: Clock, collect: () => void | Promise<void> = collectGarbage) {
    this.#clock = clock;
    this.#collect = collect;
  }

  /** Counts one request. */
  answered(): void {
    this.#requests += 1;
    if (this.#requests === MIN_BURST_REQUESTS) this.#checkLater();
  }

  #checkLater(): void {
    this.#requestsBefore = this.#requests;
    this.#clock.after(CHECK_INTERVAL_MS, () => {
      if (this.#requests > this.#requestsBefore + MAX_QUIET_REQUESTS) return this.#checkLater();
      this.#requests = 0;
      void this.#collect();
      // V8 shrinks its young generation if little was allocated since the previous collection.
      this.#clock.after(CHECK_INTERVAL_MS, () => void this.#collect());
    });
  }
}

/** Runs V8's garbage collector, which takes about 20 ms here. Node exposes it only with a flag. */
async function collectGarbage(): Promise<void> {
  // Imported late, because most hosts never need them.
  const [{ setFlagsFromString }, { runInNewContext }] = [await import('node:v8'), await import('node:vm')];
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
}
