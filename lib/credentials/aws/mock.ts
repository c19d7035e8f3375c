import { randomBytes } from 'node:crypto';
import type { RoleArn } from '../../roles/role-arn.ts';
import type { RoleRequest } from '../../roles/role-request.ts';
import { makeRoleArn } from '../../roles/role-arn.ts';
import type { Credentials } from '../credentials.ts';

const LIFETIME_MS = 60 * 60 * 1000;
/** The account in AWS's own examples. */
const ACCOUNT_ID = '123456789012';

/** Fake credentials of the right shape. Their text shows wherever they appear that they grant no access. */
export function mockFetcher(now: () => number): (request: RoleRequest) => Promise<Credentials> {
  return async ({ role: reference, sessionName }) => {
    const accountId = reference.kind === 'account' ? reference.accountId : ACCOUNT_ID;
    const role: RoleArn =
      reference.kind === 'arn' ? reference.role : makeRoleArn('aws', accountId, reference.path, reference.name);
    return {
      accessKeyId: 'ASIAMOCKMOCKMOCKMOCK',
      secretAccessKey: 'mock+secret+access+key+that+opens+nothing',
      sessionToken: `mock-session-token-that-opens-nothing-${randomBytes(6).toString('hex')}`,
      expiration: now() + LIFETIME_MS,
      validUntil: now() + LIFETIME_MS,
      lastUpdated: now(),
      roleArn: role.arn,
      accountId: role.accountId,
      assumedRoleArn: `arn:${role.partition}:sts::${role.accountId}:assumed-role/${role.name}/${sessionName}`,
      assumedRoleId: `AROAMOCKMOCKMOCKMOCK:${sessionName}`,
    };
  };
}
