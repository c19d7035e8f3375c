import assert from 'node:assert/strict';
import { test } from 'node:test';
import { freePort } from '../../support/free-port.ts';
import { raw, request, startProxy } from '../../support/proxy.ts';
import {
  arnOf,
  host,
  hostOf,
  INSTANCE_ID_PATH,
  isMessage,
  refusal,
  SECURITY_CREDENTIALS,
  startFakes,
} from './host.ts';

const A = '127.0.0.21';
const B = '127.0.0.22';
const C = '127.0.0.23';
const PROFILE = 'com.swipely.iam-docker.iam-profile';
const EXTERNAL_ID = 'com.swipely.iam-docker.iam-externalid';

// Labels and variables

test('iam-docker: the label com.swipely.iam-docker.iam-profile takes precedence over IAM_ROLE', async (t) => {
  const { docker, callFor } = await host(t);
  await docker.host.run({ address: A, labels: { [PROFILE]: arnOf('by-label') } });
  await docker.host.run({
    address: B,
    labels: { [PROFILE]: arnOf('by-label') },
    env: { IAM_ROLE: arnOf('by-variable') },
  });
  await docker.host.run({ address: C, env: { IAM_ROLE: arnOf('by-variable') } });
  assert.equal((await callFor(A)).roleArn, arnOf('by-label'));
  assert.equal((await callFor(B)).roleArn, arnOf('by-label'));
  assert.equal((await callFor(C)).roleArn, arnOf('by-variable'));
});

test('iam-docker: the external ID is in the label iam-externalid or in IAM_ROLE_EXTERNALID', async (t) => {
  const { docker, callFor } = await host(t);
  await docker.host.run({ address: A, labels: { [PROFILE]: arnOf('app'), [EXTERNAL_ID]: 'label-id' } });
  await docker.host.run({ address: B, env: { IAM_ROLE: arnOf('app'), IAM_ROLE_EXTERNALID: 'variable-id' } });
  assert.equal((await callFor(A)).externalId, 'label-id');
  assert.equal((await callFor(B)).externalId, 'variable-id');
});

test('iam-docker: containers with one role and different external IDs do not share credentials', async (t) => {
  const { docker, callFor } = await host(t, { env: { SESSION_NAME: 'shared' } });
  await docker.host.run({ address: A, labels: { [PROFILE]: arnOf('app'), [EXTERNAL_ID]: 'one-id' } });
  assert.equal((await callFor(A)).externalId, 'one-id');
  await docker.host.run({ address: B, labels: { [PROFILE]: arnOf('app') } });
  assert.equal((await callFor(B)).externalId, undefined);
});

// Flags in all of Go's forms

const forms = (flag: string, value: string): [string, string[]][] => [
  [`--${flag} ${value}`, [`--${flag}`, value]],
  [`--${flag}=${value}`, [`--${flag}=${value}`]],
  [`-${flag} ${value}`, [`-${flag}`, value]],
  [`-${flag}=${value}`, [`-${flag}=${value}`]],
];

for (const [form] of forms('listen-addr', ':PORT')) {
  test(`iam-docker: ${form} sets the proxy's address`, async (t) => {
    const fakes = await startFakes(t);
    const port = await freePort();
    const args = form.replace('PORT', String(port)).split(' ');
    const proxy = await startProxy(t, { ...fakes, args });
    assert.equal(proxy.port, port);
    assert.equal((await request({ port, path: '/healthcheck' })).status, 200);
  });
}

for (const [form] of forms('meta-data-api', 'URL')) {
  test(`iam-docker: ${form} is the upstream IMDS`, async (t) => {
    const fakes = await startFakes(t, { metadata: { tree: { 'meta-data/instance-id': 'i-of-the-flag' } } });
    const args = form.replace('URL', fakes.imds.url).split(' ');
    const proxy = await startProxy(t, { ...fakes, env: { METADATA_URL: undefined }, args });
    assert.equal((await hostOf(proxy, fakes).ask(A, INSTANCE_ID_PATH)).body, 'i-of-the-flag');
  });
}

test('iam-docker: an invalid --meta-data-api ends the program with exit code 2', async () => {
  assert.deepEqual(await refusal({ args: ['--meta-data-api', 'nonsense'] }), {
    code: 2,
    lines: [
      'metadataproxy: --metadata-url: "nonsense" is invalid: expected http://host or http://host:port',
    ],
  });
});

for (const [form, isDisabled] of [
  ['--disable-upstream', true],
  ['-disable-upstream', true],
  ['--disable-upstream=true', true],
  ['--disable-upstream=false', false],
  ['-disable-upstream=false', false],
] as const) {
  test(`iam-docker: with ${form} ${isDisabled ? 'nothing' : 'everything but credentials'} passes through`, async (t) => {
    const { docker, imds, ask, callFor } = await host(t, { args: [form] });
    await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app') } });
    for (const path of [INSTANCE_ID_PATH, '/latest/user-data', '/']) {
      const { status, body } = await ask(A, path);
      assert.equal(status, isDisabled ? 403 : 200, path);
      if (isDisabled) assert.doesNotMatch(body, /i-0123456789abcdef0|echo/);
    }
    assert.equal((await callFor(A)).roleArn, arnOf('app'));
    assert.equal(imds.requests.all(({ target }) => target === INSTANCE_ID_PATH).length, isDisabled ? 0 : 1);
  });
}

