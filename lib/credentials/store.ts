/**
 * Credentials by what was asked for, made before they are needed and renewed before they expire. It knows neither
 * Docker nor HTTP nor STS: only requests with a key, a way to fetch, and a clock.
 *
 *   warm      a container that asks for this will run soon: fetch, but hold nobody to it
 *   retain    a container that asks for this runs: keep it fresh
 *   release   it has ended; with the last one the credentials go too
 *   get       what may be handed out at once
 *   obtain    the same, waiting for a fetch where that is needed
 */

import { backoff } from '../util/backoff.ts';
import { withTimeout, type Clock } from '../util/clock.ts';
import { AssumeRoleDenied, CredentialsUnavailable, type Credentials } from './credentials.ts';
import { PrioritySemaphore } from './priority-semaphore.ts';

export interface Keyed {
  readonly key: string;
}

export interface StoreOptions<Request extends Keyed> {
  /** @throws AssumeRoleDenied, CredentialsUnavailable */
  fetch: (request: Request) => Promise<Credentials>;
  clock: Clock;
  random: () => number;
  /** What is handed out has at least so many milliseconds left, as long as STS answers. */
  offset: number;
  /** How many fetches are under way at once, at the most. */
  concurrency: number;
  onFetched?: (request: Request, credentials: Credentials, milliseconds: number) => void;
  /** `failures` counts from 1, in a row. */
  onFailed?: (request: Request, error: Error, retryIn: number, failures: number) => void;
}

/** Failing calls are repeated after a second at first, and at least once a minute: a policy is mended at any time. */
const RETRY_INITIAL_MS = 1_000;
const RETRY_MAX_MS = 60_000;
/** While old credentials are still valid nobody waits longer than this for new ones: botocore gives up after 1 s. */
const RENEWAL_TIMEOUT_MS = 500;
/** Nobody waits longer for a first answer; SDKs have given up by then. */
const FIRST_FETCH_TIMEOUT_MS = 10_000;
/**
 * Renewal begins somewhere in this part of the time between the fetch and the offset, so that what was fetched together
 * is not renewed together. Of an hour's credentials at least 33 minutes are left then: STS may be away for half an hour,
 * and a fleet that comes back to it all at once still be served before anything expires (`make sim`).
 */
const RENEWAL_WINDOW = [0.4, 0.6] as const;
/**
 * The same for a first fetch, and one after failures: then a whole fleet may be fetching at once. Spread this wide, the
 * peaks of its next renewals stay near the steady rate; within RENEWAL_WINDOW alone they were four times that (`make sim`).
 */
const SPREADING_WINDOW = [0.1, 0.6] as const;

interface Entry<Request> {
  readonly request: Request;
  credentials: Credentials | undefined;
  /** When what is here is not handed out any more unless a renewal fails. */
  freshUntil: number;
  fetching: Promise<Credentials> | undefined;
  /** Requests that wait for the fetch. */
  waiting: number;
  users: number;
  failures: number;
  lastError: AssumeRoleDenied | CredentialsUnavailable | undefined;
  nextAttempt: number;
  cancelTimer: () => void;
}

export class CredentialStore<Request extends Keyed> {
  readonly #options: StoreOptions<Request>;
  readonly #semaphore: PrioritySemaphore;
  readonly #entries = new Map<string, Entry<Request>>();

  constructor(options: StoreOptions<Request>) {
    this.#options = options;
    this.#semaphore = new PrioritySemaphore(options.concurrency);
  }

  get size(): number {
    return this.#entries.size;
  }

  /** What may be handed out without waiting: undefined when there is nothing, or too little time left. */
  get(request: Request): Credentials | undefined {
    const entry = this.#entries.get(request.key);
    return entry && this.#options.clock.now() < entry.freshUntil ? entry.credentials : undefined;
  }

  /** The request that is kept under the same key, if there is one: many containers ask for the same. */
  intern(request: Request): Request {
    return this.#entries.get(request.key)?.request ?? request;
  }

  /** Everything that may be handed out. */
  *values(): Generator<Credentials> {
    for (const entry of this.#entries.values()) {
      const credentials = this.#valid(entry);
      if (credentials) yield credentials;
    }
  }

