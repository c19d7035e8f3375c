/**
 * What is used of the AWS SDK, by name: a package that is imported whole is bundled whole. Import it as `#sdk`, and only
 * when it is needed (package.json says what that is).
 */
export { GetRoleCommand, IAMClient } from '@aws-sdk/client-iam';
export { AssumeRoleCommand, GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
