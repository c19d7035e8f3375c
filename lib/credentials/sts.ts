import type { AssumeRoleCommandInput, AssumeRoleCommandOutput } from '@aws-sdk/client-sts';
import type { RoleArn } from '../roles/role-arn.ts';
import type { RoleRequest } from '../roles/role-request.ts';
import type { AwsClients } from './aws.ts';
import { AssumeRoleDenied, CredentialsUnavailable, type Credentials } from './credentials.ts';

export interface StsOptions {
  clients: AwsClients;
  /** @throws AssumeRoleDenied, CredentialsUnavailable */
  resolve: (request: RoleRequest) => Promise<RoleArn>;
  now: () => number;
  /** Told once for each role that does not allow the duration asked for, and gets STS's own (1 hour) instead. */
  onShortened: (role: RoleArn, durationSeconds: number) => void;
}

/** What STS says of a duration beyond the role's maximum, and beyond the hour that role chaining allows. */
const TOO_LONG = /DurationSeconds exceeds/i;

/**
 * Assumes roles. Source: STS API reference, `AssumeRole`.
 *
 * @returns a function that throws AssumeRoleDenied and CredentialsUnavailable
 */
export function stsFetcher({ clients, resolve, now, onShortened }: StsOptions) {
  /** Role ARNs with a duration that was too long for them. */
  const tooLong = new Map<string, number>();

  return async (request: RoleRequest): Promise<Credentials> => {
    const role = await resolve(request);
    if (!request.allowed.every((patterns) => patterns.some((pattern) => pattern.matches(role.arn)))) {
      throw new AssumeRoleDenied('RoleNotAllowed', `the settings do not allow this container the role ${role.arn}`);
    }
    const wanted = request.durationSeconds;
    const duration = wanted !== undefined && wanted >= (tooLong.get(role.arn) ?? Infinity) ? undefined : wanted;
    try {
      return parseAnswer(await assume(input(request, role, duration)), role, now());
    } catch (error) {
      if (duration === undefined || !(error instanceof AssumeRoleDenied && TOO_LONG.test(error.message))) throw error;
      tooLong.set(role.arn, duration);
      onShortened(role, duration);
      return parseAnswer(await assume(input(request, role, undefined)), role, now());
    }
  };

  async function assume(parameters: AssumeRoleCommandInput): Promise<AssumeRoleCommandOutput> {
    try {
      const client = await clients.sts();
      const { AssumeRoleCommand } = await import('@aws-sdk/client-sts');
      return await client.send(new AssumeRoleCommand(parameters));
    } catch (error) {
      throw clients.failure(error);
    }
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

function parseAnswer(answer: AssumeRoleCommandOutput, role: RoleArn, lastUpdated: number): Credentials {
  const { AccessKeyId, SecretAccessKey, SessionToken, Expiration } = answer.Credentials ?? {};
  const expiration = Expiration?.getTime();
  if (!AccessKeyId || !SecretAccessKey || !SessionToken || !expiration) {
    throw new CredentialsUnavailable('STS answered AssumeRole without complete credentials');
  }
  return {
    accessKeyId: AccessKeyId,
    secretAccessKey: SecretAccessKey,
    sessionToken: SessionToken,
    expiration,
    lastUpdated,
    roleArn: role.arn,
    accountId: role.accountId,
    assumedRoleArn: answer.AssumedRoleUser?.Arn ?? role.arn,
    assumedRoleId: answer.AssumedRoleUser?.AssumedRoleId ?? '',
  };
}
