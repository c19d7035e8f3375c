import type { Clock } from '../util/clock.ts';
import { LogDeduplicator } from './deduplicator.ts';
import type { Fields, Log } from './log.ts';

/** Something that went wrong, as an operator sees it. */
export interface RecentError {
  readonly message: string;
  /** The container, the role or the file that it is about; '' for the proxy as a whole. */
  readonly about: string;
  readonly error: string;
  /** How often it was the same, and when it was so first and last, in milliseconds since the epoch. */
  readonly count: number;
  readonly first: number;
  readonly last: number;
}

/** Enough to look back on; each is a line of the status page. */
const MAX_ERRORS = 30;

/**
 * Tells the log of trouble, of the same within a minute once, with how often; and keeps what came last. At the level
 * debug the log is told of each.
 */
export class RecentErrors {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #deduplicator: LogDeduplicator;
  readonly #errors = new Map<string, RecentError>();

  constructor(log: Log, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
    this.#deduplicator = new LogDeduplicator(clock.monotonic, clock.after.bind(clock));
  }

  /** The last one first. */
  get list(): RecentError[] {
    return [...this.#errors.values()].reverse();
  }

  /**
   * @param about what has the trouble; the same message and `fields.error` about it are the same trouble
   * @param fields for the log
   */
  report(level: 'info' | 'warning' | 'error', message: string, about: string, fields: Fields): void {
    const error = String(fields['error'] ?? fields['reason'] ?? '');
    const key = `${message}\n${about}\n${error}`;
    this.#keep(key, message, about, error);
    const log = (repeated: number): void => {
      this.#log[level](message, repeated === 0 ? fields : { ...fields, repeated });
    };
    if (this.#log.writes('debug')) log(0);
    else this.#deduplicator.deduplicate(key, log);
  }

  #keep(key: string, message: string, about: string, error: string): void {
    const now = this.#clock.now();
    const { first = now, count = 0 } = this.#errors.get(key) ?? {};
    this.#errors.delete(key);
    this.#errors.set(key, { message, about, error, count: count + 1, first, last: now });
    const [oldest] = this.#errors.keys();
    if (this.#errors.size > MAX_ERRORS && oldest !== undefined) this.#errors.delete(oldest);
  }
}
