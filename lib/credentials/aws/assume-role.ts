import type { AssumeRoleCommandInput, AssumeRoleCommandOutput } from '@aws-sdk/client-sts';
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
  /** Told once for each role that does not allow the duration asked for, and gets STS's own (1 hour) instead. */
  onShortened: (role: RoleArn, durationSeconds: number) => void;
}

/** The SDK gives STS itself up before that; but for the proxy's own credentials (a process, say) it waits for ever. */
const CALL_TIMEOUT_MS = 30_000;
/** What AWS itself bears with. */
const MIN_SKEW_MS = 5 * 60 * 1000;
class TooSlow extends Error {}

/** More roles than a host has. One that is forgotten costs a call of STS more. */
const MAX_TOO_LONG = 1_000;

/** What STS says of a duration beyond the role's maximum, and beyond the hour that role chaining allows. */
const TOO_LONG = /DurationSeconds exceeds/i;

/**
 * Assumes roles. Source: STS API reference, `AssumeRole`.
 *
 * @returns a function that throws AssumeRoleDenied and CredentialsUnavailable
 */
export function stsFetcher({ clients, resolve, clock, onShortened }: StsOptions) {
  /** Role ARNs with a duration that was too long for them, the one that was noticed first at the beginning. */
  const tooLong = new Map<string, number>();

  return async (request: RoleRequest): Promise<Credentials> => {
    try {
      return await withTimeout(clock, CALL_TIMEOUT_MS, fetch(request), () => new TooSlow());
    } catch (error) {
      if (!(error instanceof TooSlow)) throw error;
      // Whatever hangs is not waited for again.
      clients.forget();
      throw new CredentialsUnavailable("STS, IAM, or getting the proxy's own credentials, takes too long");
    }
  };

  async function fetch(request: RoleRequest): Promise<Credentials> {
    const role = await resolve(request);
    if (!request.allowed.every((patterns) => patterns.some((pattern) => pattern.matches(role.arn)))) {
      throw new AssumeRoleDenied(ROLE_NOT_ALLOWED, `the settings do not allow this container the role ${role.arn}`);
    }
    const wanted = request.durationSeconds;
    const duration = wanted !== undefined && wanted >= (tooLong.get(role.arn) ?? Infinity) ? undefined : wanted;
    try {
      return await assume(role, input(request, role, duration));
    } catch (error) {
      if (duration === undefined || !(error instanceof AssumeRoleDenied && TOO_LONG.test(error.message))) throw error;
      tooLong.set(role.arn, duration);
      const [first] = tooLong.keys();
      if (tooLong.size > MAX_TOO_LONG && first !== undefined) tooLong.delete(first);
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

/** @param clockOffset milliseconds by which STS's clock is ahead of this host's, where the SDK has noticed that */
function parseAnswer(
  answer: AssumeRoleCommandOutput,
  role: RoleArn,
  lastUpdated: number,
  clockOffset: number,
): Credentials {
  const { AccessKeyId, SecretAccessKey, SessionToken, Expiration } = answer.Credentials ?? {};
  const expiration = Expiration?.getTime();
  // Below that it is the Date header's whole seconds and the answer's way, not a clock that is wrong.
  const skew = Math.abs(clockOffset) < MIN_SKEW_MS ? 0 : clockOffset;
  if (!AccessKeyId || !SecretAccessKey || !SessionToken || !expiration) {
    throw new CredentialsUnavailable('STS answered AssumeRole without complete credentials');
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
