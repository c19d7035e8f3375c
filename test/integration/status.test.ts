import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Status } from '../../lib/admin/status.ts';
import { DockerEngine } from '../support/docker-engine.ts';
import { runToEnd, startProxy } from '../support/proxy.ts';
import { host, until, type Host } from './host.ts';

const FROM = '127.0.0.51';
const arnOf = (name: string): string => `arn:aws:iam::123456789012:role/${name}`;
const env = (name: string) => ({ IAM_ROLE: arnOf(name) });

async function statusOf({ askOperator }: Host): Promise<Status> {
  return JSON.parse((await askOperator('/status')).body) as Status;
}

const readyOf = ({ askOperator }: Host) => askOperator('/readyz').then(({ status }) => status);

test('a proxy without containers becomes ready without an STS call', async (t) => {
  const own = await host(t);
  await until(() => readyOf(own), (status) => status === 200);
  assert.deepEqual(own.sts.calls.entries, []);
});

test('a proxy without source credentials is not ready, reports the reason, and passes metadata through', async (t) => {
  const own = await host(t, { env: { AWS_ACCESS_KEY_ID: undefined, AWS_SECRET_ACCESS_KEY: undefined } });
  await own.proxy.awaitLog("source credentials unavailable");
  const { status, body } = await own.askOperator('/readyz');
  const { checks } = JSON.parse(body) as Status;
  assert.equal(status, 503);
  assert.equal(checks['docker']?.ok, true);
  assert.equal(checks['credentials']?.ok, false);
  assert.match(checks['credentials']?.detail ?? '', /credentials/i);
  assert.equal((await own.ask(FROM, '/latest/meta-data/instance-id')).status, 200);
});

test('the proxy is not ready while AWS refuses the source credentials', async (t) => {
  const own = await host(t);
  await until(() => readyOf(own), (status) => status === 200);
  const fault = own.sts.fault({ kind: 'expired-token' });
  await own.docker.host.run({ name: 'app', address: FROM, env: env('app') });
  await own.proxy.awaitLog('role not assumed');
  const { status, body } = await own.askOperator('/readyz');
  assert.equal(status, 503);
  assert.match((JSON.parse(body) as Status).checks['credentials']?.detail ?? '', /ExpiredToken/);
  fault.lift();
  await until(() => readyOf(own), (answer) => answer === 200);
});

test('--mock-credentials needs neither Docker nor AWS', async (t) => {
  const proxy = await startProxy(t, {
    args: ['--mock', '--mock-credentials'],
    env: { AWS_ACCESS_KEY_ID: undefined, AWS_SECRET_ACCESS_KEY: undefined },
  });
  const { code, stdout } = await runToEnd({ args: ['status'], env: { ADMIN_ADDR: `127.0.0.1:${proxy.adminPort}` } });
  assert.equal(code, 0, stdout);
  assert.match(stdout, /^state {7}ready$/m);
});

test('/status has containers, roles, Docker, STS, IMDS, settings and recent errors', async (t) => {
  const own = await host(t, { env: { DEFAULT_ACCOUNT_ID: '123456789012', MAX_CONNECTIONS: '77' } });
  own.sts.fault({ kind: 'deny' }, arnOf('denied'));
  own.imds.fault('/latest/user-data', { kind: 'reset' });
  await own.docker.host.run({ name: 'app', address: FROM, env: env('app') });
  await own.docker.host.run({ name: 'denied', address: '127.0.0.52', env: env('denied') });
  await own.docker.host.run({ name: 'bad', address: '127.0.0.53', env: { IAM_ROLE: '!' } });
  await until(() => own.ask(FROM, '/creds').then(({ status }) => status), (status) => status === 200);
  assert.equal((await own.ask('127.0.0.52', '/creds')).status, 403);
  assert.equal((await own.ask('127.0.0.53', '/creds')).status, 404);
  await own.ask(FROM, '/latest/user-data');
  const status = await statusOf(own);

  const app = status.containers.find(({ name }) => name === 'app');
  assert.deepEqual([app?.role_arn, app?.credentials, app?.error], [arnOf('app'), 'ready', null]);
  assert.ok((app?.requests ?? 0) >= 2);
  assert.match(app?.last_error?.message ?? '', /ECONNRESET|hang up/);
  const denied = status.roles.find(({ role }) => role === arnOf('denied'));
  assert.deepEqual([denied?.containers, denied?.credentials, denied?.expires], [1, 'failing', null]);
  assert.match(denied?.error ?? '', /not authorized/);
  assert.match(status.containers.find(({ name }) => name === 'bad')?.error ?? '', /"!" is not/);

  assert.equal(status.directory.state, 'synced');
  assert.equal(status.directory.containers, 3);
  assert.deepEqual([status.docker.state, status.sts.state, status.upstream.state], ['ok', 'ok', 'failing']);
  assert.match(status.upstream.last_error?.message ?? '', /ECONNRESET|hang up/);
  assert.ok(status.last_hour.requests >= 4 && status.last_hour.refused >= 2 && status.last_hour.failed >= 1);
  assert.equal(status.minutes.length, 60);
  const recentErrors = status.errors.map(({ message, about }) => `${message} ${about}`.trim());
  for (const expected of ['upstream IMDS does not answer', `role not assumed ${arnOf('denied')}`, 'invalid role request bad'])
    assert.ok(recentErrors.includes(expected), `${expected} is not in ${recentErrors}`);
  const setting = (name: string) => status.settings.find((one) => one.name === name);
  assert.deepEqual(setting('MAX_CONNECTIONS'), { name: 'MAX_CONNECTIONS', value: '77', source: 'MAX_CONNECTIONS' });
});