test('iam-docker: --docker-sync-period 1s lists the containers in addition to following the events', async (t) => {
  await Promise.all(
    forms('docker-sync-period', '1s').map(async ([, args]) => {
      const { docker } = await host(t, { args });
      docker.requests.clear();
      await docker.requests.several(2, ({ path }) => path === '/containers/json');
    }),
  );
});

test('iam-docker: --docker-sync-period=0s, its default, lists the containers once', async (t) => {
  const { docker, proxy } = await host(t, { args: ['--docker-sync-period=0s'] });
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app') } });
  await proxy.awaitLog('role assumed');
  assert.equal(docker.requests.all(({ path }) => path === '/containers/json').length, 1);
});

test('iam-docker: --read-timeout 1s ends a request that does not arrive', async (t) => {
  await Promise.all(
    forms('read-timeout', '1s').map(async ([, args]) => {
      const { proxy } = await host(t, { args });
      const { received, closed } = await raw({
        port: proxy.port,
        bytes: 'GET / HTTP/1.1\r\nHost: x\r\n',
        responses: Infinity,
      });
      assert.match(received.toString(), /^HTTP\/1\.1 408 /);
      assert.equal(closed, true);
    }),
  );
});

test('iam-docker: --write-timeout 1s ends a connection that is silent during an answer', async (t) => {
  await Promise.all(
    forms('write-timeout', '1s').map(async ([, args]) => {
      const { imds, proxy } = await host(t, { args });
      imds.fault('/latest/user-data', { kind: 'pause-in-body' });
      const bytes = 'GET /latest/user-data HTTP/1.1\r\nHost: x\r\n\r\n';
      const { received, responses, closed } = await raw({ port: proxy.port, bytes, responses: Infinity });
      assert.match(received.toString(), /^HTTP\/1\.1 200 /);
      assert.deepEqual([closed, responses.length], [true, 0], 'what was broken off is no whole answer');
    }),
  );
});

for (const [flag, value, expected] of [
  ['read-timeout', 'soon', 'a duration from 1s to 24h'],
  ['write-timeout', '10ms', 'a duration from 1s to 24h'],
  ['docker-sync-period', '1 minute', 'a duration such as "15m" or "5m30s"'],
] as const) {
  test(`iam-docker: --${flag} "${value}" ends the program with exit code 2`, async () => {
    assert.deepEqual(await refusal({ args: [`--${flag}`, value] }), {
      code: 2,
      lines: [
        `metadataproxy: --${flag}: "${value}" is invalid: expected ${expected}`,
      ],
    });
  });
}

for (const [flag, value, why] of [
  ['credential-refresh-period', '1m', 'The proxy refreshes credentials before they expire.'],
  ['event-handlers', '4', 'The proxy needs no event workers.'],
  ['queue-size', '10000', 'The proxy needs no event queue.'],
] as const) {
  test(`iam-docker: --${flag} is accepted, ignored, and logged in one line`, async (t) => {
    for (const [, args] of forms(flag, value)) {
      const { proxy } = await host(t, { args });
      const warnings = proxy.logs.all(({ level }) => level === 'warning');
      assert.deepEqual(
        warnings.map(({ msg }) => msg),
        [`--${flag}: Deprecated and ignored. ${why}`],
      );
      await proxy.stop();
    }
  });
}

for (const [form, isDebug] of [
  ['--verbose', true],
  ['-verbose', true],
  ['-verbose=true', true],
  ['-verbose=false', false],
] as const) {
  test(`iam-docker: ${form} ${isDebug ? 'logs' : 'does not log'} every request`, async (t) => {
    const { proxy, ask } = await host(t, { args: [form] });
    await ask(A, INSTANCE_ID_PATH);
    await proxy.stop();
    assert.equal(proxy.logs.all(isMessage('answered')).length, isDebug ? 1 : 0);
  });
}

test('iam-docker: all its flags work together, with Docker at DOCKER_HOST', async (t) => {
  const fakes = await startFakes(t);
  const port = await freePort();
  await fakes.docker.host.run({ address: A, labels: { [PROFILE]: arnOf('app') } });
  const proxy = await startProxy(t, {
    ...fakes,
    env: { DOCKER_URL: undefined, DOCKER_HOST: fakes.docker.url, METADATA_URL: undefined },
    args: [
      '-listen-addr',
      `127.0.0.1:${port}`,
      '-meta-data-api',
      fakes.imds.url,
      '-disable-upstream=false',
      '-docker-sync-period',
      '1m',
      '-credential-refresh-period',
      '1m',
      '-read-timeout',
      '1m',
      '-write-timeout',
      '1m',
      '-event-handlers',
      '4',
      '-verbose',
    ],
  });
  await proxy.awaitLog('containers known');
  assert.equal(proxy.port, port);
  assert.equal((await hostOf(proxy, fakes).callFor(A)).roleArn, arnOf('app'));
});

// Routes

test('iam-docker: GET /healthcheck is 200 with an empty body', async (t) => {
  const { ask } = await host(t);
  const { status, body } = await ask(A, '/healthcheck');
  assert.deepEqual({ status, body }, { status: 200, body: '' });
});

test('iam-docker: a container gets credentials only for its whole role name, not for a suffix of it', async (t) => {
  const { docker, ask } = await host(t);
  await docker.host.run({ address: A, labels: { [PROFILE]: arnOf('some-role') } });
  assert.equal((await ask(A, SECURITY_CREDENTIALS)).body, 'some-role');
  assert.equal((await ask(A, `${SECURITY_CREDENTIALS}some-role`)).status, 200);
  for (const end of ['role', 'e', '-role'])
    assert.equal((await ask(A, SECURITY_CREDENTIALS + end)).status, 404, end);
});
