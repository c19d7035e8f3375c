import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { test } from 'node:test';
import { request, startProxyWithRawLog } from '../../support/proxy.ts';
import { SECRET_MARK, TOKEN_MARK } from '../../support/sts.ts';
import {
  ACCOUNT,
  arnOf,
  host,
  INSTANCE_ID_PATH,
  isMessage,
  jsonOf,
  refusal,
  SECURITY_CREDENTIALS,
  startFakes,
} from './host.ts';

const A = '127.0.0.21';
const B = '127.0.0.22';
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

// Roles

test('go: IAM_ROLE is a name that IAM resolves, a name with an account, or an ARN', async (t) => {
  const { docker, callFor } = await host(t, {
    before: ({ sts }) => void sts.roleArns.set('looked-up', arnOf('path/looked-up')),
  });
  const forms = {
    'looked-up': arnOf('path/looked-up'),
    'app@111122223333': 'arn:aws:iam::111122223333:role/app',
    [arnOf('x/y')]: arnOf('x/y'),
  };
  for (const [index, [role, arn]] of Object.entries(forms).entries()) {
    const address = `127.0.0.${31 + index}`;
    await docker.host.run({ address, env: { IAM_ROLE: role } });
    assert.equal((await callFor(address)).roleArn, arn);
  }
});

test('go: DEFAULT_ROLE and DEFAULT_ACCOUNT_ID set the role of a container that declares none', async (t) => {
  const { docker, callFor } = await host(t, {
    env: { DEFAULT_ROLE: 'fallback', DEFAULT_ACCOUNT_ID: '111122223333' },
  });
  await docker.host.run({ address: A });
  assert.equal((await callFor(A)).roleArn, 'arn:aws:iam::111122223333:role/fallback');
});

test('go: DOCKER_HOST is Docker\'s address if DOCKER_URL is not set', async (t) => {
  const { docker, imds, sts } = await startFakes(t);
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app') } });
  const { port, lines } = await startProxyWithRawLog(t, {
    docker, imds, sts, env: { DOCKER_URL: '', DOCKER_HOST: docker.url, LOG_FORMAT: 'json' },
  });
  await lines.first((line) => line.includes('"containers known"'));
  assert.equal((await request({ port, from: A, path: SECURITY_CREDENTIALS })).body, 'app');
});

test('go: every credential answer has IMDS\'s fields', async (t) => {
  const { docker, ask } = await host(t);
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app') } });
  const answer = jsonOf(await ask(A, `/2016-09-02/meta-data/iam/security-credentials/app`));
  assert.deepEqual(Object.keys(answer), [
    'Code',
    'LastUpdated',
    'Type',
    'AccessKeyId',
    'SecretAccessKey',
    'Token',
    'Expiration',
  ]);
});

// ROLE_CACHE_OFFSET is in lyft.test.ts, with ROLE_EXPIRATION_THRESHOLD.

test('go: ROLE_CACHE_OFFSET is a Go duration; any other value ends the program', async (t) => {
  for (const offset of ['60s', '5m30s', '1.5h', '0'])
    await (await host(t, { env: { ROLE_CACHE_OFFSET: offset } })).proxy.stop();
  assert.deepEqual(await refusal({ env: { ROLE_CACHE_OFFSET: '15' } }), {
    code: 2,
    lines: [
      'metadataproxy: ROLE_CACHE_OFFSET: "15" is invalid: expected a duration such as "15m" or "5m30s"',
    ],
  });
});

// LOG_LEVEL

/** The logged levels of a run with events of every level. */
async function levelsLogged(t: Parameters<typeof startFakes>[0], level: string): Promise<string[]> {
  const fakes = await startFakes(t);
  const { port, lines, stop } = await startProxyWithRawLog(t, {
    ...fakes,
    env: {
      LOG_LEVEL: level,
      LOG_FORMAT: 'json',
      ROLE_CACHE_OFFSET: '5m',
      ROLE_EXPIRATION_THRESHOLD: '6',
    },
  });
  await fakes.docker.subscriptions.first();
  await fakes.docker.host.run({ address: A, env: { IAM_ROLE: 'not a role' } });
  assert.equal((await request({ port, from: A, path: '/creds' })).status, 404);
  assert.equal((await request({ port, from: A, path: INSTANCE_ID_PATH })).status, 200);
  await stop();
  return [...new Set(lines.all().map((line) => (JSON.parse(line) as { level: string }).level))].sort();
}

for (const [level, expected] of [
  ['debug', ['debug', 'error', 'info', 'warning']],
  ['info', ['error', 'info', 'warning']],
  ['warning', ['error', 'warning']],
  ['error', ['error']],
  ['fatal', []],
  ['panic', []],
  // logrus's other names, in any case.
  ['trace', ['debug', 'error', 'info', 'warning']],
  ['WARN', ['error', 'warning']],
  ['Error', ['error']],
] as const) {
  test(`go: LOG_LEVEL=${level} logs ${expected.join(', ') || 'nothing'}`, async (t) => {
    assert.deepEqual(await levelsLogged(t, level), expected);
  });
}