  /** What there is for a request, for an operator to look at. */
  inspect(request: Request): { credentials: Credentials | undefined; error: Error | undefined } {
    const entry = this.#entries.get(request.key);
    return { credentials: entry && this.#valid(entry), error: entry?.lastError };
  }

  /**
   * Credentials with at least the offset left; when no new ones can be had, those that are still valid.
   *
   * @throws AssumeRoleDenied, CredentialsUnavailable
   */
  async obtain(request: Request): Promise<Credentials> {
    const fresh = this.get(request);
    if (fresh) return fresh;
    const { clock } = this.#options;
    const entry = this.#entry(request);

    const inBackoff = entry.lastError !== undefined && clock.monotonic() < entry.nextAttempt;
    if (!inBackoff || entry.fetching) {
      const timeout = this.#valid(entry) ? RENEWAL_TIMEOUT_MS : FIRST_FETCH_TIMEOUT_MS;
      entry.waiting += 1;
      try {
        return await withTimeout(clock, timeout, this.#fetch(entry), () => new Error('too slow'));
      } catch {
        // Whatever went wrong stands in the entry; what is still valid is better than an error.
      } finally {
        entry.waiting -= 1;
      }
    }
    const valid = this.#valid(entry);
    if (valid) return valid;
    throw this.#failure(entry);
  }

  /** Fetches ahead of a container that will run soon. Failures are reported through `onFailed` alone. */
  warm(request: Request): void {
    const entry = this.#entry(request);
    const inBackoff = this.#options.clock.monotonic() < entry.nextAttempt;
    if (!this.get(request) && !inBackoff) void this.#fetch(entry).catch(() => {});
  }

  /** Keeps credentials fresh until as many `release` calls as `retain` calls were made. */
  retain(request: Request): void {
    this.#entry(request).users += 1;
    this.warm(request);
  }

  release(request: Request): void {
    const entry = this.#entries.get(request.key);
    if (!entry || entry.users === 0) return;
    entry.users -= 1;
    if (entry.users === 0) this.#drop(entry);
  }

  close(): void {
    for (const entry of this.#entries.values()) entry.cancelTimer();
    this.#entries.clear();
  }

  #entry(request: Request): Entry<Request> {
    let entry = this.#entries.get(request.key);
    if (!entry) {
      entry = {
        request,
        credentials: undefined,
        freshUntil: -Infinity,
        fetching: undefined,
        waiting: 0,
        users: 0,
        failures: 0,
        lastError: undefined,
        nextAttempt: -Infinity,
        cancelTimer: () => {},
      };
      this.#entries.set(request.key, entry);
    }
    return entry;
  }

  #drop(entry: Entry<Request>): void {
    entry.cancelTimer();
    if (this.#entries.get(entry.request.key) === entry) this.#entries.delete(entry.request.key);
  }

  #valid(entry: Entry<Request>): Credentials | undefined {
    const { credentials } = entry;
    return credentials && this.#options.clock.now() < credentials.validUntil ? credentials : undefined;
  }

  /** The one fetch for an entry; whoever asks while it is under way shares it. */
  #fetch(entry: Entry<Request>): Promise<Credentials> {
    entry.fetching ??= this.#semaphore
      .run(
        () => this.#fetchNow(entry),
        () => entry.waiting > 0,
      )
      .finally(() => (entry.fetching = undefined));
    return entry.fetching;
  }

  async #fetchNow(entry: Entry<Request>): Promise<Credentials> {
    const { clock, fetch, onFetched } = this.#options;
    const began = clock.monotonic();
    try {
      const credentials = await fetch(entry.request);
      if (credentials.validUntil <= clock.now()) {
        throw new CredentialsUnavailable('STS gave credentials that have expired already: is this host\'s clock right?');
      }
      onFetched?.(entry.request, credentials, clock.monotonic() - began);
      this.#keep(entry, credentials);
      return credentials;
    } catch (error) {
      this.#keepFailure(entry, error as Error);
      throw error;
    }
  }

  #keep(entry: Entry<Request>, credentials: Credentials): void {
    const { clock, random, offset } = this.#options;
    const now = clock.now();
    const lifetime = credentials.validUntil - now;
    // Credentials that never have the offset left are at least not handed out in the second half of their life.
    const fresh = lifetime - Math.min(offset, lifetime / 2);
    const isInCrowd = entry.credentials === undefined || entry.failures > 0;
    const [earliest, latest] = isInCrowd ? SPREADING_WINDOW : RENEWAL_WINDOW;
    entry.credentials = credentials;
    entry.freshUntil = now + fresh;
    entry.failures = 0;
    entry.lastError = undefined;
    entry.nextAttempt = -Infinity;
    this.#wake(entry, Math.max(fresh * (earliest + (latest - earliest) * random()), RETRY_INITIAL_MS));
  }

  #keepFailure(entry: Entry<Request>, error: Error): void {
    const { clock, random, onFailed } = this.#options;
    entry.failures += 1;
    const wait = backoff(entry.failures, RETRY_INITIAL_MS, RETRY_MAX_MS, random);
    entry.lastError =
      error instanceof AssumeRoleDenied || error instanceof CredentialsUnavailable
        ? error
        : new CredentialsUnavailable(error.message, { cause: error });
    entry.nextAttempt = clock.monotonic() + wait;
    onFailed?.(entry.request, entry.lastError, wait, entry.failures);
    this.#wake(entry, wait);
  }

  /** Renews after the given time, or lets go of what nobody uses. */
  #wake(entry: Entry<Request>, milliseconds: number): void {
    entry.cancelTimer();
    if (this.#entries.get(entry.request.key) !== entry) return;
    entry.cancelTimer = this.#options.clock.after(milliseconds, () => {
      if (entry.users === 0 && entry.waiting === 0) this.#drop(entry);
      else void this.#fetch(entry).catch(() => {});
    });
  }

  #failure(entry: Entry<Request>): AssumeRoleDenied | CredentialsUnavailable {
    const { lastError } = entry;
    if (lastError instanceof AssumeRoleDenied) return lastError;
    const why = lastError?.message ?? 'STS takes too long to answer';
    const failure = new CredentialsUnavailable(why, { cause: lastError });
    failure.retryAfter = Math.max(entry.nextAttempt - this.#options.clock.monotonic(), RETRY_INITIAL_MS);
    return failure;
  }
}
