import assert from 'node:assert/strict';
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { DockerEngine } from '../support/docker-engine.ts';
import { Imds, INSTANCE_ID } from '../support/imds.ts';
import { request, runToEnd, startProxy } from '../support/proxy.ts';
import { host, INSTANCE_ID_PATH, jsonOf, SECURITY_CREDENTIALS, until } from './host.ts';

test('all invalid settings are reported together with name, value and accepted values: exit code 2', async () => {
  const { code, stdout, stderr } = await runToEnd({
    args: ['--docker-endpoint', 'ftp://x', '-s', 'no-port', '--default-iam-role', 'not a role'],
    env: {
      HOST: 'example.com', PORT: '65536', ADMIN_ADDR: 'here', MAX_CONNECTIONS: '0', MAX_CONNECTIONS_PER_ADDRESS: '-1',
      DOCKER_TLS_VERIFY: 'maybe', DEFAULT_ACCOUNT_ID: '12345', ROLE_CACHE_OFFSET: '15 minutes', AWS_REGION: 'Mars',
      METADATA_URL: 'https://169.254.169.254/latest', IMDSV2_REQUIRED: 'perhaps', LOG_LEVEL: 'loud', LOG_FORMAT: 'xml',
      MOCK_API: '2', MOCKED_INSTANCE_ID: 'i 1',
    },
  });
  assert.equal(code, 2);
  assert.equal(stdout, '');
  const problems = {
    '--docker-endpoint': 'ftp://x', '--server': 'no-port', '--default-iam-role': 'not a role', HOST: 'example.com',
    PORT: '65536', ADMIN_ADDR: 'here', MAX_CONNECTIONS: '0', MAX_CONNECTIONS_PER_ADDRESS: '-1',
    DOCKER_TLS_VERIFY: 'maybe', DEFAULT_ACCOUNT_ID: '12345', ROLE_CACHE_OFFSET: '15 minutes', AWS_REGION: 'Mars',
    METADATA_URL: 'https://169.254.169.254/latest', IMDSV2_REQUIRED: 'perhaps', LOG_LEVEL: 'loud', LOG_FORMAT: 'xml',
    MOCK_API: '2', MOCKED_INSTANCE_ID: 'i 1',
  };
  const lines = stderr.trimEnd().split('\n');
  assert.equal(lines.length, Object.keys(problems).length, stderr);
  for (const [name, value] of Object.entries(problems)) {
    const line = lines.find((text) => text.startsWith(`metadataproxy: ${name}: `)) ?? '';
    assert.ok(line.includes(JSON.stringify(value)), `${name}: ${stderr}`);
    assert.match(line, /expected/, name);
  }
});

test('unreadable TLS files are reported for DOCKER_CERT_PATH', async () => {
  const env = { DOCKER_URL: 'tcp://127.0.0.1:1', DOCKER_CERT_PATH: '/nonexistent', PORT: 'x' };
  const { code, stderr } = await runToEnd({ env });
  assert.equal(code, 2);
  assert.match(stderr, /DOCKER_CERT_PATH: .*\/nonexistent\/ca\.pem/);
  assert.match(stderr, /PORT/);
});

test('an unknown flag, a missing value and an unknown argument end the program with exit code 2', async () => {
  for (const args of [['--no-such-flag'], ['--server'], ['serve'], ['--verbose=maybe'], ['-x']]) {
    const { code, stderr } = await runToEnd({ args });
    assert.equal(code, 2, args.join(' '));
    assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
    assert.match(stderr, /^metadataproxy: /);
  }
});

