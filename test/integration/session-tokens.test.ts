import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { headerOf } from '../support/http-bytes.ts';
import { INSTANCE_ID, type ImdsRequest } from '../support/imds.ts';
import {
  anotherProxy, host, INSTANCE_ID_PATH, SECURITY_CREDENTIALS, TOKEN, TOKEN_PATH, TTL, until,
} from './host.ts';

const shared = await host({ after });
const { docker, imds, ask, sessionToken } = shared;
const [APP, OTHER, UNKNOWN] = ['127.0.0.11', '127.0.0.12', '127.0.0.99'];
const ROLE = { IAM_ROLE: 'app-role@123456789012' };
await docker.host.run({ name: 'app', address: APP, env: ROLE });
await docker.host.run({ name: 'other', address: OTHER, env: ROLE });

const isTokenPut = ({ method, target }: ImdsRequest): boolean => method === 'PUT' && target === TOKEN_PATH;
const isRead = ({ method }: ImdsRequest): boolean => method === 'GET';

// Ours, for containers

test('a token is issued for any whole number of seconds from 1 to 21600, and the header echoes it', async () => {
  for (const seconds of ['1', '60', '21600']) {
    const answer = await ask(APP, TOKEN_PATH, { [TTL]: seconds }, 'PUT');
    assert.equal(answer.status, 200);
    assert.equal(answer.headers[TTL], seconds);
    assert.equal(answer.headers['content-type'], 'text/plain');
  }
});

test('any other TTL is 400', async () => {
  for (const seconds of ['0', '21601', '-1', '+60', '1.5', '1e3', '0x10', 'abc', '', '60 60', '99999999999999999999']) {
    const answer = await ask(APP, TOKEN_PATH, { [TTL]: seconds }, 'PUT');
    assert.equal(answer.status, 400, seconds);
    assert.equal(answer.headers[TTL], undefined);
  }
});

test('no TTL, and two TTLs, are 400', async () => {
  assert.equal((await ask(APP, TOKEN_PATH, {}, 'PUT')).status, 400);
  assert.equal((await ask(APP, TOKEN_PATH, { [TTL]: ['60', '60'] }, 'PUT')).status, 400);
});

test('a token request through another proxy is refused with 403', async () => {
  for (const value of ['10.0.0.1', '', 'unknown, 10.0.0.1']) {
    const answer = await ask(APP, TOKEN_PATH, { [TTL]: '60', 'X-Forwarded-For': value }, 'PUT');
    assert.equal(answer.status, 403);
  }
});

test('a token is not one of the upstream IMDS', async () => {
  const before = imds.requests.all(isTokenPut).length;
  const token = await sessionToken(APP);
  assert.equal(imds.requests.all(isTokenPut).length, before);
  assert.ok(!imds.requests.all().some(({ rawHeaders }) => rawHeaders.includes(token)));
});

test('answers to a request with a token have its remaining TTL', async () => {
  const token = await sessionToken(APP, 60);
  const paths = [SECURITY_CREDENTIALS, `${SECURITY_CREDENTIALS}app-role`, '/latest/meta-data/iam/', '/creds'];
  for (const path of [...paths, INSTANCE_ID_PATH, '/latest/meta-data/no-such']) {
    const { rawHeaders } = await ask(APP, path, { [TOKEN]: token });
    const given = rawHeaders.filter((_, index) => rawHeaders[index - 1]?.toLowerCase() === TTL);
    assert.equal(given.length, 1, `${path}: ${rawHeaders}`);
    assert.ok(Number(given[0]) >= 1 && Number(given[0]) <= 60, `${path}: ${given[0]}`);
  }
});

test('an error for a request with a token has its remaining TTL, too', async () => {
  const token = await sessionToken(APP, 60);
  const answer = await ask(APP, `${SECURITY_CREDENTIALS}another-role`, { [TOKEN]: token });
  assert.equal(answer.status, 404);
  assert.ok(Number(answer.headers[TTL]) >= 1 && Number(answer.headers[TTL]) <= 60);
});

test('answers to a request without a token have no TTL header', async () => {
  for (const path of [SECURITY_CREDENTIALS, INSTANCE_ID_PATH]) {
    assert.equal((await ask(APP, path)).headers[TTL], undefined, path);
  }
});

test('an invalid token is 401', async () => {
  const good = await sessionToken(APP);
  const tokens = [
    '', 'x', 'AAAA', `${good}A`, good.slice(1), good.slice(0, -1), `${good}=`, `${good}==`, good.toLowerCase(),
    `${good[0] === 'A' ? 'B' : 'A'}${good.slice(1)}`,
    `${good.slice(0, 5)}${good[5] === 'A' ? 'B' : 'A'}${good.slice(6)}`,
    `${good}, ${good}`, Buffer.from(good, 'base64url').toString('base64'),
  ].filter((token) => token !== good);
  for (const token of tokens) {
    for (const path of [SECURITY_CREDENTIALS, INSTANCE_ID_PATH]) {
      const answer = await ask(APP, path, { [TOKEN]: token });
      assert.equal(answer.status, 401, `${path} ${token}`);
      assert.equal(answer.headers[TTL], undefined);
    }
  }
});

