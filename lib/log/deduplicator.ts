import { BoundedMap } from '../util/bounded-map.ts';
import type { Clock } from '../util/clock.ts';

const WINDOW_MS = 60_000;
const MAX_KEYS = 1_000;

/** @param suppressed how many other messages of the same kind were not reported */
type Report = (suppressed: number) => void;

interface Window {
  /** By the monotonic clock. */
  readonly end: number;
  /** The latest suppressed message, reported when the window ends. */
  pending: Report | undefined;
  /** Those before `pending`. */
  suppressed: number;
}

/**
 * Reports messages of one kind at most once a minute. The first is reported at once; the last of those that follow is
 * reported when the minute ends, even if none ever comes again.
 */
export class LogDeduplicator {
  readonly #clock: Pick<Clock, 'monotonic' | 'after'>;
  readonly #windows = new BoundedMap<string, Window>(MAX_KEYS);

  constructor(clock: Pick<Clock, 'monotonic' | 'after'>) {
    this.#clock = clock;
  }

  /** @param kind messages of the same kind are duplicates */
  deduplicate(kind: string, report: Report): void {
    const now = this.#clock.monotonic();
    const window = this.#windows.get(kind);
    if (!window || now >= window.end) {
      this.#open(kind, now);
      report(0);
      return;
    }
    if (window.pending) window.suppressed += 1;
    else this.#clock.after(window.end - now, () => this.#close(kind, window));
    window.pending = report;
  }

  #close(kind: string, { pending, suppressed }: Window): void {
    this.#open(kind, this.#clock.monotonic());
    pending?.(suppressed);
  }

  #open(kind: string, now: number): void {
    this.#windows.set(kind, { end: now + WINDOW_MS, pending: undefined, suppressed: 0 });
  }
}
