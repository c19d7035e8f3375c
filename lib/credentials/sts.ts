import type { AssumeRoleCommandOutput } from '@aws-sdk/client-sts';
import type { RoleArn } from '../roles/role-arn.ts';
import type { RoleRequest } from '../roles/role-request.ts';
import type { AwsClients } from './aws.ts';
import { CredentialsUnavailable, type Credentials } from './credentials.ts';

export interface StsOptions {
  clients: AwsClients;
  /** @throws AssumeRoleDenied, CredentialsUnavailable */
  resolve: (request: RoleRequest) => Promise<RoleArn>;
  now: () => number;
}

/**
 * Assumes roles. Source: STS API reference, `AssumeRole`.
 *
 * @returns a function that throws AssumeRoleDenied and CredentialsUnavailable
 */
export function stsFetcher({ clients, resolve, now }: StsOptions): (request: RoleRequest) => Promise<Credentials> {
  return async (request) => {
    const role = await resolve(request);
    try {
      const client = await clients.sts();
      const { AssumeRoleCommand } = await import('@aws-sdk/client-sts');
      const answer = await client.send(
        new AssumeRoleCommand({
          RoleArn: role.arn,
          RoleSessionName: request.sessionName,
          ...(request.externalId === undefined ? {} : { ExternalId: request.externalId }),
        }),
      );
      return parseAnswer(answer, role, now());
    } catch (error) {
      throw clients.failure(error);
    }
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
