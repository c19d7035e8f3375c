import type { Clock } from '../../lib/util/clock.ts';
import { CredentialsUnavailable } from '../../lib/credentials/credentials.ts';

/**
 * Requests per second for an account in a region, with a burst of the same size after an idle second. Source: IAM User
 * Guide, "IAM and AWS STS quotas". It does not state the burst; one second's worth is a cautious assumption.
 */
export const QUOTA_PER_SECOND = 600;
/** STS answers in 50 to 300 ms, as lib/credentials/aws/ says. */
const LATENCY_MS = [50, 300] as const;
/** CONNECTION_TIMEOUT_MS there. */
const CONNECTION_TIMEOUT_MS = 2_000;
/** ATTEMPTS there: the SDK retries once. */
const ATTEMPTS = 2;
/** The SDK's maximum backoff after a throttled attempt and after another failure (its "standard" mode). */
const SDK_BACKOFF_MS = { throttled: 500, unavailable: 100 } as const;

export interface StsOptions {
  readonly clock: Clock;
  readonly random: () => number;
  /** Whether STS is unreachable at this time (milliseconds since the epoch). */
  readonly isUnavailable: (now: number) => boolean;
  /** Called for each attempt, throttled and unanswered ones included. */
  readonly onAttempt: (outcome: Outcome) => void;
  readonly perSecond?: number;
}

export type Outcome = 'answered' | 'throttled' | 'unavailable';

/** The STS of one region. */
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
    const { clock, random, isUnavailable, onAttempt } = this.#options;
    const outcome = isUnavailable(clock.now()) ? 'unavailable' : this.#takeToken() ? 'answered' : 'throttled';
    onAttempt(outcome);
    const [minimum, maximum] = LATENCY_MS;
    const takes = outcome === 'unavailable' ? CONNECTION_TIMEOUT_MS : minimum + (maximum - minimum) * random();
    if (outcome === 'answered') clock.after(takes, resolve);
    else if (number === ATTEMPTS) clock.after(takes, () => reject(new CredentialsUnavailable(outcome)));
    else clock.after(takes + SDK_BACKOFF_MS[outcome] * random(), () => this.#attempt(number + 1, resolve, reject));
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
