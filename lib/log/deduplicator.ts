import { BoundedMap } from '../util/bounded-map.ts';
import type { Clock } from '../util/clock.ts';

const WINDOW_MS = 60_000;
const MAX_KINDS = 1_000;
/** No message is of this kind. */
const OVERFLOW = '';

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
 * reported when the minute ends, even if none ever comes again. Beyond 1,000 kinds in a minute, all others are one kind.
 */
export class LogDeduplicator {
  readonly #clock: Pick<Clock, 'monotonic' | 'after'>;
  /** In the order in which they end. */
  readonly #windows = new BoundedMap<string, Window>(MAX_KINDS + 1);

  constructor(clock: Pick<Clock, 'monotonic' | 'after'>) {
    this.#clock = clock;
  }

  /** @param kind messages of the same kind are duplicates */
  deduplicate(kind: string, report: Report): void {
    const now = this.#clock.monotonic();
    const key = this.#windows.has(kind) || this.#hasRoom(now) ? kind : OVERFLOW;
    const window = this.#windows.get(key);
    if (!window || now >= window.end) {
      this.#open(key, now);
      report(0);
      return;
    }
    if (window.pending) window.suppressed += 1;
    else this.#clock.after(window.end - now, () => this.#close(key, window));
    window.pending = report;
  }

  /** Reports what is suppressed so far, for a program that ends. */
  flush(): void {
    for (const window of this.#windows.values()) {
      window.pending?.(window.suppressed);
      window.pending = undefined;
    }
  }

  #hasRoom(now: number): boolean {
    if (this.#windows.size < MAX_KINDS) return true;
    const [oldest] = this.#windows.values();
    return oldest !== undefined && now >= oldest.end;
  }

  #close(kind: string, { pending, suppressed }: Window): void {
    if (!pending) return;
    this.#open(kind, this.#clock.monotonic());
    pending(suppressed);
  }

  #open(kind: string, now: number): void {
    this.#windows.set(kind, { end: now + WINDOW_MS, pending: undefined, suppressed: 0 });
  }
}
