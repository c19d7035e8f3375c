import assert from 'node:assert/strict';
import { test } from 'node:test';
import { freePort } from '../../support/free-port.ts';
import { startProxy } from '../../support/proxy.ts';
import {
  ACCOUNT,
  arnOf,
  host,
  hostOf,
  INSTANCE_ID_PATH,
  isMessage,
  POLICY,
  refusal,
  startFakes,
} from './host.ts';

const A = '127.0.0.21';
const B = '127.0.0.22';
const NARROW =
  '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*","Action":"s3:GetObject"}]}';
const meaning = (policy: string | undefined): unknown =>
  policy === undefined ? undefined : JSON.parse(policy);

// --default-iam-policy and IAM_POLICY

for (const [spelling, args] of [
  ['--default-iam-policy JSON', ['--default-iam-policy', POLICY]],
  ['--default-iam-policy=JSON', [`--default-iam-policy=${POLICY}`]],
] as const) {
  test(`ec2metaproxy: ${spelling} is the session policy of a container that declares neither a role nor a policy`, async (t) => {
    const { docker, callFor } = await host(t, { args: ['--default-iam-role', arnOf('fallback'), ...args] });
    await docker.host.run({ address: A });
    await docker.host.run({ address: B, env: { IAM_ROLE: arnOf('own') } });
    assert.deepEqual(meaning((await callFor(A)).policy), JSON.parse(POLICY));
    const own = await callFor(B);
    assert.deepEqual([own.roleArn, own.policy], [arnOf('own'), undefined]);
  });
}

test('ec2metaproxy: IAM_POLICY is the container\'s session policy, with a declared role and with the default role', async (t) => {
  const { docker, callFor } = await host(t, {
    args: ['-r', arnOf('fallback'), '--default-iam-policy', POLICY],
  });
  await docker.host.run({ address: A, env: { IAM_POLICY: ` ${NARROW}\n` } });
  await docker.host.run({ address: B, env: { IAM_ROLE: ` ${arnOf('own')} `, IAM_POLICY: NARROW } });
  const [byDefault, own] = [await callFor(A), await callFor(B)];
  assert.deepEqual([byDefault.roleArn, meaning(byDefault.policy)], [arnOf('fallback'), JSON.parse(NARROW)]);
  assert.deepEqual([own.roleArn, meaning(own.policy)], [arnOf('own'), JSON.parse(NARROW)]);
});

test('ec2metaproxy: containers with one role and different policies do not share credentials', async (t) => {
  const { docker, sts, callFor } = await host(t, { env: { SESSION_NAME: 'shared' } });
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app'), IAM_POLICY: NARROW } });
  await docker.host.run({ address: B, env: { IAM_ROLE: arnOf('app') } });
  assert.deepEqual(meaning((await callFor(A)).policy), JSON.parse(NARROW));
  assert.equal((await callFor(B)).policy, undefined);
  assert.equal(sts.assumed().length, 2);
});

