import assert from 'node:assert/strict';
import { lookupService } from 'node:dns/promises';
import { renameSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import { freePort } from '../../support/free-port.ts';
import { request, startProxy, type Test } from '../../support/proxy.ts';
import { SECRET_MARK, TOKEN_MARK } from '../../support/sts.ts';
import {
  ACCOUNT,
  arnOf,
  fileWith,
  host,
  hostOf,
  INSTANCE_ID_PATH,
  isMessage,
  jsonOf,
  refusal,
  SECURITY_CREDENTIALS,
  startFakes,
  until,
} from './host.ts';

const A = '127.0.0.21';
const B = '127.0.0.22';
const C = '127.0.0.23';
const BROKEN = 'cannot reload file; keeping the previous version';

// Roles

test('lyft: DEFAULT_ROLE is the role of a container that declares none, or an empty one', async (t) => {
  const { docker, callFor, statusFor } = await host(t, { env: { DEFAULT_ROLE: `fallback@${ACCOUNT}` } });
  await docker.host.run({ address: A });
  await docker.host.run({ address: B, env: { IAM_ROLE: '' } });
  await docker.host.run({ address: C, env: { IAM_ROLE: `own@${ACCOUNT}` } });
  assert.equal((await callFor(A)).roleArn, arnOf('fallback'));
  assert.equal((await callFor(B)).roleArn, arnOf('fallback'));
  assert.equal((await callFor(C)).roleArn, arnOf('own'));
  assert.equal(await statusFor('127.0.0.99'), 404, 'an address that belongs to no container has no role');
});

test('lyft: without DEFAULT_ROLE a container that declares no role gets 404', async (t) => {
  const { docker, ask } = await host(t);
  await docker.host.run({ address: A });
  assert.equal((await ask(A, SECURITY_CREDENTIALS)).status, 404);
});

test('lyft: DEFAULT_ROLE may be the ARN of any partition', async (t) => {
  const arn = `arn:aws-us-gov:iam::${ACCOUNT}:role/team/fallback`;
  const { docker, callFor } = await host(t, { env: { DEFAULT_ROLE: arn } });
  await docker.host.run({ address: A });
  assert.equal((await callFor(A)).roleArn, arn);
});

test('lyft: DEFAULT_ACCOUNT_ID is the account of a role without one, and IAM is not called', async (t) => {
  const { docker, sts, callFor } = await host(t, {
    env: { DEFAULT_ACCOUNT_ID: '111122223333', DEFAULT_ROLE: 'fallback' },
  });
  await docker.host.run({ address: A, env: { IAM_ROLE: 'app' } });
  await docker.host.run({ address: B });
  assert.equal((await callFor(A)).roleArn, 'arn:aws:iam::111122223333:role/app');
  assert.equal((await callFor(B)).roleArn, 'arn:aws:iam::111122223333:role/fallback');
  assert.deepEqual(
    sts.calls.all(({ action }) => action === 'GetRole'),
    [],
  );
});

test('lyft: without DEFAULT_ACCOUNT_ID the account comes from iam:GetRole', async (t) => {
  const { docker, callFor } = await host(t, {
    before: ({ sts }) => void sts.roleArns.set('app', 'arn:aws:iam::444455556666:role/app'),
  });
  await docker.host.run({ address: A, env: { IAM_ROLE: 'app' } });
  assert.equal((await callFor(A)).roleArn, 'arn:aws:iam::444455556666:role/app');
});

test('lyft: AWS_ACCOUNT_MAP names accounts, for role@account-name', async (t) => {
  const map = '{"prod": "111122223333", "stage": "444455556666"}';
  const { docker, callFor } = await host(t, {
    env: { AWS_ACCOUNT_MAP: map, DEFAULT_ROLE: 'fallback@stage' },
  });
  await docker.host.run({ address: A, env: { IAM_ROLE: 'app@prod' } });
  await docker.host.run({ address: B });
  await docker.host.run({ address: C, env: { IAM_ROLE: `app@${ACCOUNT}` } });
  assert.equal((await callFor(A)).roleArn, 'arn:aws:iam::111122223333:role/app');
  assert.equal((await callFor(B)).roleArn, 'arn:aws:iam::444455556666:role/fallback');
  assert.equal((await callFor(C)).roleArn, arnOf('app'));
});

test('lyft: an account name that is not in AWS_ACCOUNT_MAP is 404 for that container and one log line', async (t) => {
  const { docker, proxy, statusFor } = await host(t, {
    env: { AWS_ACCOUNT_MAP: '{"prod": "111122223333"}' },
  });
  await docker.host.run({ name: 'mistaken', address: A, env: { IAM_ROLE: 'app@prd' } });
  assert.equal(await statusFor(A), 404);
  assert.equal(await statusFor(A), 404);
  await proxy.logs.several(1, isMessage('credentials refused'));
  const lines = proxy.logs.all(isMessage('invalid role request'));
  assert.equal(lines.length, 1);
  assert.equal(lines[0]?.fields['container'], 'mistaken');
  assert.equal(
    lines[0]?.fields['error'],
    '"app@prd" names the account "prd"; expected 12 digits or one of prod after the "@"',
  );
});

test('lyft: IAM_EXTERNAL_ID is the external ID of IAM_ROLE', async (t) => {
  const { docker, callFor } = await host(t);
  await docker.host.run({
    address: A,
    env: { IAM_ROLE: `their-role@${ACCOUNT}`, IAM_EXTERNAL_ID: 'random-unique-string' },
  });
  assert.equal((await callFor(A)).externalId, 'random-unique-string');
});

// Addresses

test('lyft: DOCKER_URL with two slashes, as in its README, means the absolute path', async (t) => {
  const fakes = await startFakes(t);
  const url = `unix:/${fakes.docker.socketPath}`;
  assert.match(url, /^unix:\/\/[^/]/);
  await fakes.docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app') } });
  const proxy = await startProxy(t, { ...fakes, env: { DOCKER_URL: url } });
  await proxy.awaitLog('containers known');
  assert.equal((await hostOf(proxy, fakes).callFor(A)).roleArn, arnOf('app'));
});

test('lyft: DOCKER_URL may be a TCP endpoint', async (t) => {
  const { docker, callFor } = await host(t, { engine: { transport: 'tcp' } });
  assert.match(docker.url, /^tcp:/);
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app') } });
  assert.equal((await callFor(A)).roleArn, arnOf('app'));
});

test('lyft: METADATA_URL is the upstream IMDS', async (t) => {
  const { imds, ask } = await host(t, { metadata: { tree: { 'meta-data/instance-id': 'i-of-this-test' } } });
  assert.equal((await ask(A, INSTANCE_ID_PATH)).body, 'i-of-this-test');
  await imds.requests.first(({ method, target }) => method === 'GET' && target === INSTANCE_ID_PATH);
});

test('lyft: HOST and PORT set the proxy\'s address', async (t) => {
  const fakes = await startFakes(t);
  const port = await freePort();
  const proxy = await startProxy(t, {
    ...fakes,
    env: { HOST: '127.0.0.88', PORT: String(port), WORKERS: '1', DEBUG: 'False' },
  });
  assert.equal((await proxy.awaitLog('listening')).fields['address'], `127.0.0.88:${port}`);
  assert.equal((await request({ host: '127.0.0.88', port, path: INSTANCE_ID_PATH })).status, 200);
  await assert.rejects(request({ host: '127.0.0.1', port, path: INSTANCE_ID_PATH }), /ECONNREFUSED/);
});

test('lyft: AWS_REGION is the region of STS and of the partition of roles without one', async (t) => {
  const { docker, callFor } = await host(t, { env: { AWS_REGION: 'cn-north-1' } });
  await docker.host.run({ address: A, env: { IAM_ROLE: `app@${ACCOUNT}` } });
  const { region, roleArn } = await callFor(A);
  assert.deepEqual(
    { region, roleArn },
    { region: 'cn-north-1', roleArn: `arn:aws-cn:iam::${ACCOUNT}:role/app` },
  );
});

// The log

for (const [value, isDebug] of [
  ['True', true],
  ['true', true],
  ['1', true],
  ['False', false],
  ['0', false],
] as const) {
  test(`lyft: DEBUG=${value} ${isDebug ? 'logs a line for each request, and no secrets' : 'leaves the log level as it is'}`, async (t) => {
    const { docker, proxy, ask, statusFor } = await host(t, { env: { DEBUG: value } });
    await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app') } });
    await ask(A, INSTANCE_ID_PATH);
    assert.equal(await statusFor(A), 200);
    assert.equal((await ask(A, `${SECURITY_CREDENTIALS}app`)).status, 200);
    await proxy.logs.several(isDebug ? 2 : 1, isMessage('credentials served'));
    assert.equal(proxy.logs.all(({ level }) => level === 'debug').length > 0, isDebug);
    const text = proxy.logs
      .all()
      .map((line) => line.text)
      .join('\n');
    assert.doesNotMatch(text, new RegExp(`${SECRET_MARK}|${TOKEN_MARK}|BaseSecret`));
  });
}

// Remaining validity of credentials

/** Milliseconds between the second and the third AssumeRole, for credentials with a lifetime of 8 s. */
async function renewedAfter(t: Test, env: Record<string, string>): Promise<number> {
  const { docker, sts, proxy } = await host(t, {
    env,
    before: ({ sts: standIn }) => void (standIn.lifetimeSeconds = 8),
  });
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app') } });
  await sts.issued.several(2);
  const second = Date.now();
  await sts.issued.several(3);
  const between = Date.now() - second;
  await proxy.stop();
  return between;
}

test('lyft: ROLE_EXPIRATION_THRESHOLD is the minimum remaining validity in minutes', async (t) => {
  // 0 minutes: they are valid for 7 to 8 s and refreshed after 2.8 s or more; with the default after 2.4 s or less.
  assert.ok((await renewedAfter(t, { ROLE_EXPIRATION_THRESHOLD: '0' })) > 2600);
});

test('lyft, go: ROLE_CACHE_OFFSET takes precedence over ROLE_EXPIRATION_THRESHOLD', async (t) => {
  assert.ok((await renewedAfter(t, { ROLE_CACHE_OFFSET: '0s', ROLE_EXPIRATION_THRESHOLD: '15' })) > 2600);
});

const BOTH = 'ROLE_CACHE_OFFSET and ROLE_EXPIRATION_THRESHOLD differ; ROLE_CACHE_OFFSET takes precedence';

test('lyft, go: different ROLE_CACHE_OFFSET and ROLE_EXPIRATION_THRESHOLD log a warning', async (t) => {
  const { proxy } = await host(t, { env: { ROLE_CACHE_OFFSET: '5m30s', ROLE_EXPIRATION_THRESHOLD: '5' } });
  assert.equal((await proxy.awaitLog(BOTH)).level, 'warning');
});

test('lyft, go: equal ROLE_CACHE_OFFSET and ROLE_EXPIRATION_THRESHOLD log no warning', async (t) => {
  const { proxy } = await host(t, { env: { ROLE_CACHE_OFFSET: '10m', ROLE_EXPIRATION_THRESHOLD: '10' } });
  assert.deepEqual(
    proxy.logs.all(({ level }) => level === 'warning'),
    [],
  );
});

// ROLE_SESSION_KEY

test('lyft: ROLE_SESSION_KEY reads the session name from a variable', async (t) => {
  const { docker, callFor } = await host(t, { env: { ROLE_SESSION_KEY: 'Env:SERVICE' } });
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app'), SERVICE: 'billing' } });
  assert.equal((await callFor(A)).roleSessionName, 'billing');
});

test('lyft: ROLE_SESSION_KEY reads the session name from a label', async (t) => {
  const { docker, callFor } = await host(t, { env: { ROLE_SESSION_KEY: 'Labels:com.example.service' } });
  await docker.host.run({
    address: A,
    env: { IAM_ROLE: arnOf('app') },
    labels: { 'com.example.service': 'billing' },
  });
  assert.equal((await callFor(A)).roleSessionName, 'billing');
});

test('lyft: the session name of ROLE_SESSION_KEY is made valid for STS, with at most 64 characters', async (t) => {
  const { docker, callFor } = await host(t, { env: { ROLE_SESSION_KEY: 'Env:SERVICE' } });
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app'), SERVICE: 'a b/c:d+e=f,g.h@i-jä' } });
  await docker.host.run({ address: B, env: { IAM_ROLE: arnOf('app'), SERVICE: 'x'.repeat(65) } });
  await docker.host.run({ address: C, env: { IAM_ROLE: arnOf('app'), SERVICE: 'ab' } });
  assert.equal((await callFor(A)).roleSessionName, 'a_b_c_d+e=f,g.h@i-j_');
  assert.equal((await callFor(B)).roleSessionName, 'x'.repeat(64));
  assert.equal((await callFor(C)).roleSessionName, 'ab');
});

test('lyft: a missing or one-character variable of ROLE_SESSION_KEY gives the default session name', async (t) => {
  const { docker, callFor } = await host(t, { env: { ROLE_SESSION_KEY: 'Env:SERVICE' } });
  const missing = await docker.host.run({ name: 'web', address: A, env: { IAM_ROLE: arnOf('app') } });
  const short = await docker.host.run({
    name: 'job',
    address: B,
    env: { IAM_ROLE: arnOf('app'), SERVICE: 'x' },
  });
  assert.equal((await callFor(A)).roleSessionName, `web-${missing.id.slice(0, 12)}`);
  assert.equal((await callFor(B)).roleSessionName, `job-${short.id.slice(0, 12)}`);
});

// ROLE_MAPPING_FILE

test('lyft: ROLE_MAPPING_FILE maps addresses to roles, as a string or an object', async (t) => {
  const file = fileWith(
    t,
    JSON.stringify({
      '127.0.0.31': `app@${ACCOUNT}`,
      '127.0.0.32': arnOf('by-arn'),
      '127.0.0.33': {
        name: 'full',
        account_id: '111122223333',
        external_id: 'secret-id',
        session_name: 'the session',
      },
      '127.0.0.34': { name: 'named-account', account_id: 'prod' },
      '127.0.0.35': 'bare',
      '127.0.0.36': { name: 'bare-object' },
    }),
  );
  const { callFor, statusFor } = await host(t, {
    env: {
      ROLE_MAPPING_FILE: file,
      AWS_ACCOUNT_MAP: '{"prod": "444455556666"}',
      DEFAULT_ACCOUNT_ID: '777788889999',
    },
  });
  assert.equal((await callFor('127.0.0.31')).roleArn, arnOf('app'));
  assert.equal((await callFor('127.0.0.32')).roleArn, arnOf('by-arn'));
  const full = await callFor('127.0.0.33');
  assert.equal(full.roleArn, 'arn:aws:iam::111122223333:role/full');
  assert.equal(full.externalId, 'secret-id');
  assert.equal(full.roleSessionName, 'the_session');
  assert.equal((await callFor('127.0.0.34')).roleArn, 'arn:aws:iam::444455556666:role/named-account');
  assert.equal((await callFor('127.0.0.35')).roleArn, 'arn:aws:iam::777788889999:role/bare');
  assert.equal((await callFor('127.0.0.36')).roleArn, 'arn:aws:iam::777788889999:role/bare-object');
  assert.equal(await statusFor('127.0.0.37'), 404);
});

test('lyft: null in an entry of ROLE_MAPPING_FILE counts as missing', async (t) => {
  const entry = { name: 'app', account_id: null, external_id: null, session_name: null };
  const { callFor } = await host(t, {
    env: { ROLE_MAPPING_FILE: fileWith(t, JSON.stringify({ [A]: entry })), DEFAULT_ACCOUNT_ID: ACCOUNT },
  });
  const { roleArn, externalId } = await callFor(A);
  assert.deepEqual({ roleArn, externalId }, { roleArn: arnOf('app'), externalId: undefined });
});

test('lyft: an address in ROLE_MAPPING_FILE takes precedence over Docker, and Docker over "*"', async (t) => {
  const file = fileWith(t, JSON.stringify({ [A]: arnOf('mapped'), '*': arnOf('anybody') }));
  const { docker, callFor } = await host(t, { env: { ROLE_MAPPING_FILE: file } });
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('own') } });
  await docker.host.run({ address: B, env: { IAM_ROLE: arnOf('own') } });
  assert.equal((await callFor(A)).roleArn, arnOf('mapped'));
  assert.equal((await callFor(B)).roleArn, arnOf('own'));
  assert.equal((await callFor(C)).roleArn, arnOf('anybody'));
});

