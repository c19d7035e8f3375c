import type { Clock } from '../../lib/util/clock.ts';
import { CredentialsUnavailable } from '../../lib/credentials/credentials.ts';

/**
 * So many requests a second are answered for an account in a region, and as many at once after a second of rest.
 * Source: IAM User Guide, "IAM and AWS STS quotas". Nothing is said there of the burst: a second's worth is modest.
 */
export const QUOTA_PER_SECOND = 600;
/** STS answers in 50 to 300 ms, as lib/credentials/aws.ts has it. */
const LATENCY_MS = [50, 300] as const;
/** And who does not reach it gives up after that: CONNECTION_TIMEOUT_MS there. */
const UNREACHABLE_AFTER_MS = 2_000;
/** ATTEMPTS there: the SDK itself tries again once. */
const ATTEMPTS = 2;
/** After a throttled attempt the SDK waits for up to 500 ms, after another failure up to 100 (its "standard" mode). */
const SDK_WAITS_MS = { throttled: 500, away: 100 } as const;

export interface StsOptions {
  readonly clock: Clock;
  readonly random: () => number;
  /** Whether it can be reached at this time (milliseconds since the epoch). */
  readonly isAway: (now: number) => boolean;
  /** Told of each attempt, throttled ones and those that reach nobody included. */
  readonly onAttempt: (outcome: Outcome) => void;
  readonly perSecond?: number;
}

export type Outcome = 'answered' | 'throttled' | 'away';

/** A region's STS as the fleet sees it. */
export class StsWithQuota {
  readonly #options: StsOptions;
  readonly #perSecond: number;
  #tokens: number;
  #filledAt: number;

  constructor(options: StsOptions) {
    this.#options = options;
    this.#perSecond = options.perSecond ?? QUOTA_PER_SECOND;
    this.#tokens = this.#perSecond;
    this.#filledAt = options.clock.now();
  }

  /** One AssumeRole by the SDK. @throws CredentialsUnavailable */
  assumeRole(): Promise<void> {
    return new Promise((resolve, reject) => this.#attempt(1, resolve, reject));
  }

  #attempt(number: number, resolve: () => void, reject: (error: Error) => void): void {
    const { clock, random, isAway, onAttempt } = this.#options;
    const outcome = isAway(clock.now()) ? 'away' : this.#takeToken() ? 'answered' : 'throttled';
    onAttempt(outcome);
    const [least, most] = LATENCY_MS;
    const takes = outcome === 'away' ? UNREACHABLE_AFTER_MS : least + (most - least) * random();
    if (outcome === 'answered') clock.after(takes, resolve);
    else if (number === ATTEMPTS) clock.after(takes, () => reject(new CredentialsUnavailable(outcome)));
    else clock.after(takes + SDK_WAITS_MS[outcome] * random(), () => this.#attempt(number + 1, resolve, reject));
  }

  #takeToken(): boolean {
    const now = this.#options.clock.now();
    this.#tokens = Math.min(this.#perSecond, this.#tokens + (now - this.#filledAt) / 1000 * this.#perSecond);
    this.#filledAt = now;
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}
