import type { Credentials } from '../../credentials/credentials.ts';

/** The JSON forms of credentials. */
export type CredentialForm = 'imds' | 'imds-extended' | 'ecs' | 'info';

const bodies = new WeakMap<Credentials, Partial<Record<CredentialForm, string>>>();

/**
 * The answer's body, cached with the credentials. Keys and their order are those of IMDS ("Retrieve security credentials
 * from instance metadata" in the EC2 user guide) and of the ECS agent ("Task IAM role").
 */
export function credentialAnswer(credentials: Credentials, form: CredentialForm): string {
  let byForm = bodies.get(credentials);
  if (!byForm) bodies.set(credentials, (byForm = {}));
  return (byForm[form] ??= JSON.stringify(describe(credentials, form), null, 2));
}

function describe(credentials: Credentials, form: CredentialForm): Record<string, string> {
  const { accessKeyId, secretAccessKey, sessionToken, roleArn, accountId } = credentials;
  const lastUpdated = imdsTime(credentials.lastUpdated);
  const expiration = imdsTime(credentials.expiration);
  const keys = { AccessKeyId: accessKeyId, SecretAccessKey: secretAccessKey, Token: sessionToken };
  switch (form) {
    case 'imds':
      return { Code: 'Success', LastUpdated: lastUpdated, Type: 'AWS-HMAC', ...keys, Expiration: expiration };
    case 'imds-extended':
      return { ...describe(credentials, 'imds'), AccountId: accountId };
    case 'ecs':
      return { RoleArn: roleArn, ...keys, Expiration: expiration };
    case 'info':
      return {
        Code: 'Success',
        LastUpdated: lastUpdated,
        InstanceProfileArn: credentials.assumedRoleArn,
        InstanceProfileId: credentials.assumedRoleId,
      };
  }
}

/** ISO 8601 UTC to the second, as IMDS writes it. */
function imdsTime(milliseconds: number): string {
  return `${new Date(milliseconds).toISOString().slice(0, 19)}Z`;
}