// LOG_FORMAT

test('go: LOG_FORMAT=text writes time, level, message and name=value', async (t) => {
  const fakes = await startFakes(t);
  const { lines, port } = await startProxyWithRawLog(t, { ...fakes, env: { LOG_FORMAT: 'text' } });
  const listening = await lines.first((line) => line.includes('listening'));
  assert.match(
    listening,
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO  listening address=127\.0\.0\.1:\d+$/,
  );
  assert.ok(listening.endsWith(`:${port}`));
});

test('go: LOG_FORMAT=json writes one object per line with time, level, msg and the fields', async (t) => {
  const fakes = await startFakes(t);
  const { lines } = await startProxyWithRawLog(t, { ...fakes, env: { LOG_FORMAT: 'json' } });
  const { time, ...rest } = JSON.parse(
    await lines.first((line) => line.includes('containers known')),
  ) as Record<string, unknown>;
  assert.deepEqual(rest, { level: 'info', msg: 'containers known', count: 0 });
  assert.equal(new Date(String(time)).toISOString(), time);
});

const SYSLOG = { debug: 7, info: 6, warning: 4, error: 3 };

test('go: LOG_FORMAT=gelf is GELF 1.1, field by field', async (t) => {
  const fakes = await startFakes(t);
  const began = Date.now() / 1000;
  const { lines, port, stop } = await startProxyWithRawLog(t, {
    ...fakes,
    env: {
      LOG_FORMAT: 'gelf',
      LOG_LEVEL: 'debug',
      ROLE_CACHE_OFFSET: '5m',
      ROLE_EXPIRATION_THRESHOLD: '6',
    },
  });
  await fakes.docker.subscriptions.first();
  await fakes.docker.host.run({ name: 'web', address: A, env: { IAM_ROLE: arnOf('app') } });
  await fakes.docker.host.run({ name: 'mistaken', address: B, env: { IAM_ROLE: 'not a role' } });
  for (const from of [A, B])
    for (const path of ['/creds', INSTANCE_ID_PATH]) await request({ port, from, path });
  await stop();

  const entries = lines.all().map((line) => JSON.parse(line) as Record<string, unknown>);
  const levels = new Set<unknown>();
  for (const { version, host: from, short_message: message, timestamp, level, ...extras } of entries) {
    assert.equal(version, '1.1');
    assert.equal(from, hostname());
    assert.ok(typeof message === 'string' && message !== '');
    assert.ok(
      typeof timestamp === 'number' && timestamp >= began - 1 && timestamp <= Date.now() / 1000 + 1,
      `${timestamp}`,
    );
    levels.add(level);
    for (const [name, value] of Object.entries(extras)) {
      // GELF reserves `_id`, and allows only strings and numbers.
      assert.match(name, /^_(?!id$)[\w.-]+$/);
      assert.match(typeof value, /^(?:string|number)$/, `${name} of ${message}`);
    }
  }
  assert.deepEqual([...levels].sort(), Object.values(SYSLOG).sort());
  const served = entries.find((line) => line['short_message'] === 'credentials served');
  assert.equal(served?.['_container'], 'web');
  assert.equal(served['_status'], 200);
  assert.match(String(served['_request_id']), UUID);
});

test('go: a GELF line has the name of its level in _level_name', async (t) => {
  const fakes = await startFakes(t);
  const { lines } = await startProxyWithRawLog(t, { ...fakes, env: { LOG_FORMAT: 'gelf' } });
  const line = JSON.parse(await lines.first((text) => text.includes('containers known'))) as Record<
    string,
    unknown
  >;
  assert.equal(line['level'], 6);
  assert.equal(line['_level_name'], 'info');
});

for (const format of ['text', 'json', 'gelf']) {
  test(`go: a log at LOG_LEVEL=debug and LOG_FORMAT=${format} contains no secret`, async (t) => {
    const fakes = await startFakes(t);
    const { lines, port, stop } = await startProxyWithRawLog(t, { ...fakes, env: { LOG_FORMAT: format, LOG_LEVEL: 'debug' } });
    await fakes.docker.host.run({
      address: A,
      env: { IAM_ROLE: arnOf('app'), IAM_EXTERNAL_ID: 'the-external-id' },
    });
    assert.equal((await request({ port, from: A, path: '/creds' })).status, 200);
    await stop();
    const text = lines.all().join('\n');
    assert.match(text, /credentials served/);
    assert.doesNotMatch(text, new RegExp(`${SECRET_MARK}|${TOKEN_MARK}|BaseSecret|the-external-id`));
  });
}

// Response headers

