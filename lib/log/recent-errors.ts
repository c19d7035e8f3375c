import type { Clock } from '../util/clock.ts';
import { Repeats } from './deduplicator.ts';
import type { Fields, Log } from './log.ts';

/** Something that went wrong, as an operator sees it. */
export interface Trouble {
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
const MOST_KEPT = 30;

/**
 * Tells the log of trouble, of the same within a minute once, with how often; and keeps what came last. At the level
 * debug the log is told of each.
 */
export class Troubles {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #repeats: Repeats;
  readonly #kept = new Map<string, Trouble>();

  constructor(log: Log, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
    this.#repeats = new Repeats(clock.monotonic, clock.after.bind(clock));
  }

  /** The last one first. */
  get list(): Trouble[] {
    return [...this.#kept.values()].reverse();
  }

  /**
   * @param about what has the trouble; the same message and `fields.error` about it are the same trouble
   * @param fields for the log
   */
  tell(level: 'info' | 'warning' | 'error', message: string, about: string, fields: Fields): void {
    const error = String(fields['error'] ?? fields['reason'] ?? '');
    const key = `${message}\n${about}\n${error}`;
    this.#keep(key, message, about, error);
    const log = (repeated: number): void => {
      this.#log[level](message, repeated === 0 ? fields : { ...fields, repeated });
    };
    if (this.#log.writes('debug')) log(0);
    else this.#repeats.fold(key, log);
  }

  #keep(key: string, message: string, about: string, error: string): void {
    const now = this.#clock.now();
    const { first = now, count = 0 } = this.#kept.get(key) ?? {};
    this.#kept.delete(key);
    this.#kept.set(key, { message, about, error, count: count + 1, first, last: now });
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > MOST_KEPT && oldest !== undefined) this.#kept.delete(oldest);
  }
}
