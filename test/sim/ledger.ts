import type { Outcome } from './sts-with-quota.ts';

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;

/** How often all credentials are sampled. */
export const SAMPLE_MS = 10_000;
/** The minimum validity of credentials that the proxy serves: the default of ROLE_CACHE_OFFSET. */
export const OFFSET_MS = 15 * MINUTE;

const NONE = -Infinity;

/** What happened to a fleet. */
export interface History {
  /** STS calls in each second since the start, and the throttled ones among them. */
  readonly attempts: Uint32Array;
  readonly throttled: Uint32Array;
  /** At each sample: credentials with less than OFFSET_MS left, and expired credentials. */
  readonly low: readonly number[];
  readonly expired: readonly number[];
  /** At each sample: credentials that a container needs and that were never fetched. */
  readonly without: readonly number[];
  /** When the fleet's first refresh and first second refresh began, in milliseconds since the start. */
  readonly firstRefreshAt: number | undefined;
  readonly secondRefreshAt: number | undefined;
}

/** Records the history of a fleet and the validity of each of its credentials. */
export class Ledger {
  readonly start: number;
  readonly #attempts: Uint32Array;
  readonly #throttled: Uint32Array;
  readonly #low: number[] = [];
  readonly #expired: number[] = [];
  readonly #without: number[] = [];
  #firstRefreshAt: number | undefined;
  #secondRefreshAt: number | undefined;
  readonly #validUntil: Float64Array;
  readonly #generation: Uint16Array;
  readonly #live: Uint8Array;

  constructor(credentials: number, start: number, duration: number) {
    this.start = start;
    const seconds = Math.ceil(duration / 1000) + 1;
    this.#attempts = new Uint32Array(seconds);
    this.#throttled = new Uint32Array(seconds);
    this.#validUntil = new Float64Array(credentials).fill(NONE);
    this.#generation = new Uint16Array(credentials);
    this.#live = new Uint8Array(credentials);
  }

  /** Plain data, because it is sent between threads. */
  get history(): History {
    return {
      attempts: this.#attempts, throttled: this.#throttled,
      low: this.#low, expired: this.#expired, without: this.#without,
      firstRefreshAt: this.#firstRefreshAt, secondRefreshAt: this.#secondRefreshAt,
    };
  }

  /** A new container needs this credential. */
  begins(credential: number): void {
    this.#live[credential] = 1;
    this.#validUntil[credential] = NONE;
    this.#generation[credential] = 0;
  }

  ends(credential: number): void {
    this.#live[credential] = 0;
  }

  asked(credential: number, now: number): void {
    const generation = this.#generation[credential] ?? 0;
    if (generation === 1) this.#firstRefreshAt ??= now - this.start;
    if (generation === 2) this.#secondRefreshAt ??= now - this.start;
  }

  got(credential: number, validUntil: number): void {
    this.#validUntil[credential] = validUntil;
    this.#generation[credential] = (this.#generation[credential] ?? 0) + 1;
  }

  attempt(now: number, outcome: Outcome): void {
    const second = Math.floor((now - this.start) / 1000);
    this.#attempts[second] = (this.#attempts[second] ?? 0) + 1;
    if (outcome === 'throttled') this.#throttled[second] = (this.#throttled[second] ?? 0) + 1;
  }

  sample(now: number): void {
    let [low, expired, without] = [0, 0, 0];
    for (let credential = 0; credential < this.#live.length; credential += 1) {
      if (this.#live[credential] === 0) continue;
      const left = (this.#validUntil[credential] ?? NONE) - now;
      if (left >= OFFSET_MS) continue;
      if (left === NONE) without += 1;
      else if (left <= 0) expired += 1;
      else low += 1;
    }
    this.#low.push(low);
    this.#expired.push(expired);
    this.#without.push(without);
  }
}

/** The average of counts per second over windows of `width` seconds. */
export function rates(counts: Uint32Array, width: number): number[] {
  const windows: number[] = [];
  for (let at = 0; at + width <= counts.length; at += width) {
    windows.push(counts.subarray(at, at + width).reduce((sum, count) => sum + count, 0) / width);
  }
  return windows;
}