test('--help lists every setting and exits with 0', async () => {
  const { code, stdout, stderr } = await runToEnd({ args: ['--help'] });
  assert.deepEqual([code, stderr], [0, '']);
  const readme = readFileSync('README.md', 'utf8');
  const rows = [...readme.matchAll(/^\| ((?:`[^`]+` ?)+)\|/gm)].map(([, names = '']) => names);
  const settings = readme.slice(readme.indexOf('<!-- settings -->'), readme.indexOf('<!-- /settings -->'));
  const names = rows.filter((row) => settings.includes(row)).flatMap((row) => row.match(/[\w-]+/g) ?? []);
  assert.ok(names.length >= 30);
  for (const name of names) assert.ok(stdout.includes(name), name);
  assert.ok(stdout.split('\n').every((line) => line.length <= 80));
  assert.equal((await runToEnd({ args: ['-h'] })).stdout, stdout);
});

test('--version prints only the version and exits with 0', async () => {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
  const { code, stdout, stderr } = await runToEnd({ args: ['--version'] });
  assert.deepEqual([code, stdout, stderr], [0, `${version}\n`, '']);
});

test('--help and --version ignore the settings', async () => {
  for (const args of [['--help'], ['--version']]) {
    assert.equal((await runToEnd({ args, env: { PORT: 'x' } })).code, 0);
  }
});

test('a flag takes precedence over a variable', async (t) => {
  const nowhere = { DOCKER_URL: 'unix:///none', METADATA_URL: 'http://127.0.0.1:1', DEFAULT_ROLE: 'by-variable' };
  const [docker, imds] = [await DockerEngine.start(), await Imds.start()];
  const args = [
    '--docker-endpoint', docker.url, '--metadata-url', imds.url, '-r', 'by-flag@123456789012',
    '--server', '127.0.0.1:0', '--verbose',
  ];
  const env = { ...nowhere, HOST: '127.0.0.2', PORT: '1', LOG_LEVEL: 'error' };
  const { sts, proxy, ask } = await host(t, { docker, args, env });
  t.after(() => imds.close());
  await docker.host.run({ address: '127.0.0.11' });
  assert.equal((await ask('127.0.0.11', INSTANCE_ID_PATH)).body, INSTANCE_ID);
  assert.equal((await ask('127.0.0.11', SECURITY_CREDENTIALS)).body, 'by-flag');
  await ask('127.0.0.11', '/creds');
  assert.equal(sts.assumed()[0]?.roleArn, 'arn:aws:iam::123456789012:role/by-flag');
  await proxy.awaitLog(({ level }) => level === 'debug');
});

test('--server accepts ":port" and leaves HOST in force', async (t) => {
  const proxy = await startProxy(t, { args: ['-s', ':0'], env: { HOST: '127.0.0.3', PORT: '1' } });
  const { fields } = await proxy.awaitLog('listening');
  assert.match(String(fields['address']), /^127\.0\.0\.3:\d+$/);
});

test('--server accepts an IPv6 address in brackets', async (t) => {
  const proxy = await startProxy(t, { args: ['--server', '[::1]:0'] });
  const { fields } = await proxy.awaitLog('listening');
  assert.match(String(fields['address']), /^\[::1\]:\d+$/);
  assert.equal((await request({ port: proxy.port, host: '::1', path: '/latest/%' })).status, 400);
});

test('an empty variable counts as not set', async (t) => {
  const own = await host(t, {
    env: {
      DEFAULT_ROLE: '', MAX_CONNECTIONS: '', IMDSV2_REQUIRED: '', LOG_LEVEL: '', AWS_REGION: '', ROLE_CACHE_OFFSET: '',
    },
  });
  assert.equal((await own.ask('127.0.0.11', INSTANCE_ID_PATH)).body, INSTANCE_ID);
});

test('a port in use is one error line and exit code 1', async (t) => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  t.after(() => void other.close());
  const { port } = other.address() as AddressInfo;
  for (const [variable, value] of [['PORT', `${port}`], ['ADMIN_ADDR', `127.0.0.1:${port}`]] as const) {
    const { code, stderr } = await runToEnd({ env: { [variable]: value } });
    assert.equal(code, 1, stderr);
    const lines = stderr.trimEnd().split('\n').filter((line) => !line.startsWith('{'));
    assert.deepEqual(lines, [`metadataproxy: cannot listen on 127.0.0.1:${port}: the port is in use`]);
  }
});

test('two listeners on one port are one error line that names both settings, and exit code 2', async () => {
  const { code, stderr } = await runToEnd({ env: { PORT: '18001', ADMIN_ADDR: '127.0.0.1:18001' } });
  const both = '127.0.0.1:18001 and 127.0.0.1:18001 cannot both listen; change one of the ports';
  assert.deepEqual([code, stderr], [2, `metadataproxy: PORT and ADMIN_ADDR: ${both}\n`]);
});

test('an address that the host does not have is one error line and exit code 1', async () => {
  const { code, stderr } = await runToEnd({ env: { HOST: '192.0.2.1' } });
  assert.equal(code, 1);
  assert.match(stderr, /^metadataproxy: cannot listen on 192\.0\.2\.1:0: this host has no such address$/m);
});

const isRoot = process.getuid?.() === 0;
const firstOpenPort = Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8'));
test('a port without permission is one error line and exit code 1', { skip: firstOpenPort < 2 }, (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'metadataproxy-'));
  t.after(() => rmSync(directory, { recursive: true }));
  chmodSync(directory, 0o755);
  copyFileSync('bin/metadataproxy', join(directory, 'metadataproxy'));
  const { status, stderr } = spawnSync(process.execPath, [join(directory, 'metadataproxy'), '-s', '127.0.0.1:1'], {
    env: { ADMIN_ADDR: 'off', LOG_FORMAT: 'json', DOCKER_URL: 'unix:///none', AWS_EC2_METADATA_DISABLED: 'true' },
    ...(isRoot && { uid: 65_534, gid: 65_534 }),
    cwd: directory,
    encoding: 'utf8',
  });
  assert.equal(status, 1, stderr);
  const lines = stderr.trimEnd().split('\n').filter((line) => !line.startsWith('{'));
  assert.equal(lines.length, 1, stderr);
  assert.match(lines[0] ?? '', /^metadataproxy: cannot listen on 127\.0\.0\.1:1: permission denied .*CAP_NET_BIND/);
});

test('LOG_FORMAT=json writes one JSON object per line, with time, level and msg', async (t) => {
  const { proxy, ask } = await host(t, { env: { LOG_LEVEL: 'debug' } });
  await ask('127.0.0.11', INSTANCE_ID_PATH);
  await proxy.awaitLog('answered');
  for (const { text, fields } of proxy.logs.entries) {
    assert.deepEqual(Object.keys(fields).slice(0, 3), ['time', 'level', 'msg'], text);
    assert.match(String(fields['time']), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  }
});

test('LOG_FORMAT=text is the default: time, level and message, and name=value', async (t) => {
  const proxy = await startProxy(t, { env: { LOG_FORMAT: undefined, LOG_LEVEL: 'debug' } });
  await request({ port: proxy.port, path: '/latest/meta-data/x%20y' });
  await proxy.awaitLog(({ text }) => text.includes('request refused'));
  const line = /^\d{4}-\d\d-\d\dT[\d:.]+Z [A-Z]+ +\w[^=]*( \w+=("(\\.|[^"\\])*"|[^\s"]+))*$/;
  for (const { text } of proxy.logs.entries) assert.match(text, line);
});

test('a caller cannot forge a log line', async (t) => {
  const { proxy, ask, docker } = await host(t, { env: { LOG_FORMAT: 'text', LOG_LEVEL: 'debug' }, synced: false });
  await docker.host.run({ address: '127.0.0.11', env: { IAM_ROLE: 'x\n2030-01-01T00:00:00.000Z INFO forged line' } });
  await ask('127.0.0.11', '/latest/%0a2030-01-01T00:00:00.000Z%20INFO%20forged');
  await ask('127.0.0.11', '/creds');
  await proxy.awaitLog(({ text }) => text.includes('credentials refused'));
  assert.deepEqual(proxy.logs.all(({ text }) => text.startsWith('2030')), []);
});

test('LOG_LEVEL sets the logged levels', async (t) => {
  for (const level of ['debug', 'info']) {
    const { proxy, ask, docker } = await host(t, { env: { LOG_LEVEL: level } });
    await docker.host.run({ name: 'app', address: '127.0.0.11', env: { IAM_ROLE: 'app@123456789012' } });
    await ask('127.0.0.11', INSTANCE_ID_PATH);
    await ask('127.0.0.11', '/creds');
    await proxy.awaitLog('credentials served');
    assert.equal(proxy.logs.all(({ msg }) => msg === 'answered').length, level === 'debug' ? 1 : 0);
  }
});

test('each credential answer is one line at info with container, ID, role ARN, status and milliseconds', async (t) => {
  const { proxy, ask, docker } = await host(t);
  const arn = 'arn:aws:iam::123456789012:role/app';
  const { id } = await docker.host.run({ name: 'app', address: '127.0.0.11', env: { IAM_ROLE: arn } });
  await ask('127.0.0.11', '/creds');
  await ask('127.0.0.11', `${SECURITY_CREDENTIALS}other`);
  const { fields, level } = await proxy.awaitLog('credentials served');
  assert.equal(level, 'info');
  const { container, container_id, role_arn, status, ms, method, path, address } = fields;
  assert.deepEqual(
    { container, container_id, role_arn, status, method, path, address },
    {
      container: 'app', container_id: id.slice(0, 12), role_arn: arn, status: 200, method: 'GET', path: '/creds',
      address: '127.0.0.11',
    },
  );
  assert.equal(typeof ms, 'number');
  const refused = await proxy.awaitLog('credentials refused');
  assert.equal(refused.fields['status'], 404);
  assert.equal(proxy.logs.all(({ msg }) => msg.startsWith('credentials ')).length, 2);
});

test('each request is one access line at debug', async (t) => {
  const { proxy, ask } = await host(t, { env: { VERBOSE: 'true' } });
  await ask('127.0.0.11', INSTANCE_ID_PATH);
  await ask('127.0.0.11', '/latest/%');
  await ask('127.0.0.11', SECURITY_CREDENTIALS, {}, 'POST');
  const lines = await proxy.logs.several(3, ({ fields }) => fields['request_id'] !== undefined);
  assert.deepEqual(lines.map(({ msg, fields }) => [msg, fields['method'], fields['path'], fields['status']]), [
    ['answered', 'GET', INSTANCE_ID_PATH, 200], ['request refused', 'GET', '/latest/%', 400],
    ['credentials refused', 'POST', SECURITY_CREDENTIALS, 405],
  ]);
});

test('ADMIN_ADDR serves the status page, /healthz, /readyz and /status; the containers\' port does not', async (t) => {
  const { docker, imds, proxy, ask, askOperator } = await host(t);
  const { id } = await docker.host.run({ name: 'app', address: '127.0.0.11', env: { IAM_ROLE: 'app@123456789012' } });
  await ask('127.0.0.11', '/creds');
  assert.deepEqual(JSON.parse((await askOperator('/healthz')).body), { status: 'alive' });
  await until(() => askOperator('/readyz'), ({ status }) => status === 200);
  const status = JSON.parse((await askOperator('/status')).body) as Record<string, unknown>;
  const [row, ...others] = status['containers'] as Record<string, unknown>[];
  assert.deepEqual(others, []);
  assert.match(String(row?.['expires']), /^\d{4}-\d\d-\d\dT/);
  assert.deepEqual({ ...row, expires: '' }, {
    name: 'app', id: id.slice(0, 12), image: 'busybox', addresses: ['127.0.0.11'], role: 'app@123456789012',
    role_arn: 'arn:aws:iam::123456789012:role/app', source: 'variable IAM_ROLE', credentials: 'ready', expires: '',
    error: null, requests: 1, last_error: null,
  });
  assert.match((await askOperator('/')).body, /^<!DOCTYPE html>.*app@<wbr>123456789012/s);
  assert.equal((await askOperator('/metrics')).status, 404);
  assert.equal((await askOperator('/healthz', {}, 'POST')).status, 405);
  assert.equal((await askOperator('/status', { Host: 'rebound.example.com' })).status, 421);
  assert.equal((await ask('127.0.0.11', '/metrics')).status, 404);
  for (const path of ['/healthz', '/readyz', '/status']) {
    const received = imds.requests.next(({ target }) => target === path);
    assert.equal((await ask('127.0.0.11', path)).status, 404);
    await received; // The 404 comes from the upstream IMDS.
  }
  assert.notEqual(proxy.adminPort, proxy.port);
});

test('ADMIN_ADDR=off disables the operator\'s listener', async (t) => {
  const proxy = await startProxy(t, { env: { ADMIN_ADDR: 'off' } });
  await proxy.awaitLog('listening');
  assert.equal(proxy.logs.all(({ msg }) => msg === 'admin listening').length, 0);
});

test('MOCKED_INSTANCE_ID is the instance ID of the built-in metadata', async (t) => {
  const proxy = await startProxy(t, { args: ['--mock'], env: { MOCKED_INSTANCE_ID: 'i-mine' } });
  const answer = await request({ port: proxy.port, path: INSTANCE_ID_PATH });
  assert.equal(answer.body, 'i-mine');
  const document = await request({ port: proxy.port, path: '/latest/dynamic/instance-identity/document' });
  assert.equal(jsonOf(document)['instanceId'], 'i-mine');
});
