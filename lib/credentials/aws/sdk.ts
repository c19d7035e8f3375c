/**
 * The parts of the AWS SDK that this program uses. Named exports keep the rest out of the bundle. Import this as `#sdk`
 * (see package.json) and only on first use: it costs start-up time.
 */
export { GetRoleCommand, IAMClient } from '@aws-sdk/client-iam';
export { AssumeRoleCommand, GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
