import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { accessKeyIn, host, jsonOf, SECURITY_CREDENTIALS } from './host.ts';

const { docker, sts, proxy, ask, roleGiven } = await host({ after });
const ACCOUNT = '123456789012';
const isGetRole = ({ action }: { action: string }): boolean => action === 'GetRole';

// Every form of IAM_ROLE

const FORMS = [
  { role: `plain@${ACCOUNT}`, name: 'plain', arn: `arn:aws:iam::${ACCOUNT}:role/plain` },
  { role: 'other@210987654321', name: 'other', arn: 'arn:aws:iam::210987654321:role/other' },
  { role: `team/app@${ACCOUNT}`, name: 'app', arn: `arn:aws:iam::${ACCOUNT}:role/team/app` },
  { role: `/team/app2@${ACCOUNT}`, name: 'app2', arn: `arn:aws:iam::${ACCOUNT}:role/team/app2` },
  { role: `a/b/c/deep@${ACCOUNT}`, name: 'deep', arn: `arn:aws:iam::${ACCOUNT}:role/a/b/c/deep` },
  { role: `w+=,.-_@${ACCOUNT}`, name: 'w+=,.-_', arn: `arn:aws:iam::${ACCOUNT}:role/w+=,.-_` },
  { role: `  spaced@${ACCOUNT} `, name: 'spaced', arn: `arn:aws:iam::${ACCOUNT}:role/spaced` },
  ...['aws', 'aws-cn', 'aws-us-gov', 'aws-iso', 'aws-iso-b', 'aws-eusc'].flatMap((partition) => [
    { role: `arn:${partition}:iam::${ACCOUNT}:role/arn-role`, name: 'arn-role' },
    { role: `arn:${partition}:iam::${ACCOUNT}:role/with/a/path/arn-role`, name: 'arn-role' },
    { role: `arn:${partition}:iam::${ACCOUNT}:role/with@sign`, name: 'with@sign' },
  ]).map((form) => ({ ...form, arn: form.role })),
];

for (const [index, { role, name, arn }] of FORMS.entries()) {
  test(`IAM_ROLE="${role}" is the role ${arn}`, async () => {
    const from = `127.0.1.${index + 1}`;
    await docker.host.run({ address: from, env: { IAM_ROLE: role } });
    assert.equal((await ask(from, SECURITY_CREDENTIALS)).body, name);
    const answer = await ask(from, SECURITY_CREDENTIALS + name);
    assert.equal(sts.issuedAs(accessKeyIn(answer)).call.roleArn, arn);
    const extended = await ask(from, `${SECURITY_CREDENTIALS.replace('ls/', 'ls-extended/')}${name}`);
    assert.equal(jsonOf(extended)['AccountId'], arn.split(':')[4]);
    assert.equal(jsonOf(await ask(from, '/creds'))['RoleArn'], arn);
  });
}

test('a role name without an account is resolved once with iam:GetRole for all containers', async () => {
  sts.roleArns.set('looked-up', `arn:aws:iam::${ACCOUNT}:role/some/path/looked-up`);
  for (const from of ['127.0.2.1', '127.0.2.2', '127.0.2.3']) {
    await docker.host.run({ address: from, env: { IAM_ROLE: 'looked-up' } });
    assert.equal(await roleGiven(from), `arn:aws:iam::${ACCOUNT}:role/some/path/looked-up`);
  }
  assert.equal(sts.calls.all((call) => isGetRole(call) && call.roleName === 'looked-up').length, 1);
});

test('concurrent containers share one iam:GetRole for their role\'s name', async () => {
  const pending = sts.fault({ kind: 'hold' }, (call) => isGetRole(call) && call.roleName === 'together');
  const addresses = ['127.0.2.4', '127.0.2.5', '127.0.2.6'];
  for (const address of addresses) await docker.host.run({ address, env: { IAM_ROLE: 'together' } });
  const asked = addresses.map((address) => roleGiven(address));
  await sts.calls.first((call) => call.roleName === 'together');
  pending.lift();
  assert.deepEqual(await Promise.all(asked), addresses.map(() => `arn:aws:iam::${ACCOUNT}:role/together`));
  assert.equal(sts.calls.all((call) => isGetRole(call) && call.roleName === 'together').length, 1);
});

test('a declared path must match the role\'s path in IAM', async () => {
  sts.roleArns.set('pathed', `arn:aws:iam::${ACCOUNT}:role/right/pathed`);
  await docker.host.run({ name: 'right-path', address: '127.0.2.7', env: { IAM_ROLE: 'right/pathed' } });
  await docker.host.run({ name: 'wrong-path', address: '127.0.2.8', env: { IAM_ROLE: 'wrong/pathed' } });
  assert.equal(await roleGiven('127.0.2.7'), `arn:aws:iam::${ACCOUNT}:role/right/pathed`);
  assert.equal((await ask('127.0.2.8', '/creds')).status, 403);
});

