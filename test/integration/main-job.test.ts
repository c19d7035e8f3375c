import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HOST_MARK, INSTANCE_ID } from '../support/imds.ts';
import { host, SECURITY_CREDENTIALS } from './host.ts';

test('a container gets the credentials of its declared role', async (t) => {
  const { docker, sts, ask } = await host(t);
  const container = await docker.host.run({
    name: 'app',
    address: '127.0.0.11',
    env: { IAM_ROLE: 'app-role@123456789012', IAM_EXTERNAL_ID: 'their-id' },
  });

  const name = await ask('127.0.0.11', SECURITY_CREDENTIALS);
  assert.equal(name.body, 'app-role');
  assert.equal(name.headers['content-type'], 'text/plain');
  assert.equal(name.headers['server'], 'EC2ws');

  const answer = await ask('127.0.0.11', `${SECURITY_CREDENTIALS}app-role`);
  assert.equal(answer.status, 200);
  const credentials = JSON.parse(answer.body) as Record<string, string>;
  assert.deepEqual(Object.keys(credentials), [
    'Code', 'LastUpdated', 'Type', 'AccessKeyId', 'SecretAccessKey', 'Token', 'Expiration',
  ]);
  assert.match(credentials['Expiration'] ?? '', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  const { call } = sts.issuedAs(credentials['AccessKeyId'] ?? '');
  assert.equal(call.roleArn, 'arn:aws:iam::123456789012:role/app-role');
  assert.equal(call.externalId, 'their-id');
  assert.equal(call.roleSessionName, `app-${container.id.slice(0, 12)}`);
  assert.equal(sts.assumed().length, 1);
});

test('the role is assumed when the container is created, before it has an address', async (t) => {
  const { docker, sts } = await host(t);
  docker.host.create({ address: '127.0.0.11', env: { IAM_ROLE: 'early@123456789012' } });
  const call = await sts.calls.first(({ action }) => action === 'AssumeRole');
  assert.equal(call.roleArn, 'arn:aws:iam::123456789012:role/early');
});

test('other metadata comes from the upstream IMDS', async (t) => {
  const { imds, ask } = await host(t);
  const answer = await ask('127.0.0.99', '/latest/meta-data/instance-id');
  assert.equal(answer.body, INSTANCE_ID);
  const [token, read] = imds.requests.entries;
  assert.equal(token?.method, 'PUT');
  assert.equal(read?.target, '/latest/meta-data/instance-id');
});

test('an unknown caller gets 404 and never the host\'s credentials', async (t) => {
  const { imds, ask } = await host(t);
  const paths = [SECURITY_CREDENTIALS, `${SECURITY_CREDENTIALS}host-role`, '/latest/meta-data/iam/info', '/creds'];
  for (const answer of await Promise.all(paths.map((path) => ask('127.0.0.99', path)))) {
    assert.equal(answer.status, 404);
    assert.ok(!answer.body.includes(HOST_MARK));
  }
  assert.equal(imds.requests.entries.length, 0);
});
