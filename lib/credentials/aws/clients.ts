/**
 * What STS and IAM have in common here: which region, how long to wait, and what their errors mean.
 */

import type { IAMClient } from '@aws-sdk/client-iam';
import type { STSClient } from '@aws-sdk/client-sts';
import type { Clock } from '../../util/clock.ts';
import { AssumeRoleDenied, CredentialsUnavailable } from '../credentials.ts';

/** STS answers in 50 to 300 ms; an attempt that takes longer than this is lost. */
const CONNECTION_TIMEOUT_MS = 2_000;
const REQUEST_TIMEOUT_MS = 5_000;
/** The store has a backoff of its own; here only a single hiccup is smoothed over. */
const ATTEMPTS = 2;
/** Where no region is set, and the host has none to tell. STS answers there for every region of its partition. */
const FALLBACK_REGION = 'us-east-1';
/** The metadata service may only be slow to come up; so long the fallback stands before it is asked again. */
const FALLBACK_TTL_MS = 60_000;

/** There are none, or none for now. */
const MISSING_CREDENTIALS = new Set(['CredentialsProviderError', 'TokenProviderError']);

/** The proxy's own credentials are not (any longer) good: that is nothing the container could mend. */
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
  /** From the settings; without one the shared config, the real IMDS and us-east-1 follow. */
  region: string | undefined;
  /** The region that the host itself is in, from the real IMDS. */
  hostRegion: () => Promise<string | undefined>;
  clock: Clock;
  /** Told of every call of STS and IAM. */
  onCall?: (operation: string, result: CallResult, milliseconds: number) => void;
  /** AWS has taken the proxy's own credentials. */
  onSourceCredentialsWorked?: () => void;
  /** They could not be had, or AWS has `refused` them. */
  onSourceCredentialsFailed?: (message: string, refused: boolean) => void;
}

export type CallResult = 'ok' | 'denied' | 'throttled' | 'unavailable';

/** Makes the SDK's clients when they are first needed, so that the SDK costs nothing before. */
export class AwsClients {
  readonly #options: AwsOptions;
  #region: Promise<string> | undefined;
  #fallbackUntil = Infinity;
  #sts: Promise<STSClient> | undefined;
  #iam: Promise<IAMClient> | undefined;

  constructor(options: AwsOptions) {
    this.#options = options;
  }

  region(): Promise<string> {
    this.#forgetFallback();
    return (this.#region ??= this.#findRegion());
  }

  sts(): Promise<STSClient> {
    this.#forgetFallback();
    return (this.#sts ??= (async () => {
      const { STSClient } = await import('#sdk');
      // Asked for with the first call: to read the credential chain it is not needed, as a rule.
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
   * Reads the credential chain, once for this and all calls until `forget`.
   *
   * @returns the id of the proxy's own access key; throws what the SDK throws
   */
  async sourceAccessKey(): Promise<string> {
    const client = await this.sts();
    return (await client.config.credentials()).accessKeyId;
  }

  /**
   * Who the proxy itself is.
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
   * Makes a call of STS or IAM.
   *
   * @param secret what the call has in it that must not be repeated
   * @throws AssumeRoleDenied, CredentialsUnavailable
   */
  async call<T>(operation: string, make: () => Promise<T>, secret?: string): Promise<T> {
    const { clock, onCall, onSourceCredentialsWorked } = this.#options;
    const began = clock.monotonic();
    try {
      const answer = await make();
      onSourceCredentialsWorked?.();
      onCall?.(operation, 'ok', clock.monotonic() - began);
      return answer;
    } catch (error) {
      const failure = this.failure(error, secret);
      onCall?.(operation, resultOf(failure), clock.monotonic() - began);
      throw failure;
    }
  }

  /**
   * Turns what the SDK threw into an error with a meaning. After trouble with the proxy's own credentials the clients
   * are made anew, so that the credential chain is read again.
   *
   * @param secret what the call had in it that must not be repeated
   */
  failure(error: unknown, secret?: string): AssumeRoleDenied | CredentialsUnavailable {
    if (error instanceof AssumeRoleDenied || error instanceof CredentialsUnavailable) return error;
    const { name, message: whole } = error instanceof Error ? error : new Error(String(error));
    const message = withoutSecrets(whole, secret);
    if (SOURCE_CREDENTIAL_ERRORS.has(name)) {
      this.forget();
      // Of a signature STS repeats the whole request, with its session token.
      const detail = /Signature/.test(name) ? name : `${name}: ${message}`;
      const why = `the proxy's own credentials do not work (${detail})`;
      this.#options.onSourceCredentialsFailed?.(detail, !MISSING_CREDENTIALS.has(name));
      return new CredentialsUnavailable(why, { cause: error });
    }
    if (isDenial(error)) {
      // It was signed well enough to be judged.
      this.#options.onSourceCredentialsWorked?.();
      return new AssumeRoleDenied(name, message, { cause: error });
    }
    return new CredentialsUnavailable(`${name}: ${message}`, { cause: error });
  }

  /** The next call reads the credential chain anew. */
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

/** STS repeats what it objects to, such as an external id. */
function withoutSecrets(message: string, secret: string | undefined): string {
  return secret ? message.replaceAll(secret, '(external id)') : message;
}

const THROTTLING = /throttl|RequestLimitExceeded|TooManyRequests/i;

function resultOf(failure: AssumeRoleDenied | CredentialsUnavailable): CallResult {
  if (failure instanceof AssumeRoleDenied) return 'denied';
  return failure.cause instanceof Error && THROTTLING.test(failure.cause.name) ? 'throttled' : 'unavailable';
}

/** A definite refusal of the service itself: a client's fault that is neither throttling nor the clock's. */
function isDenial(error: unknown): boolean {
  if (!(error instanceof Error) || !('$fault' in error) || !('$metadata' in error)) return false;
  const { httpStatusCode } = error.$metadata as { httpStatusCode?: number };
  // The SDK's exceptions all declare the property; only those that are retryable set it.
  const isRetryable = '$retryable' in error && error.$retryable !== undefined;
  const isThrottling = isRetryable || THROTTLING.test(error.name);
  return error.$fault === 'client' && httpStatusCode !== undefined && httpStatusCode < 500 && !isThrottling;
}
