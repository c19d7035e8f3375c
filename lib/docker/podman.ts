/**
 * Everything in which the directory treats Podman differently from Docker.
 *
 * Podman needs no daemon: containers start and end while its service is away. Its events may be 250 ms late (measured
 * with its file of events), so what the directory knows may be out of date although the event stream is open. Therefore
 * each answer is confirmed first: an address by an inspect of its owner, network peers by a new list. An answer of the
 * engine is always newer than its events, so both need no tombstones of their own.
 *
 * This decorates the directory's answers. It awaits nothing itself and changes nothing: `lookups.recheck` and
 * `sync.rescan` do. After the confirmation the inner answers look at the state again.
 */

import type { Container } from './container.ts';
import type { EngineEvents, ListedContainer } from './engine.ts';
import type { Lookups } from './lookups.ts';

/** What the directory may rely on with an engine. */
export interface EngineTraits {
  /** Whether events may come later than answers. Then a list also ends the containers that it does not show. */
  readonly eventsAreLate: boolean;
  /** Whether containers start only through the API, so that none can have started while the API was down. */
  readonly startsNeedApi: boolean;
  /** Shortest time from one rescan to the next. */
  readonly rescanIntervalMs: number;
  /** Whether a container of the list that does not run may share another one's network once it starts. */
  mayBecomePeer(listed: ListedContainer): boolean;
}

const DOCKER: EngineTraits = {
  eventsAreLate: false,
  startsNeedApi: true,
  rescanIntervalMs: 500,
  mayBecomePeer: ({ running, networkMode }) => !running && networkMode.startsWith('container:'),
};

const PODMAN: EngineTraits = {
  eventsAreLate: true,
  startsNeedApi: false,
  // Each answer to a container that may have peers needs a list.
  rescanIntervalMs: 100,
  // The network mode in Podman's list is not reliable.
  mayBecomePeer: ({ running, hasRun }) => !running && !hasRun,
};

export function traitsOf({ isPodman }: Pick<EngineEvents, 'isPodman'>): EngineTraits {
  return isPodman ? PODMAN : DOCKER;
}

/** The answers that depend on whether the directory is up to date. */
export interface Answers {
  resolve(address: string): Container | undefined | Promise<Container | undefined>;
  /** @returns undefined when there is nothing to wait for */
  peersKnown(id: string): Promise<void> | undefined;
}

export interface InnerAnswers extends Answers {
  /** @param news resolves when there may be news of the peers, after so many milliseconds at the latest */
  waitForPeers(id: string, news: (timeoutMs: number) => Promise<void>): Promise<void>;
}

interface Confirmation {
  readonly done: Promise<void>;
  /** The one that begins after it, shared by all requests that arrive during it. */
  next: Promise<void> | undefined;
}

/** Part of EngineSync. */
export interface Rescans {
  readonly traits: EngineTraits;
  rescan(): Promise<void>;
}

export class PodmanAnswers implements Answers {
  readonly #inner: InnerAnswers;
  readonly #sync: Rescans;
  readonly #lookups: Pick<Lookups, 'addresses' | 'recheck'>;
  /** By address. */
  readonly #confirmations = new Map<string, Confirmation>();

  constructor(inner: InnerAnswers, sync: Rescans, lookups: Pick<Lookups, 'addresses' | 'recheck'>) {
    this.#inner = inner;
    this.#sync = sync;
    this.#lookups = lookups;
  }

  resolve(address: string): Container | undefined | Promise<Container | undefined> {
    if (!this.#sync.traits.eventsAreLate) return this.#inner.resolve(address);
    return this.#lookups.addresses
      .announced()
      .then(() => this.#confirmed(address))
      .then(() => this.#inner.resolve(address));
  }

  peersKnown(id: string): Promise<void> | undefined {
    if (!this.#sync.traits.eventsAreLate) return this.#inner.peersKnown(id);
    const rescan = (): Promise<void> => this.#sync.rescan();
    return rescan().then(() => this.#inner.waitForPeers(id, rescan));
  }

  /** Resolves after a confirmation that began after this call. Callers during one share the next. */
  #confirmed(address: string): Promise<void> {
    const current = this.#confirmations.get(address);
    if (!current) return this.#confirm(address);
    return (current.next ??= current.done.catch(() => {}).then(() => this.#confirm(address)));
  }

  #confirm(address: string): Promise<void> {
    const done = this.#lookups.recheck(address).finally(() => {
      if (this.#confirmations.get(address)?.done === done) this.#confirmations.delete(address);
    });
    this.#confirmations.set(address, { done, next: undefined });
    return done;
  }
}
