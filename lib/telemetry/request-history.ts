/**
 * Recent requests, for the status page: the last hour minute by minute, and totals per caller. Recording a request
 * allocates nothing.
 */

import type { Caller } from '../caller.ts';
import { quantile } from './metrics/registry.ts';

export const MINUTES = 60;
const MINUTE_MS = 60_000;
/** Upper bounds in seconds. Cached credentials take 0.1 ms, credentials from STS up to seconds. */
const BOUNDS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** The caller is to blame for a refusal, not for a failure. */
export type Outcome = 'served' | 'refused' | 'failed';

export interface Minute {
  /** How many minutes ago it ended, rounded up; 0 for the current one. */
  readonly ago: number;
  readonly requests: number;
  readonly refused: number;
  readonly failed: number;
  /** Seconds; NaN without requests. */
  readonly p50: number;
  readonly p99: number;
}

export interface CallerHistory {
  readonly requests: number;
  /** The last refusal or failure; `at` is by the monotonic clock. */
  readonly lastError: { readonly at: number; readonly message: string } | undefined;
}

class Bucket {
  /** Minutes since the monotonic clock's zero. */
  minute = -1;
  requests = 0;
  refused = 0;
  failed = 0;
  readonly latencies: number[] = new Array<number>(BOUNDS.length + 1).fill(0);

  reset(minute: number): void {
    this.minute = minute;
    this.requests = this.refused = this.failed = 0;
    this.latencies.fill(0);
  }
}

class Tally {
  requests = 0;
  lastErrorAt = 0;
  lastError: string | undefined;
}

export class RequestHistory {
  readonly #ring = Array.from({ length: MINUTES }, () => new Bucket());
  readonly #tallies = new WeakMap<Caller, Tally>();

  /**
   * @param at milliseconds of the monotonic clock
   * @param error undefined if it was served
   */
  record(caller: Caller | undefined, outcome: Outcome, at: number, seconds: number, error?: string): void {
    const minute = Math.floor(at / MINUTE_MS);
    const bucket = this.#ring[minute % MINUTES];
    if (!bucket) return; // A negative time.
    if (bucket.minute !== minute) bucket.reset(minute);
    bucket.requests += 1;
    if (outcome === 'refused') bucket.refused += 1;
    else if (outcome === 'failed') bucket.failed += 1;
    let slot = 0;
    while (slot < BOUNDS.length && seconds > (BOUNDS[slot] ?? Infinity)) slot += 1;
    bucket.latencies[slot] = (bucket.latencies[slot] ?? 0) + 1;
    if (caller) this.#count(caller, at, error);
  }

  of(caller: Caller): CallerHistory {
    const { requests = 0, lastError, lastErrorAt = 0 } = this.#tallies.get(caller) ?? {};
    return { requests, lastError: lastError === undefined ? undefined : { at: lastErrorAt, message: lastError } };
  }

  /** The oldest minute first. */
  minutes(now: number): Minute[] {
    const current = Math.floor(now / MINUTE_MS);
    return Array.from({ length: MINUTES }, (_, index) => {
      const ago = MINUTES - 1 - index;
      const bucket = this.#bucketOf(current - ago);
      const counts = bucket?.latencies ?? [];
      const { requests = 0, refused = 0, failed = 0 } = bucket ?? {};
      return { ago, requests, refused, failed, p50: quantile(BOUNDS, counts, 0.5), p99: quantile(BOUNDS, counts, 0.99) };
    });
  }

  /** Totals of the last hour. */
  hour(now: number): Omit<Minute, 'ago'> {
    const current = Math.floor(now / MINUTE_MS);
    const sum = new Bucket();
    for (let ago = 0; ago < MINUTES; ago += 1) {
      const bucket = this.#bucketOf(current - ago);
      if (!bucket) continue;
      sum.requests += bucket.requests;
      sum.refused += bucket.refused;
      sum.failed += bucket.failed;
      for (const [slot, count] of bucket.latencies.entries()) sum.latencies[slot] = (sum.latencies[slot] ?? 0) + count;
    }
    const { requests, refused, failed, latencies } = sum;
    return { requests, refused, failed, p50: quantile(BOUNDS, latencies, 0.5), p99: quantile(BOUNDS, latencies, 0.99) };
  }

  #bucketOf(minute: number): Bucket | undefined {
    const bucket = this.#ring[((minute % MINUTES) + MINUTES) % MINUTES];
    return bucket?.minute === minute ? bucket : undefined;
  }

  #count(caller: Caller, at: number, error: string | undefined): void {
    let tally = this.#tallies.get(caller);
    if (!tally) this.#tallies.set(caller, (tally = new Tally()));
    tally.requests += 1;
    if (error === undefined) return;
    tally.lastError = error;
    tally.lastErrorAt = at;
  }
}