test('ec2metaproxy: an invalid IAM_POLICY is 404 for that container and one log line', async (t) => {
  const { docker, proxy, sts, statusFor } = await host(t);
  await docker.host.run({
    name: 'mistaken',
    address: A,
    env: { IAM_ROLE: arnOf('app'), IAM_POLICY: '{"Version":' },
  });
  await docker.host.run({
    name: 'long',
    address: B,
    env: { IAM_ROLE: arnOf('app'), IAM_POLICY: policyOf(2049) },
  });
  assert.equal(await statusFor(A), 404);
  assert.equal(await statusFor(B), 404);
  assert.deepEqual(sts.calls.all(), []);
  await proxy.logs.several(2, isMessage('credentials refused'));
  const lines = proxy.logs.all(isMessage('invalid role request')).map(({ fields }) => fields);
  assert.deepEqual(lines.map(({ container }) => container).sort(), ['long', 'mistaken']);
  const errorOf = (name: string): string =>
    String(lines.find(({ container }) => container === name)?.['error']);
  assert.match(errorOf('mistaken'), /^the session policy "\{\\"Version\\":" is not JSON \(/);
  assert.equal(errorOf('long'), 'the session policy has 2049 characters; STS accepts 2048');
});

/** A policy with so many characters. */
function policyOf(characters: number): string {
  const of = (filling: string): string => JSON.stringify({ Statement: { Sid: filling } });
  return of('x'.repeat(characters - of('').length));
}

test('ec2metaproxy: --default-iam-policy may have 2048 characters; one more ends the program', async (t) => {
  const { docker, callFor } = await host(t, {
    args: ['-r', arnOf('fallback'), '--default-iam-policy', policyOf(2048)],
  });
  await docker.host.run({ address: A });
  assert.equal((await callFor(A)).policy?.length, 2048);
  const { code, lines } = await refusal({ args: ['--default-iam-policy', policyOf(2049)] });
  assert.equal(code, 2);
  assert.equal(lines.length, 1);
  assert.match(
    lines[0] ?? '',
    /is invalid: the session policy has 2049 characters; STS accepts 2048; expected an IAM policy as JSON$/,
  );
});

test('ec2metaproxy: an invalid --default-iam-policy ends the program with exit code 2', async () => {
  assert.deepEqual(await refusal({ args: ['--default-iam-policy', '["ec2:*"]'] }), {
    code: 2,
    lines: [
      'metadataproxy: --default-iam-policy: "[\\"ec2:*\\"]" is invalid: the session policy is not a JSON object with a "Statement"; expected an IAM policy as JSON',
    ],
  });
});

// The command line

for (const [order, argsFor] of [
  ['alone', () => ['docker']],
  ['first', (url) => ['docker', '--docker-endpoint', url, '--default-iam-role', arnOf('fallback')]],
  ['last', (url) => ['--default-iam-role', arnOf('fallback'), `--docker-endpoint=${url}`, 'docker']],
  ['in the middle', (url) => ['--default-iam-role', arnOf('fallback'), 'docker', '--docker-endpoint', url]],
] satisfies [string, (url: string) => string[]][]) {
  test(`ec2metaproxy: the argument docker may be ${order}`, async (t) => {
    const fakes = await startFakes(t);
    await fakes.docker.host.run({ address: A, env: { IAM_ROLE: arnOf('own') } });
    const args = argsFor(fakes.docker.url);
    const env = args.length > 1 ? { DOCKER_URL: undefined } : {};
    const proxy = await startProxy(t, { ...fakes, args, env });
    await proxy.awaitLog('containers known');
    assert.equal((await hostOf(proxy, fakes).callFor(A)).roleArn, arnOf('own'));
  });
}

test('ec2metaproxy: a platform other than docker ends the program with exit code 2', async () => {
  assert.deepEqual(await refusal({ args: ['flynn'] }), {
    code: 2,
    lines: ['metadataproxy: unknown command "flynn"; see metadataproxy --help'],
  });
  assert.deepEqual(await refusal({ args: ['docker', 'docker'] }), {
    code: 2,
    lines: ['metadataproxy: "docker docker" is more than one command; see metadataproxy --help'],
  });
});

test('ec2metaproxy: the command in its run-docker.sh works, with an empty policy and docker as the last argument', async (t) => {
  const fakes = await startFakes(t);
  const port = await freePort();
  const proxy = await startProxy(t, {
    ...fakes,
    args: [
      '--default-iam-role',
      arnOf('DefaultRole'),
      '--default-iam-policy',
      '',
      '--server',
      `127.0.0.1:${port}`,
      'docker',
    ],
  });
  await proxy.awaitLog('containers known');
  await fakes.docker.host.run({ address: A });
  const { roleArn, policy } = await hostOf(proxy, fakes).callFor(A);
  assert.deepEqual(
    { port: proxy.port, roleArn, policy },
    { port, roleArn: arnOf('DefaultRole'), policy: undefined },
  );
});

test('ec2metaproxy: an empty --default-iam-role means no default role', async (t) => {
  const { docker, statusFor } = await host(t, {
    args: ['--default-iam-role', '', '--default-iam-policy', '', 'docker'],
  });
  await docker.host.run({ address: A });
  assert.equal(await statusFor(A), 404);
});

for (const spelling of ['--metadata-url', '-metadata-url'] as const) {
  test(`ec2metaproxy: ${spelling} is the upstream IMDS`, async (t) => {
    const fakes = await startFakes(t, { metadata: { tree: { 'meta-data/instance-id': 'i-of-the-flag' } } });
    const proxy = await startProxy(t, {
      ...fakes,
      env: { METADATA_URL: 'http://127.0.0.1:1' },
      args: [spelling, fakes.imds.url],
    });
    assert.equal((await hostOf(proxy, fakes).ask(A, INSTANCE_ID_PATH)).body, 'i-of-the-flag');
  });
}

test('ec2metaproxy: --verbose logs every request, before and after the argument docker', async (t) => {
  for (const args of [
    ['--verbose', 'docker'],
    ['docker', '--verbose'],
  ]) {
    const { proxy, ask } = await host(t, { args });
    await ask(A, INSTANCE_ID_PATH);
    assert.equal((await proxy.awaitLog('answered')).level, 'debug');
    await proxy.stop();
  }
});

test('ec2metaproxy: an invalid --default-iam-role ends the program with exit code 2', async () => {
  assert.deepEqual(await refusal({ args: ['--default-iam-role', 'arn:aws:iam::1234:role/x'] }), {
    code: 2,
    lines: [
      'metadataproxy: --default-iam-role: "arn:aws:iam::1234:role/x" is invalid: "arn:aws:iam::1234:role/x" is not a role ARN; expected arn:aws:iam::123456789012:role/name',
    ],
  });
});

test('ec2metaproxy: IAM_ROLE and IAM_POLICY from its README work', async (t) => {
  const { docker, callFor } = await host(t);
  await docker.host.run({
    address: A,
    env: { IAM_ROLE: `arn:aws:iam::${ACCOUNT}:role/ContainerRoleName`, IAM_POLICY: POLICY },
  });
  const { roleArn, policy } = await callFor(A);
  assert.deepEqual([roleArn, meaning(policy)], [arnOf('ContainerRoleName'), JSON.parse(POLICY)]);
});
