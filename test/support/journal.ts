/**
 * How long a test waits for what must happen, in milliseconds. No assertion is about this figure: it only
 * turns a hang into a message, so it is far above what a busy two-core machine needs.
 */
const TIMEOUT_MS = 20_000;

interface Waiter<T> {
  readonly matches: (entry: T) => boolean;
  readonly count: number;
  readonly found: T[];
  readonly settle: () => void;
  readonly giveUp: (reason: string) => void;
}

/** What a stand-in has seen, in order, with a way to await what it has yet to see. */
export class Journal<T> {
  readonly entries: T[] = [];
  readonly #what: string;
  readonly #waiters = new Set<Waiter<T>>();
  #ended: string | undefined;

  /** `what` names an entry in the message of a wait that was in vain. */
  constructor(what: string) {
    this.#what = what;
  }

  add(entry: T): void {
    this.entries.push(entry);
    for (const waiter of [...this.#waiters]) {
      if (!waiter.matches(entry)) continue;
      waiter.found.push(entry);
      if (waiter.found.length === waiter.count) waiter.settle();
    }
  }

  /** The entries so far that match. */
  all(matches: (entry: T) => boolean = () => true): T[] {
    return this.entries.filter(matches);
  }

  /** The first entry that matches, be it here already or to come. Rejects after `patience` milliseconds. */
  async first(matches: (entry: T) => boolean = () => true, patience = TIMEOUT_MS): Promise<T> {
    return onlyOne(await this.#wait(matches, 0, 1, patience));
  }

  /** The first matching entry that comes after this call. Rejects after `patience` milliseconds. */
  async next(matches: (entry: T) => boolean = () => true, patience = TIMEOUT_MS): Promise<T> {
    return onlyOne(await this.#wait(matches, this.entries.length, 1, patience));
  }

  /** The first `count` entries that match, here or to come. Rejects after `patience` milliseconds. */
  async several(
    count: number, matches: (entry: T) => boolean = () => true, patience = TIMEOUT_MS,
  ): Promise<T[]> {
    return await this.#wait(matches, 0, count, patience);
  }

  /** Nothing more will come, for `reason`: what is still awaited, now and later, rejects at once. */
  end(reason: string): void {
    this.#ended = reason;
    for (const waiter of [...this.#waiters]) waiter.giveUp(reason);
  }

  /** Forgets what was seen; waits that are under way go on. */
  clear(): void {
    this.entries.length = 0;
  }

  #wait(matches: (entry: T) => boolean, from: number, count: number, patience: number): Promise<T[]> {
    const found = this.entries.slice(from).filter(matches);
    if (found.length >= count) return Promise.resolve(found.slice(0, count));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => waiter.giveUp(`${patience} ms are over`), patience);
      const stopWaiting = (): void => {
        clearTimeout(timer);
        this.#waiters.delete(waiter);
      };
      const settle = (): void => {
        stopWaiting();
        resolve(found);
      };
      const giveUp = (reason: string): void => {
        stopWaiting();
        reject(new Error(`no ${count} × ${this.#what}: ${reason}; last seen:\n${this.#tail()}`));
      };
      const waiter: Waiter<T> = { matches, count, found, settle, giveUp };
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
  if (entry === undefined) throw new Error('a wait was settled with nothing');
  return entry;
}
