/** A parsed ARN of an IAM role. `path` begins and ends with a slash; most roles have `/`. */
export interface RoleArn {
  readonly arn: string;
  readonly partition: string;
  readonly accountId: string;
  readonly path: string;
  readonly name: string;
}

/** Sources: IAM API reference, `Role` (name, path) and "IAM ARNs"; partitions are `aws`, `aws-cn`, `aws-us-gov`, `aws-iso…`. */
const ROLE_ARN = /^arn:(aws(?:-[a-z]+)*):iam::(\d{12}):role(\/(?:[!-.0-~]+\/)*)([\w+=,.@-]{1,64})$/;
const ACCOUNT_ID = /^\d{12}$/;
const ROLE_NAME = /^[\w+=,.@-]{1,64}$/;
/** Printable ASCII without spaces, between slashes; 512 characters at most. */
const ROLE_PATH = /^\/(?:[!-.0-~]+\/)*$/;
const MAX_PATH_LENGTH = 512;

/** @returns undefined if the text is not the ARN of a role */
export function parseRoleArn(text: string): RoleArn | undefined {
  const match = ROLE_ARN.exec(text);
  if (!match) return undefined;
  const [arn, partition = '', accountId = '', path = '', name = ''] = match;
  return path.length <= MAX_PATH_LENGTH ? { arn, partition, accountId, path, name } : undefined;
}

/** The parts must be valid by the functions below. */
export function makeRoleArn(partition: string, accountId: string, path: string, name: string): RoleArn {
  return { arn: `arn:${partition}:iam::${accountId}:role${path}${name}`, partition, accountId, path, name };
}

export const isAccountId = (text: string): boolean => ACCOUNT_ID.test(text);
export const isRoleName = (text: string): boolean => ROLE_NAME.test(text);
export const isRolePath = (text: string): boolean => text.length <= MAX_PATH_LENGTH && ROLE_PATH.test(text);

/**
 * The partition that a region belongs to. Source: the `partitions.json` that AWS publishes with its SDKs.
 */
export function partitionOf(region: string): string {
  if (region.startsWith('cn-')) return 'aws-cn';
  if (region.startsWith('us-gov-')) return 'aws-us-gov';
  if (region.startsWith('us-isob-')) return 'aws-iso-b';
  if (region.startsWith('us-isof-')) return 'aws-iso-f';
  if (region.startsWith('eu-isoe-')) return 'aws-iso-e';
  if (region.startsWith('us-iso-')) return 'aws-iso';
  if (region.startsWith('eusc-')) return 'aws-eusc';
  return 'aws';
}
