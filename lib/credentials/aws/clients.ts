/**
 * The SDK's STS and IAM clients: their region, their timeouts, and the classification of their errors.
 *
 *   AssumeRoleDenied         a definite answer of AWS: retrying changes nothing
 *   CredentialsUnavailable   everything else: unreachable, slow, throttled, or invalid source credentials
 */

import type { IAMClient } from '@aws-sdk/client-iam';
import type { STSClient } from '@aws-sdk/client-sts';
import type { Events } from '../../events.ts';
import type { Clock } from '../../util/clock.ts';
import { AssumeRoleDenied, CredentialsUnavailable } from '../credentials.ts';

/** STS answers in 50 to 300 ms, so a slower attempt has failed. */
const CONNECTION_TIMEOUT_MS = 2_000;
const REQUEST_TIMEOUT_MS = 5_000;
/** One retry hides a single network error; the store has its own backoff for the rest. */
const ATTEMPTS = 2;
/** For hosts without a region. Its STS endpoint serves every region of the partition. */
const FALLBACK_REGION = 'us-east-1';
/** IMDS may just be slow to start, so the region is resolved again after this time. */
const FALLBACK_TTL_MS = 60_000;

/** The credential chain found nothing. */
const MISSING_CREDENTIALS = new Set(['CredentialsProviderError', 'TokenProviderError']);

/** Errors about the source credentials, which a container cannot fix. */
const SOURCE_CREDENTIAL_ERRORS = new Set([
  'CredentialsProviderError',
  'ExpiredToken',
  'ExpiredTokenException',
  'IncompleteSignature',
  'InvalidClientTokenId',
  'MissingAuthenticationToken',
  'RequestExpired',
  'SignatureDoesNotMatch',
  'TokenProviderError',
  'TokenRefreshRequired',
  'UnrecognizedClientException',
]);

export interface AwsOptions {
  /** AWS_REGION. Without it: the shared config file, then `hostRegion`, then us-east-1. */
  region: string | undefined;
  /** The instance's own region, from the upstream IMDS. */
  hostRegion: () => Promise<string | undefined>;
  clock: Clock;
  events?: Pick<Events, 'awsCallEnded'> | undefined;
}

/** Learns from every AWS call whether the source credentials work. */
export interface SourceCredentialsListener {
  /** AWS accepted them. */
  worked(): void;
  /** @param refused whether AWS refused them; otherwise the credential chain found none */
  failed(message: string, refused: boolean): void;
}

export type CallResult = 'ok' | 'denied' | 'throttled' | 'unavailable';

/** Creates the SDK's clients on first use, so that start-up does not load the SDK. */
export class AwsClients {
  readonly #options: AwsOptions;
  #listener: SourceCredentialsListener | undefined;
  #region: Promise<string> | undefined;
  #fallbackUntil = Infinity;
  #sts: Promise<STSClient> | undefined;
  #iam: Promise<IAMClient> | undefined;

  constructor(options: AwsOptions) {
    this.#options = options;
  }

  /** Replaces the listener, if there was one. */
  subscribe(listener: SourceCredentialsListener): void {
    this.#listener = listener;
  }