test('a role name that IAM does not know is 403 with Code and Message', async () => {
  sts.fault({ kind: 'error', status: 404, code: 'NoSuchEntity' }, (call) => call.roleName === 'nowhere');
  await docker.host.run({ address: '127.0.2.9', env: { IAM_ROLE: 'nowhere' } });
  const answer = await ask('127.0.2.9', '/creds');
  assert.equal(answer.status, 403);
  assert.deepEqual(Object.keys(jsonOf(answer)), ['Code', 'Message']);
});

test('a role name that IAM fails to resolve is 503 with Retry-After', async () => {
  sts.fault({ kind: 'error', status: 500, code: 'InternalFailure' }, (call) => call.roleName === 'not-now');
  await docker.host.run({ address: '127.0.2.10', env: { IAM_ROLE: 'not-now' } });
  const answer = await ask('127.0.2.10', '/creds');
  assert.equal(answer.status, 503);
  assert.match(answer.headers['retry-after'] ?? '', /^[1-9]\d*$/);
});

test('a role name without an account is in DEFAULT_ACCOUNT_ID, without a call of IAM', async (t) => {
  const own = await host(t, { env: { DEFAULT_ACCOUNT_ID: '999988887777' } });
  await own.docker.host.run({ address: '127.0.2.11', env: { IAM_ROLE: 'team/app' } });
  await own.docker.host.run({ address: '127.0.2.12', env: { IAM_ROLE: `app@${ACCOUNT}` } });
  assert.equal(await own.roleGiven('127.0.2.11'), 'arn:aws:iam::999988887777:role/team/app');
  assert.equal(await own.roleGiven('127.0.2.12'), `arn:aws:iam::${ACCOUNT}:role/app`);
  assert.equal(own.sts.calls.all(isGetRole).length, 0);
});

const PARTITIONS = {
  'cn-north-1': 'aws-cn', 'us-gov-west-1': 'aws-us-gov', 'us-iso-east-1': 'aws-iso', 'sa-east-1': 'aws',
};
for (const [region, partition] of Object.entries(PARTITIONS)) {
  test(`a role that is not an ARN is in the region's partition: ${region} is in ${partition}`, async (t) => {
    const own = await host(t, { env: { AWS_REGION: region } });
    await own.docker.host.run({ address: '127.0.2.13', env: { IAM_ROLE: `app@${ACCOUNT}` } });
    assert.equal(await own.roleGiven('127.0.2.13'), `arn:${partition}:iam::${ACCOUNT}:role/app`);
    assert.equal(own.sts.assumed()[0]?.region, region);
  });
}

test('the region defaults to the instance\'s, then to us-east-1', async (t) => {
  const [there, none] = [await host(t), await host(t)];
  none.imds.fault(/region/, { kind: 'status', status: 404 });
  for (const own of [there, none]) {
    await own.docker.host.run({ address: '127.0.2.14', env: { IAM_ROLE: `app@${ACCOUNT}` } });
    await own.roleGiven('127.0.2.14');
  }
  assert.equal(there.sts.assumed()[0]?.region, 'eu-west-1');
  assert.equal(none.sts.assumed()[0]?.region, 'us-east-1');
});

test('AWS_DEFAULT_REGION is the region if AWS_REGION is not set', async (t) => {
  const own = await host(t, { env: { AWS_DEFAULT_REGION: 'ap-south-1' } });
  await own.docker.host.run({ address: '127.0.2.15', env: { IAM_ROLE: `app@${ACCOUNT}` } });
  await own.roleGiven('127.0.2.15');
  assert.equal(own.sts.assumed()[0]?.region, 'ap-south-1');
});

// DEFAULT_ROLE

test('DEFAULT_ROLE is the role of containers that declare none', async (t) => {
  const own = await host(t, { env: { DEFAULT_ROLE: `fallback@${ACCOUNT}` } });
  await own.docker.host.run({ name: 'none', address: '127.0.3.1' });
  await own.docker.host.run({ name: 'empty', address: '127.0.3.2', env: { IAM_ROLE: '' } });
  await own.docker.host.run({ name: 'named', address: '127.0.3.3', env: { IAM_ROLE: `named@${ACCOUNT}` } });
  assert.equal(await own.roleGiven('127.0.3.1'), `arn:aws:iam::${ACCOUNT}:role/fallback`);
  assert.equal(await own.roleGiven('127.0.3.2'), `arn:aws:iam::${ACCOUNT}:role/fallback`);
  assert.equal(await own.roleGiven('127.0.3.3'), `arn:aws:iam::${ACCOUNT}:role/named`);
});

test('a container with an invalid role does not get DEFAULT_ROLE', async (t) => {
  const own = await host(t, { env: { DEFAULT_ROLE: `fallback@${ACCOUNT}` } });
  await own.docker.host.run({ address: '127.0.3.4', env: { IAM_ROLE: 'not a role' } });
  assert.equal((await own.ask('127.0.3.4', SECURITY_CREDENTIALS)).status, 404);
});