test('a token is not accepted twice in one request', async () => {
  const token = await sessionToken(APP);
  assert.equal((await ask(APP, SECURITY_CREDENTIALS, { [TOKEN]: [token, token] })).status, 401);
});

test('a token expires when its TTL is over', async () => {
  const token = await sessionToken(APP, 1);
  const read = () => ask(APP, INSTANCE_ID_PATH, { [TOKEN]: token });
  const { status } = await until(read, (answer) => answer.status !== 200);
  assert.equal(status, 401);
});

test('a token from before a restart is 401, and a new one is valid', async (t) => {
  const token = await sessionToken(APP);
  const restarted = await anotherProxy(t, shared);
  assert.equal((await restarted.ask(APP, SECURITY_CREDENTIALS, { [TOKEN]: token })).status, 401);
  const fresh = await restarted.sessionToken(APP);
  assert.equal((await restarted.ask(APP, SECURITY_CREDENTIALS, { [TOKEN]: fresh })).body, 'app-role');
});

test('a token of another container is 401', async () => {
  const token = await sessionToken(APP);
  for (const from of [OTHER, UNKNOWN]) {
    for (const path of [SECURITY_CREDENTIALS, INSTANCE_ID_PATH]) {
      assert.equal((await ask(from, path, { [TOKEN]: token })).status, 401);
    }
  }
});

test('a token is valid for its container at all its addresses', async () => {
  await docker.host.run({
    name: 'two-homes', networks: { one: { address: '127.0.0.21' }, two: { address: '127.0.0.22' } }, env: ROLE,
  });
  await ask('127.0.0.21', SECURITY_CREDENTIALS);
  const token = await sessionToken('127.0.0.21');
  for (const from of ['127.0.0.21', '127.0.0.22']) {
    assert.equal((await ask(from, SECURITY_CREDENTIALS, { [TOKEN]: token })).body, 'app-role');
  }
});

test('a token of the container that had the address before is 401', async () => {
  const first = await docker.host.run({ name: 'first', address: '127.0.0.31', env: ROLE });
  assert.equal((await ask('127.0.0.31', SECURITY_CREDENTIALS)).status, 200);
  const token = await sessionToken('127.0.0.31');
  docker.host.remove(first);
  await docker.host.run({ name: 'second', address: '127.0.0.31', env: ROLE });
  await until(() => ask('127.0.0.31', SECURITY_CREDENTIALS), ({ status }) => status === 200);
  assert.equal((await ask('127.0.0.31', SECURITY_CREDENTIALS, { [TOKEN]: token })).status, 401);
});

test('a token that was issued before the container was known stays valid', async () => {
  const token = await sessionToken('127.0.0.41');
  await docker.host.run({ name: 'late', address: '127.0.0.41', env: ROLE });
  const answer = await ask('127.0.0.41', SECURITY_CREDENTIALS, { [TOKEN]: token });
  assert.equal(answer.body, 'app-role');
  assert.equal((await ask('127.0.0.41', SECURITY_CREDENTIALS, { [TOKEN]: token })).body, 'app-role');
});

test('an unknown address gets a token, and may read with it what names no credential', async () => {
  const token = await sessionToken(UNKNOWN);
  assert.equal((await ask(UNKNOWN, INSTANCE_ID_PATH, { [TOKEN]: token })).body, INSTANCE_ID);
  assert.equal((await ask(UNKNOWN, SECURITY_CREDENTIALS, { [TOKEN]: token })).status, 404);
});

test('IMDSV2_REQUIRED refuses reads without a token with 401, whatever they read', async (t) => {
  const strict = await anotherProxy(t, shared, { env: { IMDSV2_REQUIRED: 'true' } });
  const paths = [
    SECURITY_CREDENTIALS, `${SECURITY_CREDENTIALS}app-role`, '/creds', '/v2/credentials/x', INSTANCE_ID_PATH, '/',
  ];
  const token = await strict.sessionToken(APP);
  for (const path of paths) {
    assert.equal((await strict.ask(APP, path)).status, 401, path);
    assert.equal((await strict.ask(APP, path, {}, 'HEAD')).status, 401, path);
    assert.equal((await strict.ask(APP, path, { [TOKEN]: token })).status, 200, path);
  }
});

// That of the metadata service