  region(): Promise<string> {
    this.#forgetFallback();
    return (this.#region ??= this.#findRegion());
  }

  sts(): Promise<STSClient> {
    this.#forgetFallback();
    return (this.#sts ??= (async () => {
      const { STSClient } = await import('#sdk');
      // Resolved with the first call: reading the credential chain rarely needs a region.
      return new STSClient({ region: () => this.region(), ...CLIENT_OPTIONS });
    })());
  }

  iam(): Promise<IAMClient> {
    this.#forgetFallback();
    return (this.#iam ??= (async () => {
      const [{ IAMClient }, region] = [await import('#sdk'), await this.region()];
      return new IAMClient({ region, ...CLIENT_OPTIONS });
    })());
  }

  /**
   * Reads the credential chain. Later calls use the result until `forget`.
   *
   * @returns the access key ID of the source credentials; throws what the SDK throws
   */
  async sourceAccessKey(): Promise<string> {
    const client = await this.sts();
    return (await client.config.credentials()).accessKeyId;
  }

  /**
   * The identity of the source credentials.
   *
   * @throws AssumeRoleDenied, CredentialsUnavailable
   */
  callerIdentity(): Promise<{ Arn?: string | undefined }> {
    return this.call('GetCallerIdentity', async () => {
      const client = await this.sts();
      const { GetCallerIdentityCommand } = await import('#sdk');
      return client.send(new GetCallerIdentityCommand({}));
    });
  }

  /**
   * Calls STS or IAM.
   *
   * @param secret part of the call that no error may repeat
   * @throws AssumeRoleDenied, CredentialsUnavailable
   */
  async call<T>(operation: string, make: () => Promise<T>, secret?: string): Promise<T> {
    const { clock, events } = this.#options;
    const began = clock.monotonic();
    try {
      const answer = await make();
      this.#listener?.worked();
      events?.awsCallEnded(operation, 'ok', clock.monotonic() - began);
      return answer;
    } catch (error) {
      const failure = this.failure(error, secret);
      events?.awsCallEnded(operation, resultOf(failure), clock.monotonic() - began);
      throw failure;
    }
  }

  /**
   * Classifies what the SDK threw. After an error about the source credentials the next call reads the credential chain
   * again.
   *
   * @param secret part of the call that no error may repeat
   */
  failure(error: unknown, secret?: string): AssumeRoleDenied | CredentialsUnavailable {
    if (error instanceof AssumeRoleDenied || error instanceof CredentialsUnavailable) return error;
    const { name, message: whole } = error instanceof Error ? error : new Error(String(error));
    const message = withoutSecrets(whole, secret);
    if (SOURCE_CREDENTIAL_ERRORS.has(name)) {
      this.forget();
      // For an invalid signature STS repeats the whole request, including the session token.
      const detail = /Signature/.test(name) ? name : `${name}: ${message}`;
      const why = `the proxy's source credentials do not work (${detail})`;
      this.#listener?.failed(detail, !MISSING_CREDENTIALS.has(name));
      return new CredentialsUnavailable(why, { cause: error });
    }
    if (isDenial(error)) {
      // AWS evaluates a request only after it has verified the signature.
      this.#listener?.worked();
      return new AssumeRoleDenied(name, message, { cause: error });
    }
    return new CredentialsUnavailable(`${name}: ${message}`, { cause: error });
  }

  /** Makes the next call read the credential chain again. */
  forget(): void {
    this.#sts = this.#iam = undefined;
  }

  #forgetFallback(): void {
    if (this.#options.clock.now() < this.#fallbackUntil) return;
    this.#fallbackUntil = Infinity;
    this.#region = this.#sts = this.#iam = undefined;
  }

  async #findRegion(): Promise<string> {
    const { region, hostRegion } = this.#options;
    if (region !== undefined) return region;
    const { STSClient } = await import('#sdk');
    const found = await new STSClient({}).config.region().catch(() => hostRegion());
    if (!found) this.#fallbackUntil = this.#options.clock.now() + FALLBACK_TTL_MS;
    return found || FALLBACK_REGION;
  }
}

const CLIENT_OPTIONS = {
  maxAttempts: ATTEMPTS,
  requestHandler: {
    connectionTimeout: CONNECTION_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    throwOnRequestTimeout: true,
  },
} as const;

/** STS errors repeat the invalid value, such as an external ID. */
function withoutSecrets(message: string, secret: string | undefined): string {
  return secret ? message.replaceAll(secret, '(external ID)') : message;
}

const THROTTLING = /throttl|RequestLimitExceeded|TooManyRequests/i;

function resultOf(failure: AssumeRoleDenied | CredentialsUnavailable): CallResult {
  if (failure instanceof AssumeRoleDenied) return 'denied';
  return failure.cause instanceof Error && THROTTLING.test(failure.cause.name) ? 'throttled' : 'unavailable';
}

/** A 4xx of the service itself that is neither throttling nor otherwise retryable. */
function isDenial(error: unknown): boolean {
  if (!(error instanceof Error) || !('$fault' in error) || !('$metadata' in error)) return false;
  const { httpStatusCode } = error.$metadata as { httpStatusCode?: number };
  // Every SDK exception declares `$retryable`; only retryable ones set it.
  const isRetryable = '$retryable' in error && error.$retryable !== undefined;
  const isThrottling = isRetryable || THROTTLING.test(error.name);
  return error.$fault === 'client' && httpStatusCode !== undefined && httpStatusCode < 500 && !isThrottling;
}
