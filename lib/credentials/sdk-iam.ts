/** What is used of the SDK's IAM client, by name, as in sdk-sts.ts: of its 180 operations one. */
export { GetRoleCommand, IAMClient } from '@aws-sdk/client-iam';
