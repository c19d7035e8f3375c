import type { AssumeRoleCommandInput, AssumeRoleCommandOutput } from '@aws-sdk/client-sts';
import { BoundedMap } from '../../util/bounded-map.ts';
import { withTimeout, type Clock } from '../../util/clock.ts';
import type { RoleArn } from '../../roles/role-arn.ts';
import type { RoleRequest } from '../../roles/role-request.ts';
import type { AwsClients } from './clients.ts';
import { AssumeRoleDenied, CredentialsUnavailable, ROLE_NOT_ALLOWED, type Credentials } from '../credentials.ts';

export interface StsOptions {
  clients: AwsClients;
  /** @throws AssumeRoleDenied, CredentialsUnavailable */
  resolve: (request: RoleRequest) => Promise<RoleArn>;
  clock: Clock;
  /** Called when a role does not allow the requested duration and gets STS's default (1 hour) instead. */
  onShortened: (role: RoleArn, durationSeconds: number) => void;
}

/** The SDK's own timeouts are shorter, but they do not cover the source credentials, such as a credential process. */
const CALL_TIMEOUT_MS = 30_000;
/** AWS accepts signatures with this much clock skew. */
const MIN_SKEW_MS = 5 * 60 * 1000;
class Timeout extends Error {}

/** More roles than a host has. A dropped one costs one more STS call. */
const MAX_TOO_LONG = 1_000;

/** STS's message for a duration above the role's maximum, or above the hour that role chaining allows. */
const TOO_LONG = /DurationSeconds exceeds/i;

/**
 * Assumes roles. Source: STS API reference, `AssumeRole`.
 *
 * @returns a function that throws AssumeRoleDenied and CredentialsUnavailable
 */
export function stsFetcher({ clients, resolve, clock, onShortened }: StsOptions) {
  /** Role ARNs with a duration that was too long for them. */
  const tooLong = new BoundedMap<string, number>(MAX_TOO_LONG);

  return async (request: RoleRequest): Promise<Credentials> => {
    try {
      return await withTimeout(clock, CALL_TIMEOUT_MS, fetch(request), () => new Timeout());
    } catch (error) {
      if (!(error instanceof Timeout)) throw error;
      // The next call must not wait for the same hanging promise.
      clients.forget();
      throw new CredentialsUnavailable(`no answer from STS, IAM or the proxy's credential source within ${CALL_TIMEOUT_MS / 1000} s`);
    }
  };

  async function fetch(request: RoleRequest): Promise<Credentials> {
    const role = await resolve(request);
    if (!request.allowed.every((patterns) => patterns.some((pattern) => pattern.matches(role.arn)))) {
      throw new AssumeRoleDenied(ROLE_NOT_ALLOWED, `the settings do not allow the role ${role.arn} for this container`);
    }
    const wanted = request.durationSeconds;
    const duration = wanted !== undefined && wanted >= (tooLong.get(role.arn) ?? Infinity) ? undefined : wanted;
    try {
      return await assume(role, input(request, role, duration));
    } catch (error) {
      if (duration === undefined || !(error instanceof AssumeRoleDenied && TOO_LONG.test(error.message))) throw error;
      tooLong.set(role.arn, duration);
      onShortened(role, duration);
      return assume(role, input(request, role, undefined));
    }
  }

  function assume(role: RoleArn, parameters: AssumeRoleCommandInput): Promise<Credentials> {
    const call = async (): Promise<Credentials> => {
      const client = await clients.sts();
      const { AssumeRoleCommand } = await import('#sdk');
      const answer = await client.send(new AssumeRoleCommand(parameters));
      return parseAnswer(answer, role, clock.now(), client.config.systemClockOffset);
    };
    return clients.call('AssumeRole', call, parameters.ExternalId);
  }
}

function input(request: RoleRequest, role: RoleArn, durationSeconds: number | undefined): AssumeRoleCommandInput {
  const tags = [...request.tags].map(([Key, Value]) => ({ Key, Value }));
  return {
    RoleArn: role.arn,
    RoleSessionName: request.sessionName,
    ExternalId: request.externalId,
    Policy: request.policy,
    DurationSeconds: durationSeconds,
    SourceIdentity: request.sourceIdentity,
    Tags: tags.length === 0 ? undefined : tags,
    TransitiveTagKeys: tags.length > 0 && request.transitiveTags ? tags.map(({ Key }) => Key) : undefined,
  };
}

/** @param clockOffset milliseconds that STS's clock is ahead of this host's, as the SDK measured it */
function parseAnswer(
  answer: AssumeRoleCommandOutput,
  role: RoleArn,
  lastUpdated: number,
  clockOffset: number,
): Credentials {
  const { AccessKeyId, SecretAccessKey, SessionToken, Expiration } = answer.Credentials ?? {};
  const expiration = Expiration?.getTime();
  // A smaller offset comes from the Date header's whole seconds and from latency, not from a wrong clock.
  const skew = Math.abs(clockOffset) < MIN_SKEW_MS ? 0 : clockOffset;
  if (!AccessKeyId || !SecretAccessKey || !SessionToken || !expiration) {
    throw new CredentialsUnavailable('STS answered AssumeRole with incomplete credentials');
  }
  return {
    accessKeyId: AccessKeyId,
    secretAccessKey: SecretAccessKey,
    sessionToken: SessionToken,
    expiration,
    validUntil: expiration - skew,
    lastUpdated: lastUpdated + skew,
    roleArn: role.arn,
    accountId: role.accountId,
    assumedRoleArn: answer.AssumedRoleUser?.Arn ?? role.arn,
    assumedRoleId: answer.AssumedRoleUser?.AssumedRoleId ?? '',
  };
}
