/**
 * Caches credentials by request, fetches them before they are needed, and refreshes them before they expire. The store
 * knows neither Docker nor HTTP nor STS: only requests with a key, a function that fetches, and a clock.
 *
 *   warm      a container with this request will start soon: fetch once
 *   retain    a container with this request runs: keep its credentials fresh
 *   release   that container ended; the last release drops the credentials
 *   get       the cached credentials, if they are fresh
 *   obtain    the same, but wait for a fetch if necessary
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
  /** Minimum remaining lifetime in milliseconds of what `get` and `obtain` return, as long as STS answers. */
  offset: number;
  /** Maximum number of concurrent fetches. */
  concurrency: number;
  events?: StoreEvents<Request>;
}

/** The part of Events that concerns the store. */
export interface StoreEvents<Request> {
  credentialsFetched(request: Request, credentials: Credentials, milliseconds: number): void;
  /** @param failures in a row, this one included */
  credentialsFailed(request: Request, failure: Error, retryInMs: number, failures: number): void;
}

/** Backoff of failed fetches. At least one attempt a minute notices a policy that has been fixed. */
const RETRY_INITIAL_MS = 1_000;
const RETRY_MAX_MS = 60_000;
/** Wait for new credentials while the old ones are valid: botocore gives up after 1 s. */
const REFRESH_TIMEOUT_MS = 500;
/** Wait for the first credentials: SDKs have given up by then. */
const FIRST_FETCH_TIMEOUT_MS = 10_000;
/**
 * A refresh starts at a random point in this part of the time between the fetch and the offset, so that credentials that
 * were fetched together are not refreshed together. Credentials of one hour then have at least 33 minutes left: STS may
 * fail for half an hour, and a whole fleet can still refresh before anything expires (`make sim`).
 */
const REFRESH_WINDOW = [0.4, 0.6] as const;
/**
 * The same after a first fetch and after failures, when a whole fleet may be fetching at the same time. With this wider
 * window the peaks of the next refreshes stay near the steady rate; with REFRESH_WINDOW they were four times as high
 * (`make sim`).
 */
const BURST_WINDOW = [0.1, 0.6] as const;

interface Entry<Request> {
  readonly request: Request;
  credentials: Credentials | undefined;
  /** From then on the credentials are used only if a refresh fails. */
  freshUntil: number;
  fetching: Promise<Credentials> | undefined;
  /** The number of `obtain` calls that wait for the fetch. */
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

  /** @returns undefined when nothing is cached, or its remaining lifetime is too short */
  get(request: Request): Credentials | undefined {
    const entry = this.#entries.get(request.key);
    return entry && this.#options.clock.now() < entry.freshUntil ? entry.credentials : undefined;
  }

  /** Returns the cached request with the same key, if any, because many containers have equal requests. */
  intern(request: Request): Request {
    return this.#entries.get(request.key)?.request ?? request;
  }

  /** All valid credentials. */
  *values(): Generator<Credentials> {
    for (const entry of this.#entries.values()) {
      const credentials = this.#valid(entry);
      if (credentials) yield credentials;
    }
  }

  /** The state of a request, for the status page. */
  inspect(request: Request): { credentials: Credentials | undefined; error: Error | undefined } {
    const entry = this.#entries.get(request.key);
    return { credentials: entry && this.#valid(entry), error: entry?.lastError };
  }

  /**
   * Returns fresh credentials, or valid ones if a refresh fails.
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
      const timeout = this.#valid(entry) ? REFRESH_TIMEOUT_MS : FIRST_FETCH_TIMEOUT_MS;
      entry.waiting += 1;
      try {
        return await withTimeout(clock, timeout, this.#fetch(entry), () => new Error('timeout'));
      } catch {
        // The entry has the error. Credentials that are still valid are better than an error.
      } finally {
        entry.waiting -= 1;
      }
    }
    const valid = this.#valid(entry);
    if (valid) return valid;
    throw this.#failure(entry);
  }

  /** Fetches for a container that will start soon. A failure is only reported as an event. */
  warm(request: Request): void {
    const entry = this.#entry(request);
    const inBackoff = this.#options.clock.monotonic() < entry.nextAttempt;
    if (!this.get(request) && !inBackoff) void this.#fetch(entry).catch(() => {});
  }

  /** Keeps credentials fresh until `release` was called as often as `retain`. */
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

  /** The single in-flight fetch of an entry, shared by all its callers. */
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
    const { clock, fetch, events } = this.#options;
    const began = clock.monotonic();
    try {
      const credentials = await fetch(entry.request);
      if (credentials.validUntil <= clock.now()) {
        throw new CredentialsUnavailable("STS returned expired credentials: is this host's clock correct?");
      }
      events?.credentialsFetched(entry.request, credentials, clock.monotonic() - began);
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
    // Credentials that live shorter than the offset are fresh for the first half of their life.
    const fresh = lifetime - Math.min(offset, lifetime / 2);
    const mayBeInBurst = entry.credentials === undefined || entry.failures > 0;
    const [earliest, latest] = mayBeInBurst ? BURST_WINDOW : REFRESH_WINDOW;
    entry.credentials = credentials;
    entry.freshUntil = now + fresh;
    entry.failures = 0;
    entry.lastError = undefined;
    entry.nextAttempt = -Infinity;
    this.#wake(entry, Math.max(fresh * (earliest + (latest - earliest) * random()), RETRY_INITIAL_MS));
  }

  #keepFailure(entry: Entry<Request>, error: Error): void {
    const { clock, random, events } = this.#options;
    entry.failures += 1;
    const wait = backoff(entry.failures, RETRY_INITIAL_MS, RETRY_MAX_MS, random);
    entry.lastError =
      error instanceof AssumeRoleDenied || error instanceof CredentialsUnavailable
        ? error
        : new CredentialsUnavailable(error.message, { cause: error });
    entry.nextAttempt = clock.monotonic() + wait;
    events?.credentialsFailed(entry.request, entry.lastError, wait, entry.failures);
    this.#wake(entry, wait);
  }

  /** Refreshes the entry after the given time, or drops it if it has no users. */
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
    const why = lastError?.message ?? 'STS did not answer in time';
    const failure = new CredentialsUnavailable(why, { cause: lastError });
    failure.retryAfter = Math.max(entry.nextAttempt - this.#options.clock.monotonic(), RETRY_INITIAL_MS);
    return failure;
  }
}
