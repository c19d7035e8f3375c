/**
 * How long a test waits for an event. No assertion depends on it; without it a hang would have no message. It is far above
 * what a busy two-core machine needs.
 */
const TIMEOUT_MS = 20_000;

interface Waiter<T> {
  readonly matches: (entry: T) => boolean;
  readonly count: number;
  readonly found: T[];
  readonly finish: () => void;
  readonly giveUp: (reason: string) => void;
}

/** The events that a fake server has recorded, in order. A test can wait for further ones. */
export class Journal<T> {
  readonly entries: T[] = [];
  readonly #what: string;
  readonly #waiters = new Set<Waiter<T>>();
  #ended: string | undefined;

  /** @param what names an entry in the message of a timeout */
  constructor(what: string) {
    this.#what = what;
  }

  add(entry: T): void {
    this.entries.push(entry);
    for (const waiter of [...this.#waiters]) {
      if (!waiter.matches(entry)) continue;
      waiter.found.push(entry);
      if (waiter.found.length === waiter.count) waiter.finish();
    }
  }

  /** The entries so far that match. */
  all(matches: (entry: T) => boolean = () => true): T[] {
    return this.entries.filter(matches);
  }

  /** The first entry that matches, recorded or future. Rejects after `timeout` milliseconds. */
  async first(matches: (entry: T) => boolean = () => true, timeout = TIMEOUT_MS): Promise<T> {
    return onlyOne(await this.#wait(matches, 0, 1, timeout));
  }

  /** The first entry that matches and is recorded after this call. Rejects after `timeout` milliseconds. */
  async next(matches: (entry: T) => boolean = () => true, timeout = TIMEOUT_MS): Promise<T> {
    return onlyOne(await this.#wait(matches, this.entries.length, 1, timeout));
  }

  /** The first `count` entries that match, recorded or future. Rejects after `timeout` milliseconds. */
  async several(
    count: number, matches: (entry: T) => boolean = () => true, timeout = TIMEOUT_MS,
  ): Promise<T[]> {
    return await this.#wait(matches, 0, count, timeout);
  }

  /** No entry will follow, for `reason`. All present and later waits reject immediately. */
  end(reason: string): void {
    this.#ended = reason;
    for (const waiter of [...this.#waiters]) waiter.giveUp(reason);
  }

  /** Removes all entries. Pending waits continue. */
  clear(): void {
    this.entries.length = 0;
  }

  #wait(matches: (entry: T) => boolean, from: number, count: number, timeout: number): Promise<T[]> {
    const found = this.entries.slice(from).filter(matches);
    if (found.length >= count) return Promise.resolve(found.slice(0, count));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => waiter.giveUp(`timeout after ${timeout} ms`), timeout);
      const stopWaiting = (): void => {
        clearTimeout(timer);
        this.#waiters.delete(waiter);
      };
      const finish = (): void => {
        stopWaiting();
        resolve(found);
      };
      const giveUp = (reason: string): void => {
        stopWaiting();
        reject(new Error(`no ${count} × ${this.#what}: ${reason}; last seen:\n${this.#tail()}`));
      };
      const waiter: Waiter<T> = { matches, count, found, finish, giveUp };
      this.#waiters.add(waiter);
      if (this.#ended !== undefined) giveUp(this.#ended);
    });
  }

  #tail(): string {
    return this.entries.slice(-10).map((entry) => `  ${JSON.stringify(entry)?.slice(0, 300)}`).join('\n');
  }
}

function onlyOne<T>(entries: T[]): T {
  const [entry] = entries;
  if (entry === undefined) throw new Error('a wait ended without an entry');
  return entry;
}