test('go: every answer has X-Powered-By and a unique X-Request-ID', async (t) => {
  const { docker, ask } = await host(t);
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app') } });
  const ids = new Set<string>();
  const asked: [path: string, status: number, method?: string][] = [
    [INSTANCE_ID_PATH, 200],
    ['/latest/meta-data/nothing', 404],
    [SECURITY_CREDENTIALS, 200],
    [`${SECURITY_CREDENTIALS}app`, 200],
    [`${SECURITY_CREDENTIALS}other`, 404],
    ['/latest/meta-data/iam/info', 200],
    ['/creds', 200],
    ['/healthcheck', 200],
    ['/latest/%zz', 400],
    [INSTANCE_ID_PATH, 405, 'POST'],
    ['/latest/api/token', 400, 'PUT'],
    [INSTANCE_ID_PATH, 200, 'HEAD'],
  ];
  for (const [path, status, method] of asked) {
    const answer = await ask(A, path, { 'X-Request-ID': 'of-the-caller' }, method);
    assert.equal(answer.status, status, path);
    assert.equal(answer.headers['x-powered-by'], 'metadataproxy', path);
    assert.match(answer.headers['x-request-id'] ?? '', UUID, path);
    ids.add(answer.headers['x-request-id'] ?? '');
  }
  assert.equal(ids.size, asked.length);
});

test('go: the X-Request-ID of an answer is in every line of the log about that request', async (t) => {
  const { docker, proxy, ask } = await host(t, { env: { LOG_LEVEL: 'debug' } });
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app') } });
  await docker.host.run({ address: B, env: { IAM_ROLE: 'not a role' } });
  for (const [from, path] of [
    [A, INSTANCE_ID_PATH],
    [A, '/creds'],
    [A, `${SECURITY_CREDENTIALS}other`],
    [B, '/creds'],
    [A, '/latest/%zz'],
    [A, SECURITY_CREDENTIALS],
  ] as const) {
    const seen = proxy.logs.entries.length;
    const { headers } = await ask(from, path);
    const id = headers['x-request-id'];
    await proxy.logs.first(({ fields }) => fields['request_id'] === id);
    // Every request line that was logged meanwhile belongs to this request.
    const about = proxy.logs.entries
      .slice(seen)
      .filter(({ fields }) => 'path' in fields || 'request_id' in fields);
    assert.deepEqual(
      about.map(({ fields }) => fields['request_id']),
      about.map(() => id),
      path,
    );
    assert.equal(about.length, 1, path);
  }
});

// For metrics

test('go: COPY_DOCKER_LABELS, COPY_DOCKER_ENV, COPY_REQUEST_HEADERS and LABEL_SEPARATOR add labels and change no answer', async (t) => {
  const { docker, proxy, ask, callFor } = await host(t, {
    env: {
      ENABLE_PROMETHEUS: 'true',
      COPY_DOCKER_LABELS: 'PROJECT_VERSION,SOMETHING_ELSE',
      COPY_DOCKER_ENV: 'PROJECT_VERSION,SOMETHING_ELSE',
      COPY_REQUEST_HEADERS: 'user-agent',
      LABEL_SEPARATOR: '.',
    },
  });
  await docker.host.run({
    address: A,
    env: { IAM_ROLE: `app@${ACCOUNT}`, PROJECT_VERSION: '1' },
    labels: { PROJECT_VERSION: '2' },
  });
  assert.equal((await callFor(A)).roleArn, arnOf('app'));
  assert.equal((await ask(A, INSTANCE_ID_PATH, { 'User-Agent': 'sdk/1' })).status, 200);
  assert.deepEqual(proxy.logs.all(({ level }) => level === 'warning' || level === 'error'), []);
  const metrics = (await request({ port: proxy.adminPort, path: '/metrics' })).body.toString();
  assert.match(metrics, /^metadataproxy_http_request\{.*container_project_version="1",header_user_agent="sdk\/1"\} 1$/m);
  assert.deepEqual(await refusal({ env: { LABEL_SEPARATOR: 'a b' } }), {
    code: 2,
    lines: ['metadataproxy: LABEL_SEPARATOR: "a b" is invalid: expected 1 to 8 characters without spaces'],
  });
});

test('go: empty settings count as not set', async (t) => {
  const { docker, callFor } = await host(t, {
    env: {
      DEFAULT_ROLE: '',
      DEFAULT_ACCOUNT_ID: '',
      ROLE_CACHE_OFFSET: '',
      LOG_LEVEL: '',
      COPY_DOCKER_LABELS: '',
      LABEL_SEPARATOR: '',
    },
  });
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app') } });
  assert.equal((await callFor(A)).roleArn, arnOf('app'));
});

test('go: a denied role is 403 with the reason, and a role other than the container\'s is 404', async (t) => {
  const { docker, sts, proxy, ask } = await host(t);
  sts.fault({ kind: 'deny' }, arnOf('denied'));
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('denied') } });
  const answer = await ask(A, `${SECURITY_CREDENTIALS}denied`);
  assert.equal(answer.status, 403);
  assert.equal(jsonOf(answer)['Code'], 'AssumeRoleUnauthorizedAccess');
  assert.equal((await ask(A, `${SECURITY_CREDENTIALS}other`)).status, 404);
  await proxy.logs.several(2, isMessage('credentials refused'));
});