test('lyft: ROLE_MAPPING_FILE works without Docker', async (t) => {
  const fakes = await startFakes(t);
  const env = {
    ROLE_MAPPING_FILE: fileWith(t, JSON.stringify({ [A]: arnOf('mapped') })),
    DOCKER_URL: 'unix:///nonexistent',
  };
  const { callFor } = hostOf(await startProxy(t, { ...fakes, env }), fakes);
  assert.equal((await callFor(A)).roleArn, arnOf('mapped'));
});

test('lyft: ROLE_MAPPING_FILE is read again on SIGHUP', async (t) => {
  const file = fileWith(t, JSON.stringify({ [A]: arnOf('before') }));
  const { proxy, callFor, statusFor } = await host(t, { env: { ROLE_MAPPING_FILE: file } });
  assert.equal((await callFor(A)).roleArn, arnOf('before'));
  writeFileSync(file, JSON.stringify({ [A]: arnOf('after'), [B]: arnOf('new') }));
  proxy.reload();
  const { fields } = await proxy.awaitLog('file reloaded');
  assert.deepEqual([fields['setting'], fields['path']], ['ROLE_MAPPING_FILE', file]);
  assert.equal((await callFor(A)).roleArn, arnOf('after'));
  assert.equal((await callFor(B)).roleArn, arnOf('new'));
  assert.equal(await statusFor(C), 404);
});

