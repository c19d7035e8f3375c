import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mockFetcher } from '../../lib/credentials/aws/mock.ts';
import { aRequest } from './helpers/fixtures.ts';

test('mock credentials have the shape of real ones, and say that they are mocks', async () => {
  const fetch = mockFetcher(() => 1000);
  const assume = (role: string) =>
    fetch(aRequest(role, { sessionName: 'web-1' }));
  const credentials = await assume('team/app@111111111111');
  for (const secret of [credentials.accessKeyId, credentials.secretAccessKey, credentials.sessionToken])
    assert.match(secret, /mock/i);
  assert.match(credentials.accessKeyId, /^ASIA[A-Z]{16}$/);
  assert.deepEqual([credentials.lastUpdated, credentials.expiration], [1000, 1000 + 3_600_000]);
  assert.equal(credentials.roleArn, 'arn:aws:iam::111111111111:role/team/app');
  assert.equal(credentials.assumedRoleArn, 'arn:aws:sts::111111111111:assumed-role/app/web-1');
  assert.equal((await assume('app')).roleArn, 'arn:aws:iam::123456789012:role/app');
  assert.equal((await assume('arn:aws-cn:iam::222222222222:role/app')).accountId, '222222222222');
  assert.notEqual((await assume('app')).sessionToken, (await assume('app')).sessionToken);
});
