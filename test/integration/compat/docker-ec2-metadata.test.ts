import assert from 'node:assert/strict';
import { test } from 'node:test';
import { freePort } from '../../support/free-port.ts';
import { request, startProxy } from '../../support/proxy.ts';
import {
  ACCOUNT,
  arnOf,
  host,
  hostOf,
  INSTANCE_ID_PATH,
  isMessage,
  SECURITY_CREDENTIALS,
  startFakes,
} from './host.ts';

const A = '127.0.0.21';
const ID = '69efa4'.padEnd(64, '0123456789abcdef');

// Flags

for (const [spelling, args] of [
  ['--default-iam-role ARN', ['--default-iam-role', arnOf('fallback')]],
  ['--default-iam-role=ARN', [`--default-iam-role=${arnOf('fallback')}`]],
  ['-r ARN', ['-r', arnOf('fallback')]],
  ['-rARN', [`-r${arnOf('fallback')}`]],
  ['--role ARN, of its first version', ['--role', arnOf('fallback')]],
] as const) {
  test(`docker-ec2-metadata: ${spelling} is the default role`, async (t) => {
    const { docker, callFor } = await host(t, { args });
    await docker.host.run({ address: A });
    assert.equal((await callFor(A)).roleArn, arnOf('fallback'));
  });
}

test('docker-ec2-metadata: an empty --default-iam-role, as in its service files, means no default role', async (t) => {
  for (const args of [['--default-iam-role', ''], ['--default-iam-role='], ['-r', '']]) {
    const { docker, proxy, statusFor } = await host(t, { args });
    await docker.host.run({ address: A });
    assert.equal(await statusFor(A), 404, args.join(' '));
    await proxy.stop();
  }
});

for (const [spelling, argsFor] of [
  ['--server HOST:PORT', (port) => ['--server', `127.0.0.1:${port}`]],
  ['--server=HOST:PORT', (port) => [`--server=127.0.0.1:${port}`]],
  ['-s HOST:PORT', (port) => ['-s', `127.0.0.1:${port}`]],
  ['--server :PORT', (port) => ['--server', `:${port}`]],
] satisfies [string, (port: number) => string[]][]) {
  test(`docker-ec2-metadata: ${spelling} sets the proxy's address`, async (t) => {
    const fakes = await startFakes(t);
    const port = await freePort();
    const proxy = await startProxy(t, { ...fakes, args: argsFor(port) });
    assert.equal(proxy.port, port);
    assert.equal((await request({ port, path: INSTANCE_ID_PATH })).status, 200);
  });
}

for (const [args, isDebug] of [
  [['--verbose'], true],
  [['--verbose=true'], true],
  [['--no-verbose'], false],
  [['--verbose=false'], false],
  [['--verbose', '--no-verbose'], false],
  [[], false],
] as const) {
  test(`docker-ec2-metadata: ${args.join(' ') || 'without --verbose'} ${isDebug ? 'logs' : 'does not log'} every request`, async (t) => {
    const { proxy, ask } = await host(t, { args });
    await ask(A, INSTANCE_ID_PATH);
    await proxy.stop();
    assert.equal(proxy.logs.all(isMessage('answered')).length, isDebug ? 1 : 0);
  });
}

// SESSION_NAME=classic: its rule, and the examples in its tests.

const REGISTRY = 'docker-registry.host.com/container/path:tag';
const CLASSIC = [
  [REGISTRY, 'tender_colden', 'ner_path_tag-ender_colden-69efa4'],
  [REGISTRY, 'ender_colden', 'ner_path_tag-ender_colden-69efa4'],
  [REGISTRY, 'nder_colden', 'iner_path_tag-nder_colden-69efa4'],
  ['image', 'cont', 'image-cont-69efa4'],
  ['image', 'container_name', 'image-container_name-69efa4'],
  ['nginx', 'a_very_long_container_name_here_1', 'nginx-ntainer_name_here_1-69efa4'],
  ['registry.example.com:5000/team/app:1.2.3', 'web', 'm_5000_team_app_1.2.3-web-69efa4'],
] as const;

for (const [image, name, session] of CLASSIC) {
  test(`docker-ec2-metadata: SESSION_NAME=classic names the session of ${name} from ${image} ${session}`, async (t) => {
    const { docker, callFor } = await host(t, { env: { SESSION_NAME: 'classic' } });
    await docker.host.run({ id: ID, address: A, image, name, env: { IAM_ROLE: arnOf('app') } });
    assert.equal((await callFor(A)).roleSessionName, session);
    assert.ok(session.length <= 32);
  });
}

// Its containers' variables and its oldest README

test('docker-ec2-metadata: IAM_ROLE is an ARN with or without a path', async (t) => {
  const { docker, callFor, ask } = await host(t);
  await docker.host.run({
    address: A,
    env: { IAM_ROLE: `arn:aws:iam::${ACCOUNT}:role/path/ContainerRoleName` },
  });
  assert.equal((await callFor(A)).roleArn, arnOf('path/ContainerRoleName'));
  assert.equal((await ask(A, SECURITY_CREDENTIALS)).body, 'ContainerRoleName');
});

test('docker-ec2-metadata: its whole command line works', async (t) => {
  const fakes = await startFakes(t);
  const port = await freePort();
  const args = ['--server', `127.0.0.1:${port}`, '--default-iam-role', arnOf('fallback'), '--verbose'];
  const proxy = await startProxy(t, { ...fakes, args });
  await proxy.awaitLog('containers known');
  await fakes.docker.host.run({ address: A });
  assert.equal((await hostOf(proxy, fakes).callFor(A)).roleArn, arnOf('fallback'));
  assert.equal(proxy.port, port);
});
