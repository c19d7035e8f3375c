/**
 * What is used of the SDK's STS client, by name: imported whole and only when needed, a package is bundled whole; from
 * here the bundler takes what is named alone.
 */
export { AssumeRoleCommand, GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