test('an unknown caller does not get DEFAULT_ROLE', async (t) => {
  const own = await host(t, { env: { DEFAULT_ROLE: `fallback@${ACCOUNT}` } });
  assert.equal((await own.ask('127.0.3.5', SECURITY_CREDENTIALS)).status, 404);
  assert.equal(own.sts.assumed().length, 0);
});

// The parameters of AssumeRole

test('STS receives the external ID that the role\'s trust policy requires', async () => {
  const arn = `arn:aws:iam::${ACCOUNT}:role/guarded`;
  sts.externalIds.set(arn, 'the-right-one');
  await docker.host.run({ address: '127.0.4.1', env: { IAM_ROLE: arn, IAM_EXTERNAL_ID: 'the-right-one' } });
  await docker.host.run({ address: '127.0.4.2', env: { IAM_ROLE: arn, IAM_EXTERNAL_ID: 'a-wrong-one' } });
  await docker.host.run({ address: '127.0.4.3', env: { IAM_ROLE: arn } });
  assert.equal(await roleGiven('127.0.4.1'), arn);
  assert.equal((await ask('127.0.4.2', '/creds')).status, 403);
  assert.equal((await ask('127.0.4.3', '/creds')).status, 403);
});

test('without an external ID AssumeRole has no ExternalId', async () => {
  const arn = `arn:aws:iam::${ACCOUNT}:role/unguarded`;
  await docker.host.run({ address: '127.0.4.4', env: { IAM_ROLE: arn, IAM_EXTERNAL_ID: '' } });
  await roleGiven('127.0.4.4');
  const [call] = sts.assumed(arn);
  assert.deepEqual(Object.keys(call?.parameters ?? {}).sort(), ['Action', 'RoleArn', 'RoleSessionName', 'Version']);
});

const SESSIONS = [
  { name: 'web', begins: 'web-' },
  { name: `${'x'.repeat(100)}`, begins: `${'x'.repeat(51)}-` },
  { name: 'my_app.v2-1', begins: 'my_app.v2-1-' },
];
for (const [index, { name, begins }] of SESSIONS.entries()) {
  test(`the role session of a container called ${name.slice(0, 20)} begins with ${begins.slice(0, 20)}`, async () => {
    const arn = `arn:aws:iam::${ACCOUNT}:role/session-${index}`;
    const { id } = await docker.host.run({ name, address: `127.0.4.${index + 10}`, env: { IAM_ROLE: arn } });
    await roleGiven(`127.0.4.${index + 10}`);
    assert.equal(sts.assumed(arn)[0]?.roleSessionName, begins + id.slice(0, 12));
  });
}

test('a container that declares no role gets the role in its image\'s environment', async () => {
  docker.host.addImage({ name: 'with-role', env: { IAM_ROLE: `from-image@${ACCOUNT}` } });
  await docker.host.run({ image: 'with-role', address: '127.0.4.20' });
  await docker.host.run({ image: 'with-role', address: '127.0.4.21', env: { IAM_ROLE: `own@${ACCOUNT}` } });
  assert.equal(await roleGiven('127.0.4.20'), `arn:aws:iam::${ACCOUNT}:role/from-image`);
  assert.equal(await roleGiven('127.0.4.21'), `arn:aws:iam::${ACCOUNT}:role/own`);
});

// Invalid roles

const MALFORMED = [
  'two words', '@123456789012', `app@12345`, 'app@1234567890123', 'app@12345678901x', 'app@', 'a'.repeat(65), 'röle',
  'arn:aws:iam::123456789012:user/app', 'arn:aws:iam::12345:role/app', 'arn:aws:s3:::bucket',
  'arn:aws:iam::123456789012:role/',
  'arn:aws:sts::123456789012:assumed-role/app/x', '/', 'app/', '../app\n{"level":"error"}',
];
test('an invalid role is 404 for its container and one log line with the container and the value', async () => {
  const served = '127.0.5.100';
  await docker.host.run({ name: 'served', address: served, env: { IAM_ROLE: `served@${ACCOUNT}` } });
  for (const [index, text] of MALFORMED.entries()) {
    const [name, from] = [`malformed-${index}`, `127.0.5.${index + 1}`];
    await docker.host.run({ name, address: from, env: { IAM_ROLE: text } });
    for (const path of [SECURITY_CREDENTIALS, '/creds', '/latest/meta-data/iam/']) {
      assert.equal((await ask(from, path)).status, 404, `${text}: ${path}`);
    }
    const lines = proxy.logs.all(({ fields, level }) => level === 'error' && fields['container'] === name);
    assert.equal(lines.length, 1, text);
    const error = String(lines[0]?.fields['error']);
    assert.ok(error.includes(JSON.stringify(text)), error);
    assert.match(error, /expected/);
    assert.equal(await roleGiven(served), `arn:aws:iam::${ACCOUNT}:role/served`);
  }
});