test('while the engine is down /status has the reason and the time of the last sync', async (t) => {
  const docker = await DockerEngine.start();
  const own = await host(t, { docker });
  await docker.stop();
  const { directory, docker: health, ready } = await until(() => statusOf(own), (status) => !status.ready);
  assert.deepEqual([ready, directory.state, health.state], [false, 'disconnected', 'failing']);
  assert.match(directory.last_sync ?? '', /^\d{4}-/);
  assert.notEqual(health.last_error?.message, undefined);
});

test('metadataproxy status exits with 0 when the proxy is ready, else with 1', async (t) => {
  const docker = await DockerEngine.start();
  const own = await host(t, { docker });
  await until(() => readyOf(own), (status) => status === 200);
  const settings = { ADMIN_ADDR: `127.0.0.1:${own.proxy.adminPort}` };
  const good = await runToEnd({ args: ['status'], env: settings });
  assert.deepEqual([good.code, good.stderr], [0, '']);
  assert.match(good.stdout, /^proxy .*\nstate +ready\ncontainers +0/);

  await docker.stop();
  await until(() => readyOf(own), (status) => status === 503);
  const bad = await runToEnd({ args: ['status'], env: settings });
  assert.equal(bad.code, 1);
  assert.match(bad.stdout, /^state +NOT READY: docker: disconnected$/m);
  const json = await runToEnd({ args: ['status', '--json'], env: settings });
  assert.deepEqual([json.code, (JSON.parse(json.stdout) as Status).ready], [1, false]);

  await own.proxy.stop();
  const none = await runToEnd({ args: ['status'], env: settings });
  assert.deepEqual([none.code, none.stdout], [1, '']);
  assert.match(none.stderr, /^metadataproxy: no proxy answers on 127\.0\.0\.1:\d+ \(ECONNREFUSED\): .*\n$/);
});

test('SIGUSR2 toggles debug logging, and the log and /status show it', async (t) => {
  const own = await host(t);
  const level = async () => (await statusOf(own)).settings.find(({ name }) => name === 'LOG_LEVEL')?.value;
  own.proxy.signal('SIGUSR2');
  await own.proxy.awaitLog('debug logging enabled');
  assert.equal(await level(), 'debug');
  await own.ask(FROM, '/latest/meta-data/instance-id');
  await own.proxy.awaitLog('answered');
  own.proxy.signal('SIGUSR2');
  await own.proxy.awaitLog('debug logging disabled');
  assert.equal(await level(), 'info');
});

test('40 containers with the same denied role are one log line', async (t) => {
  const own = await host(t);
  own.sts.fault({ kind: 'deny' });
  for (let index = 1; index <= 40; index += 1) {
    await own.docker.host.run({ name: `c${index}`, address: `127.0.51.${index}`, env: env('denied') });
  }
  await until(() => statusOf(own), ({ errors }) => (errors[0]?.count ?? 0) >= 40);
  assert.equal(own.proxy.logs.all(({ msg }) => msg === 'role not assumed').length, 1);
});
