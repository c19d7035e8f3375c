import type { Credentials } from '../../credentials/credentials.ts';

/** What can be asked of credentials, each in its own JSON. */
export type CredentialForm = 'imds' | 'imds-extended' | 'ecs' | 'info';

const made = new WeakMap<Credentials, Partial<Record<CredentialForm, string>>>();

/**
 * The answer's body, made once for each credentials. Keys and their order are those of IMDS ("Retrieve security
 * credentials from instance metadata" in the EC2 user guide) and of the ECS agent ("Task IAM role").
 */
export function credentialAnswer(credentials: Credentials, form: CredentialForm): string {
  let answers = made.get(credentials);
  if (!answers) made.set(credentials, (answers = {}));
  return (answers[form] ??= JSON.stringify(describe(credentials, form), null, 2));
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

/** ISO 8601 UTC to the second, as IMDS has it. */
function imdsTime(milliseconds: number): string {
  return `${new Date(milliseconds).toISOString().slice(0, 19)}Z`;
}
