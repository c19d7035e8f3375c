import { BoundedMap } from '../util/bounded-map.ts';
import type { Clock } from '../util/clock.ts';
import { LogDeduplicator } from './deduplicator.ts';
import type { Fields, Log } from './log.ts';

/** An error as the status page shows it. */
export interface RecentError {
  readonly message: string;
  /** The container, role or file that it concerns; '' for the proxy as a whole. */
  readonly about: string;
  readonly error: string;
  readonly count: number;
  /** When it first and last occurred, in milliseconds since the epoch. */
  readonly first: number;
  readonly last: number;
}

/** Each is one line of the status page. */
const MAX_ERRORS = 30;

/** Logs errors, duplicates once a minute, and keeps the most recent ones. At debug level every one is logged. */
export class RecentErrors {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #deduplicator: LogDeduplicator;
  readonly #errors = new BoundedMap<string, RecentError>(MAX_ERRORS);

  constructor(log: Log, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
    this.#deduplicator = new LogDeduplicator(clock);
  }

  /** The most recent first. */
  get list(): RecentError[] {
    return [...this.#errors.values()].reverse();
  }

  /**
   * @param about what the error concerns; errors with the same message, `about` and `fields.error` are duplicates
   * @param fields for the log
   */
  report(level: 'info' | 'warning' | 'error', message: string, about: string, fields: Fields): void {
    const error = String(fields['error'] ?? fields['reason'] ?? '');
    const kind = `${message}\n${about}\n${error}`;
    const now = this.#clock.now();
    const { first = now, count = 0 } = this.#errors.get(kind) ?? {};
    this.#errors.set(kind, { message, about, error, count: count + 1, first, last: now });
    const log = (suppressed: number): void => {
      this.#log[level](message, suppressed === 0 ? fields : { ...fields, suppressed });
    };
    if (this.#log.writes('debug')) log(0);
    else this.#deduplicator.deduplicate(kind, log);
  }
}