test('an upstream request has the proxy\'s own token, never the container\'s', async (t) => {
  const own = await host(t);
  const token = await own.sessionToken(APP);
  await own.ask(APP, INSTANCE_ID_PATH, { [TOKEN]: token });
  const [put, read] = own.imds.requests.entries;
  assert.ok(put && isTokenPut(put));
  assert.match(headerOf(put.rawHeaders, TTL) ?? '', /^\d+$/);
  assert.equal(headerOf(put.rawHeaders, 'x-forwarded-for'), undefined);
  const sent = read?.rawHeaders.filter((_, index, all) => all[index - 1]?.toLowerCase() === TOKEN) ?? [];
  assert.equal(sent.length, 1);
  assert.notEqual(sent[0], token);
  assert.ok(!JSON.stringify(own.imds.requests.entries).includes(token));
});

test('the upstream token is never returned to a container', async (t) => {
  const own = await host(t);
  await own.ask(APP, INSTANCE_ID_PATH);
  const read = await own.imds.requests.first(isRead);
  const theirs = headerOf(read.rawHeaders, TOKEN) ?? '';
  assert.notEqual(theirs, '');
  own.imds.fault(INSTANCE_ID_PATH, { kind: 'headers', headers: [['X-aws-ec2-metadata-token', theirs]] });
  for (const headers of [{}, { [TOKEN]: await own.sessionToken(APP) }]) {
    const answer = await own.ask(APP, INSTANCE_ID_PATH, headers);
    assert.equal(answer.body, INSTANCE_ID);
    assert.ok(!JSON.stringify(answer.rawHeaders).includes(theirs));
    assert.equal(answer.headers[TOKEN], undefined);
  }
});

test('the upstream token is fetched once for many requests', async (t) => {
  const own = await host(t);
  const hold = own.imds.fault(TOKEN_PATH, { kind: 'hold' });
  const asked = Array.from({ length: 50 }, () => own.ask(APP, INSTANCE_ID_PATH));
  await own.imds.requests.first(isTokenPut);
  hold.lift();
  for (const answer of await Promise.all(asked)) assert.equal(answer.body, INSTANCE_ID);
  await own.ask(APP, '/latest/meta-data/hostname');
  assert.equal(own.imds.requests.all(isTokenPut).length, 1);
});

test('an upstream IMDS that requires IMDSv2 serves containers that know only IMDSv1', async (t) => {
  const own = await host(t, { metadata: { v2Only: true } });
  assert.equal((await own.ask(APP, INSTANCE_ID_PATH)).body, INSTANCE_ID);
});

test('a 401 from upstream refreshes the token and repeats the request once', async (t) => {
  const own = await host(t, { metadata: { v2Only: true } });
  await own.ask(APP, INSTANCE_ID_PATH);
  own.imds.revokeTokens();
  own.imds.requests.clear();
  assert.equal((await own.ask(APP, INSTANCE_ID_PATH)).body, INSTANCE_ID);
  assert.deepEqual(own.imds.requests.all().map(({ method }) => method), ['GET', 'PUT', 'GET']);
  const [refused, accepted] = own.imds.requests.all(isRead).map(({ rawHeaders }) => headerOf(rawHeaders, TOKEN));
  assert.notEqual(refused, accepted);
});

test('concurrent 401s from upstream refresh the token once', async (t) => {
  const own = await host(t, { metadata: { v2Only: true } });
  await own.ask(APP, INSTANCE_ID_PATH);
  own.imds.revokeTokens();
  own.imds.requests.clear();
  const hold = own.imds.fault(INSTANCE_ID_PATH, { kind: 'hold' });
  const asked = Array.from({ length: 20 }, (_, n) => own.ask(n % 2 === 0 ? APP : '127.0.0.99', INSTANCE_ID_PATH));
  await own.imds.requests.several(20, isRead);
  hold.lift();
  for (const answer of await Promise.all(asked)) assert.equal(answer.body, INSTANCE_ID);
  assert.equal(own.imds.requests.all(isTokenPut).length, 1);
});

test('an upstream IMDS that refuses its newest token is 502, not a 401 that blames the container', async (t) => {
  const own = await host(t);
  own.imds.fault(INSTANCE_ID_PATH, { kind: 'status', status: 401 });
  assert.equal((await own.ask(APP, INSTANCE_ID_PATH)).status, 502);
  assert.equal(own.imds.requests.all(isRead).length, 2);
});

test('an upstream IMDS without IMDSv2 gets requests without a token, and one token request', async (t) => {
  const own = await host(t);
  own.imds.fault(TOKEN_PATH, { kind: 'status', status: 404 });
  for (let times = 0; times < 3; times += 1) {
    assert.equal((await own.ask(APP, INSTANCE_ID_PATH)).body, INSTANCE_ID);
  }
  assert.equal(own.imds.requests.all(isTokenPut).length, 1);
  assert.ok(own.imds.requests.all(isRead).every(({ rawHeaders }) => headerOf(rawHeaders, TOKEN) === undefined));
});
