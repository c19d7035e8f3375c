/**
 * When a request is answered, so that no address takes more than its share: one object for the server, for what a large
 * body costs and for requests to the upstream IMDS.
 *
 *   a request of an address that …                  | is
 *   ------------------------------------------------+--------------------------------------------------------------
 *   has too many unanswered requests                | refused with 503 after 2 to 4 s, in which nothing is read
 *   is over its rate by more than a second          | refused with 429 after 1 to 2 s
 *   is over its rate                                | answered when the rate allows it
 *   had four requests in this event loop iteration  | answered in the next ones, four of each address in turn
 *   does none of this                               | answered now
 *
 * Refusals are delayed, because a client that is refused at once retries at once. The delays are random, because clients
 * that were refused together would come back together.
 */

import { sleep, type Clock } from '../util/clock.ts';
import { overloaded, type Refusal } from './errors.ts';
import { FairQueue } from './fair-queue.ts';
import { RateLimiter } from './rate-limiter.ts';
import { Semaphore } from './semaphore.ts';

export interface AdmissionOptions {
  /** Of each address; 0 for no limit. */
  readonly maxRequestsPerSecond: number;
  readonly clock: Clock;
  /** From 0 to 1. */
  readonly random: () => number;
}

/** What admission knows of a connection. */
export interface AdmittedConnection {
  readonly address: string;
  readonly state: 'open' | 'overflowed' | 'closing';
  /** Functions that cancel what is deferred, for when the client disconnects. */
  readonly deferred: Set<() => void>;
  pauseReads(milliseconds: number): void;
}

/** Waiting costs nothing, but SDKs give up after a second. */
const MAX_DELAY_MS = 1_000;
/** The shortest pause of an address that has overflowed. */
const OVERFLOW_DELAY_MS = 2_000;
/** Four requests take some 0.2 ms, for which those of other addresses wait. */
const MAX_REQUESTS_PER_ITERATION = 4;
/**
 * SDKs make one request at a time, and the upstream IMDS answers in a millisecond. Without this limit one container that
 * does not read its answers would occupy hundreds of upstream connections.
 */
const MAX_CONCURRENT_UPSTREAM_REQUESTS = 16;

export class Admission {
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #isLimited: boolean;
  readonly #rateLimiter: RateLimiter;
  readonly #fairQueue: FairQueue;
  readonly #upstream: Semaphore;

  constructor({ maxRequestsPerSecond, clock, random }: AdmissionOptions) {
    this.#clock = clock;
    this.#random = random;
    this.#isLimited = maxRequestsPerSecond > 0;
    this.#rateLimiter = new RateLimiter(maxRequestsPerSecond, clock.monotonic);
    this.#fairQueue = new FairQueue(this.#isLimited ? MAX_REQUESTS_PER_ITERATION : Infinity);
    this.#upstream = new Semaphore(MAX_CONCURRENT_UPSTREAM_REQUESTS, MAX_DELAY_MS, clock);
  }

  /**
   * Counts a request.
   *
   * @returns undefined when it is to be answered now, which costs no promise; otherwise a promise of when it is, which
   *   rejects with the Refusal that it is to be answered with
   */
  admit(connection: AdmittedConnection): Promise<void> | undefined {
    const { address } = connection;
    if (connection.state === 'overflowed') {
      const pause = this.#jittered(OVERFLOW_DELAY_MS);
      connection.pauseReads(pause);
      return this.#defer(connection, pause, overloaded(503, 'too_many', 'too many requests from this address are unanswered'));
    }
    const delay = this.#rateLimiter.delay(address);
    if (delay > MAX_DELAY_MS) {
      const refusal = overloaded(429, 'too_fast', 'too many requests from this address');
      return this.#defer(connection, this.#jittered(MAX_DELAY_MS), refusal);
    }
    if (delay > 0) return this.#defer(connection, delay).then(() => this.#fairQueue.take(address));
    return this.#fairQueue.take(address);
  }

  /**
   * Counts work beyond that of one request, such as a large body, as so many requests. It waits, but is never refused.
   *
   * @returns a promise of when the work may go on; undefined when there is no rate limit
   */
  charge(address: string, requests: number): Promise<void> | undefined {
    return this.#isLimited ? this.#charge(address, requests) : undefined;
  }

  /**
   * Takes a permit for a request to the upstream IMDS, and waits up to a second for one.
   *
   * @returns a function that releases the permit; calling it again does nothing
   * @throws Refusal
   */
  upstreamPermit(address: string): (() => void) | Promise<() => void> {
    const acquired = this.#upstream.acquire(address);
    if (acquired === true) return this.#permit(address);
    return Promise.resolve(acquired).then((isAcquired) => {
      if (isAcquired) return this.#permit(address);
      throw overloaded(503, 'too_many', 'too many requests from this address wait for the upstream IMDS');
    });
  }

  async #charge(address: string, requests: number): Promise<void> {
    for (let counted = 0; counted < requests; counted += 1) {
      let delay = this.#rateLimiter.delay(address);
      for (; delay > MAX_DELAY_MS; delay = this.#rateLimiter.delay(address)) await sleep(this.#clock, MAX_DELAY_MS);
      if (delay > 0) await sleep(this.#clock, delay);
    }
    await this.#fairQueue.take(address);
  }

  /** @returns a promise that rejects with the refusal, if there is one, or when the client disconnects before its turn */
  #defer({ deferred }: AdmittedConnection, milliseconds: number, refusal?: Refusal): Promise<void> {
    return new Promise((resolve, reject) => {
      const cancelTimer = this.#clock.after(milliseconds, () => {
        deferred.delete(cancel);
        if (refusal) reject(refusal);
        else resolve();
      });
      const cancel = (): void => {
        cancelTimer();
        deferred.delete(cancel);
        reject(overloaded(429, 'too_fast', 'the client disconnected before its turn'));
      };
      deferred.add(cancel);
    });
  }

  #permit(address: string): () => void {
    let isReleased = false;
    return () => {
      if (!isReleased) this.#upstream.release(address);
      isReleased = true;
    };
  }

  /** Up to twice as long. */
  #jittered(milliseconds: number): number {
    return milliseconds * (1 + this.#random());
  }
}