for (const [how, write] of [
  ['written', writeFileSync],
  [
    'replaced by another',
    (path: string, text: string) => {
      writeFileSync(`${path}.new`, text);
      renameSync(`${path}.new`, path);
    },
  ],
] as const) {
  test(`lyft: ROLE_MAPPING_FILE is read again when it is ${how}`, async (t) => {
    const file = fileWith(t, JSON.stringify({ [A]: arnOf('before') }));
    const { proxy, callFor } = await host(t, { env: { ROLE_MAPPING_FILE: file } });
    write(file, JSON.stringify({ [A]: arnOf('after') }));
    await proxy.awaitLog('file reloaded');
    assert.equal((await callFor(A)).roleArn, arnOf('after'));
  });
}

test('lyft: after an invalid change of ROLE_MAPPING_FILE the previous version stays in force, and the log has the reason', async (t) => {
  const file = fileWith(t, JSON.stringify({ [A]: arnOf('before') }));
  const { proxy, callFor, statusFor } = await host(t, { env: { ROLE_MAPPING_FILE: file } });
  const broken: readonly (readonly [text: string, reason: RegExp])[] = [
    ['{"127.0.0.21"', /^not JSON \(/],
    ['["127.0.0.22"]', /^not a JSON object of addresses$/],
    [JSON.stringify({ [B]: 'a role' }), /^"127\.0\.0\.22": "a role" is not a role; expected /],
    [JSON.stringify({ web: arnOf('x') }), /^"web" is not an IP address$/],
    [
      JSON.stringify({ [B]: { nmae: 'x' } }),
      /^"127\.0\.0\.22": unknown key "nmae"; expected name, account_id, external_id, session_name$/,
    ],
    [JSON.stringify({ [B]: { account_id: ACCOUNT } }), /^"127\.0\.0\.22" names no role$/],
  ];
  for (const [text, reason] of broken) {
    writeFileSync(file, text);
    proxy.reload();
    // The proxy also watches the file, and may read it while it is being written.
    const { msg, level, fields } = await proxy.logs.first((line) =>
      reason.test(String(line.fields['error'])),
    );
    assert.deepEqual(
      [msg, level, fields['setting'], fields['path']],
      [BROKEN, 'error', 'ROLE_MAPPING_FILE', file],
    );
    assert.equal((await callFor(A)).roleArn, arnOf('before'));
    assert.equal(await statusFor(B), 404);
  }
});

test('lyft: an invalid or missing ROLE_MAPPING_FILE at the start ends the program with exit code 2', async (t) => {
  const file = fileWith(t, '[]');
  assert.deepEqual(await refusal({ env: { ROLE_MAPPING_FILE: file } }), {
    code: 2,
    lines: [`metadataproxy: ROLE_MAPPING_FILE: ${file}: not a JSON object of addresses`],
  });
  assert.deepEqual(await refusal({ env: { ROLE_MAPPING_FILE: '/nonexistent/map.json' } }), {
    code: 2,
    lines: [
      "metadataproxy: ROLE_MAPPING_FILE: /nonexistent/map.json: ENOENT: no such file or directory, open '/nonexistent/map.json'",
    ],
  });
});

// ROLE_REVERSE_LOOKUP: 127.0.0.1 is the only address with a name in every machine's /etc/hosts.

const LOCAL = '127.0.0.1';
const { hostname: localName } = await lookupService(LOCAL, 0);

test('lyft: ROLE_REVERSE_LOOKUP resolves an address to the container with that hostname', async (t) => {
  const { docker, callFor } = await host(t, { env: { ROLE_REVERSE_LOOKUP: 'true' } });
  await docker.host.run({ address: A, hostname: localName, env: { IAM_ROLE: arnOf('by-name') } });
  assert.equal((await callFor(LOCAL)).roleArn, arnOf('by-name'));
});

test('lyft: ROLE_REVERSE_LOOKUP is off by default', async (t) => {
  const { docker, statusFor } = await host(t);
  await docker.host.run({ address: A, hostname: localName, env: { IAM_ROLE: arnOf('by-name') } });
  assert.equal(await statusFor(LOCAL), 404);
});

test('lyft: ROLE_REVERSE_LOOKUP compares hostname.domainname', async (t) => {
  const { docker, statusFor } = await host(t, { env: { ROLE_REVERSE_LOOKUP: 'true' } });
  await docker.host.run({
    address: A,
    hostname: localName,
    domainname: 'example.com',
    env: { IAM_ROLE: arnOf('x') },
  });
  assert.equal(await statusFor(LOCAL), 404);
});

test('lyft: HOSTNAME_MATCH_REGEX selects the compared part of both names', async (t) => {
  const { docker, callFor } = await host(t, {
    env: { ROLE_REVERSE_LOOKUP: 'true', HOSTNAME_MATCH_REGEX: '^([^.]+)' },
  });
  await docker.host.run({
    address: A,
    hostname: localName,
    domainname: 'example.com',
    env: { IAM_ROLE: arnOf('by-part') },
  });
  await docker.host.run({
    address: B,
    hostname: `x${localName}`,
    domainname: 'example.com',
    env: { IAM_ROLE: arnOf('x') },
  });
  assert.equal((await callFor(LOCAL)).roleArn, arnOf('by-part'));
});

test('lyft: ROLE_REVERSE_LOOKUP gives no role if two containers have the same name', async (t) => {
  const { docker, statusFor } = await host(t, { env: { ROLE_REVERSE_LOOKUP: 'true' } });
  await docker.host.run({ address: A, hostname: localName, env: { IAM_ROLE: arnOf('x') } });
  await docker.host.run({ address: B, hostname: localName, env: { IAM_ROLE: arnOf('y') } });
  await until(
    () => statusFor(B),
    (status) => status === 200,
  );
  assert.equal(await statusFor(LOCAL), 404);
});

// Rancher

test('lyft: Rancher: the label io.rancher.container.ip is an address of its container, with or without a prefix length', async (t) => {
  const { docker, callFor } = await host(t);
  await docker.host.run({
    address: A,
    env: { IAM_ROLE: arnOf('a') },
    labels: { 'io.rancher.container.ip': '127.42.1.2/16' },
  });
  await docker.host.run({
    address: B,
    env: { IAM_ROLE: arnOf('b') },
    labels: { 'io.rancher.container.ip': '127.42.1.3' },
  });
  assert.equal((await callFor('127.42.1.2')).roleArn, arnOf('a'));
  assert.equal((await callFor('127.42.1.3')).roleArn, arnOf('b'));
  assert.equal((await callFor(A)).roleArn, arnOf('a'));
});

for (const labelled of ['before', 'after', 'before the proxy starts'] as const) {
  test(`lyft: Rancher: a label cannot claim an address that Docker gave to another container (labelled ${labelled})`, async (t) => {
    const label = {
      address: B,
      env: { IAM_ROLE: arnOf('claims') },
      labels: { 'io.rancher.container.ip': A },
    };
    const { docker, callFor, statusFor } = await host(t, {
      before: async ({ docker: engine }) => {
        if (labelled !== 'before the proxy starts') return;
        await engine.host.run(label);
        await engine.host.run({ name: 'victim', address: A, env: { IAM_ROLE: arnOf('victim') } });
      },
    });
    if (labelled === 'before') {
      await docker.host.run(label);
      assert.equal((await callFor(A)).roleArn, arnOf('claims'));
    }
    if (labelled !== 'before the proxy starts') {
      await docker.host.run({ name: 'victim', address: A, env: { IAM_ROLE: arnOf('victim') } });
      await until(
        () => callFor(A),
        ({ roleArn }) => roleArn === arnOf('victim'),
      );
    }
    if (labelled === 'after') await docker.host.run(label);
    assert.equal((await callFor(B)).roleArn, arnOf('claims'));
    assert.equal((await callFor(A)).roleArn, arnOf('victim'));
    docker.host.remove('victim');
    assert.equal(await statusFor(B), 200);
  });
}

test('lyft: Rancher: a claimed address is dropped with its container', async (t) => {
  const { docker, callFor, statusFor } = await host(t);
  await docker.host.run({
    name: 'one',
    address: A,
    env: { IAM_ROLE: arnOf('a') },
    labels: { 'io.rancher.container.ip': '127.42.1.2' },
  });
  assert.equal((await callFor('127.42.1.2')).roleArn, arnOf('a'));
  docker.host.remove('one');
  await until(
    () => statusFor('127.42.1.2'),
    (status) => status === 404,
  );
});

// Mesos

interface Task {
  readonly address: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly state?: string;
}

/** The state of a Mesos agent, as far as the proxy reads it. */
function mesosState(tasks: readonly Task[]): string {
  const of = ({ address, labels = {}, state = 'TASK_RUNNING' }: Task, index: number): object => ({
    id: `task-${index}`,
    name: `name-${index}`,
    labels: Object.entries(labels).map(([key, value]) => ({ key, value })),
    statuses: [
      { state: 'TASK_STARTING' },
      {
        state,
        container_status: { network_infos: [{ ip_addresses: [{ ip_address: address, protocol: 'IPv4' }] }] },
      },
    ],
  });
  return JSON.stringify({ frameworks: [{ executors: [{ tasks: [] }, { tasks: tasks.map(of) }] }] });
}

async function mesosAgent(t: Test, answer: RequestListener): Promise<{ url: string; asked: () => number }> {
  let asked = 0;
  const server = createServer((incoming, response) => {
    asked += 1;
    answer(incoming, response);
  });
  await new Promise<void>((resolve) => server.listen(0, LOCAL, resolve));
  t.after(async () => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/state`, asked: () => asked };
}

test('lyft: MESOS_STATE_LOOKUP resolves an address to the running task, whose labels replace variables', async (t) => {
  const agent = await mesosAgent(
    t,
    (_, response) =>
      void response.end(
        mesosState([
          {
            address: A,
            labels: { IAM_ROLE: `app@${ACCOUNT}`, IAM_EXTERNAL_ID: 'the-id', SERVICE: 'billing' },
          },
          { address: B, labels: { IAM_ROLE: arnOf('ended') }, state: 'TASK_FINISHED' },
          { address: C },
        ]),
      ),
  );
  const { callFor, statusFor } = await host(t, {
    env: { MESOS_STATE_LOOKUP: 'true', MESOS_STATE_URL: agent.url, ROLE_SESSION_KEY: 'Env:SERVICE' },
  });
  const { roleArn, externalId, roleSessionName } = await callFor(A);
  assert.deepEqual(
    { roleArn, externalId, roleSessionName },
    {
      roleArn: arnOf('app'),
      externalId: 'the-id',
      roleSessionName: 'billing',
    },
  );
  assert.equal(await statusFor(B), 404);
  assert.equal(await statusFor(C), 404);
});

test('lyft: MESOS_STATE_LOOKUP works without Docker', async (t) => {
  const agent = await mesosAgent(
    t,
    (_, response) => void response.end(mesosState([{ address: A, labels: { IAM_ROLE: arnOf('app') } }])),
  );
  const fakes = await startFakes(t);
  const env = {
    MESOS_STATE_LOOKUP: 'true',
    MESOS_STATE_URL: agent.url,
    DOCKER_URL: 'unix:///nonexistent/docker.sock',
  };
  const { callFor } = hostOf(await startProxy(t, { ...fakes, env }), fakes);
  assert.equal((await callFor(A)).roleArn, arnOf('app'));
});

test('lyft: a Docker container takes precedence over a Mesos task with the same address', async (t) => {
  const agent = await mesosAgent(
    t,
    (_, response) => void response.end(mesosState([{ address: A, labels: { IAM_ROLE: arnOf('task') } }])),
  );
  const { docker, callFor } = await host(t, {
    env: { MESOS_STATE_LOOKUP: 'true', MESOS_STATE_URL: agent.url },
  });
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('container') } });
  assert.equal((await callFor(A)).roleArn, arnOf('container'));
});

test('lyft: without MESOS_STATE_LOOKUP the agent gets no request', async (t) => {
  const agent = await mesosAgent(
    t,
    (_, response) => void response.end(mesosState([{ address: A, labels: { IAM_ROLE: arnOf('app') } }])),
  );
  const { statusFor } = await host(t, { env: { MESOS_STATE_URL: agent.url } });
  assert.equal(await statusFor(A), 404);
  assert.equal(agent.asked(), 0);
});

test('lyft: a Mesos agent that does not answer within MESOS_STATE_TIMEOUT is 503', async (t) => {
  const agent = await mesosAgent(t, () => {});
  const { statusFor } = await host(t, {
    env: {
      MESOS_STATE_LOOKUP: 'true',
      MESOS_STATE_URL: agent.url,
      MESOS_STATE_TIMEOUT: '1',
      DEFAULT_ROLE: arnOf('fallback'),
    },
  });
  assert.equal(await statusFor(A), 503);
  assert.equal(agent.asked(), 1);
});

for (const [what, answer] of [
  ['an error', (_, response) => void response.writeHead(500).end('{}')],
  ['no JSON', (_, response) => void response.end('<html>')],
  [
    'half an answer',
    (_, response) => {
      response.writeHead(200, { 'Content-Length': '1000' });
      response.write(mesosState([{ address: A, labels: { IAM_ROLE: arnOf('app') } }]).slice(0, 50));
      response.destroy();
    },
  ],
] satisfies [string, RequestListener][]) {
  test(`lyft: a Mesos agent that answers ${what} is 503`, async (t) => {
    const agent = await mesosAgent(t, answer);
    const { statusFor } = await host(t, {
      env: { MESOS_STATE_LOOKUP: 'true', MESOS_STATE_URL: agent.url, DEFAULT_ROLE: arnOf('x') },
    });
    assert.equal(await statusFor(A), 503);
  });
}

// MOCK_API

const MACS = 'meta-data/network/interfaces/macs/AE:30:76:CE:38:62';
/** The paths below a version in the mock of lyft's 2.2.0; directories with and without their slash. */
const MOCKED = [
  'meta-data/',
  'meta-data/ami-id',
  'meta-data/ami-launch-index',
  'meta-data/ami-manifest-path',
  'meta-data/block-device-mapping/',
  'meta-data/block-device-mapping/ami',
  'meta-data/block-device-mapping/root',
  'meta-data/hostname',
  'meta-data/instance-action',
  'meta-data/instance-id',
  'meta-data/instance-type',
  'meta-data/mac',
  'meta-data/metrics/',
  'meta-data/metrics/vhostmd',
  'meta-data/placement/',
  'meta-data/placement/availability-zone',
  'meta-data/profile',
  'meta-data/public-hostname',
  'meta-data/public-ipv4',
  'meta-data/public-keys/',
  'meta-data/reservation-id',
  'meta-data/security-groups',
  'meta-data/services/',
  'meta-data/services/domain',
  'meta-data/network/',
  'meta-data/network/interfaces/',
  'meta-data/network/interfaces/macs/',
  ...[
    '/',
    '/device-number',
    '/interface-id',
    '/ipv4-associations/',
    '/local-hostname',
    '/local-ipv4s',
    '/mac',
    '/owner-id',
    '/public-hostname',
    '/public-ipv4s',
    '/security-group-ids',
    '/security-groups',
    '/subnet-id',
    '/subnet-ipv4-cidr-block',
    '/vpc-id',
    '/vpc-ipv4-cidr-block',
  ].map((leaf) => `${MACS}${leaf}`),
  'meta-data/iam/',
  'meta-data/iam/info',
  'meta-data/iam/info/anything',
  'meta-data/iam/security-credentials/',
  'meta-data/iam/security-credentials/app',
  'meta-data/iam/security-credentials/app/anything',
  'dynamic/',
  'dynamic/instance-identity/',
  'dynamic/instance-identity/document',
  'dynamic/instance-identity/pkcs7',
  'dynamic/instance-identity/signature',
  'dynamic/instance-identity/dsa2048',
  'dynamic/fws/',
  'dynamic/fws/instance-monitoring',
];

const mocked = await host({ after }, { env: { MOCK_API: 'true', MOCKED_INSTANCE_ID: 'mockedid' } });
await mocked.docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app') } });

for (const path of MOCKED.flatMap((one) => (one.endsWith('/') ? [one, one.slice(0, -1)] : [one]))) {
  test(`lyft: MOCK_API answers /latest/${path}`, async () => {
    const { status, body } = await mocked.ask(A, `/latest/${path}`);
    assert.equal(status, 200);
    assert.notEqual(body, '');
  });
}

test('lyft: MOCK_API answers alike under every version', async () => {
  for (const version of ['latest', '2012-01-12', '2021-07-15', 'any']) {
    assert.equal(
      (await mocked.ask(A, `/${version}/`)).body.split('\n').includes('meta-data/'),
      true,
      version,
    );
    assert.equal((await mocked.ask(A, `/${version}/meta-data/instance-id`)).body, 'i-mockedid', version);
  }
});

test('lyft: MOCK_API answers the listings of its mock', async () => {
  const lines = async (path: string): Promise<string[]> =>
    (await mocked.ask(A, `/latest/${path}`)).body.split('\n');
  const has = async (path: string, ...names: string[]): Promise<void> => {
    const found = await lines(path);
    assert.deepEqual(
      names.filter((name) => !found.includes(name)),
      [],
      path,
    );
  };
  await has(
    'meta-data/',
    ...[
      'ami-id',
      'ami-launch-index',
      'ami-manifest-path',
      'block-device-mapping/',
      'hostname',
      'instance-action',
      'instance-id',
      'instance-type',
      'local-hostname',
      'local-ipv4',
      'mac',
      'metrics/',
      'network/',
      'placement/',
      'profile',
      'public-hostname',
      'public-ipv4',
      'public-keys/',
      'reservation-id',
      'security-groups',
      'services/',
    ],
  );
  await has('meta-data/iam/', 'info', 'security-credentials/');
  await has('meta-data/block-device-mapping/', 'ami', 'root');
  await has('meta-data/network/', 'interfaces/');
  await has('meta-data/network/interfaces/', 'macs/');
  await has('dynamic/', 'instance-identity/', 'fws/');
  await has('dynamic/instance-identity/', 'document', 'pkcs7', 'signature', 'dsa2048');
});

test('lyft: MOCK_API lists iam/', async () => {
  const { body } = await mocked.ask(A, '/latest/meta-data/');
  assert.ok(body.split('\n').includes('iam/'), body);
});

test('lyft: MOCKED_INSTANCE_ID is the instance ID, also in the instance identity document', async () => {
  const document = jsonOf(await mocked.ask(A, '/latest/dynamic/instance-identity/document'));
  assert.equal(document['instanceId'], 'i-mockedid');
  for (const key of [
    'privateIp',
    'devpayProductCodes',
    'availabilityZone',
    'version',
    'accountId',
    'instanceId',
    'billingProducts',
    'instanceType',
    'pendingTime',
    'imageId',
    'kernelId',
    'ramdiskId',
    'architecture',
    'region',
  ])
    assert.ok(key in document, key);
});

test("lyft: with MOCK_API credentials come from STS, and nothing from the upstream IMDS", async () => {
  assert.equal((await mocked.ask(A, SECURITY_CREDENTIALS)).body, 'app');
  const { AccessKeyId } = jsonOf(await mocked.ask(A, `${SECURITY_CREDENTIALS}app`));
  assert.equal(mocked.sts.issuedAs(AccessKeyId ?? '').call.roleArn, arnOf('app'));
  assert.deepEqual(mocked.imds.requests.all(), []);
});

// Routes

test("lyft: iam/info answers the assumed role's ARN and ID instead of an instance profile", async (t) => {
  const { docker, ask } = await host(t, { env: { ROLE_SESSION_KEY: 'Env:SERVICE' } });
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app'), SERVICE: 'billing' } });
  for (const path of [
    '/latest/meta-data/iam/info',
    '/2012-01-12/meta-data/iam/info/',
    '/latest/meta-data/iam/info/x',
  ]) {
    const info = jsonOf(await ask(A, path));
    assert.equal(info['Code'], 'Success');
    assert.equal(info['InstanceProfileArn'], `arn:aws:sts::${ACCOUNT}:assumed-role/app/billing`);
    assert.match(info['InstanceProfileId'] ?? '', /^AROA\w+:billing$/);
  }
});

test('lyft: a role other than the container\'s is 404', async (t) => {
  const { docker, ask } = await host(t);
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app') } });
  assert.equal((await ask(A, `${SECURITY_CREDENTIALS}other`)).status, 404);
});
