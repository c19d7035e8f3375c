import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import { test, type TestContext } from 'node:test';
import { passThrough } from '../../lib/http/handlers/pass-through.ts';
import { Imds } from '../../lib/imds/client.ts';
import { request, type RequestOptions, type Response } from '../support/client.ts';
import { headerOf } from '../support/http-bytes.ts';
import {
  Imds as StandIn,
  INSTANCE_ID,
  userDataOf,
  type ImdsOptions,
  type ImdsRequest,
} from '../support/imds.ts';
import { ManualClock } from './helpers/manual-clock.ts';
import type { Journal } from '../support/journal.ts';
import { startServer, type LogLine } from './helpers/metadata-server.ts';

const ID_PATH = '/latest/meta-data/instance-id';
const TOKEN = 'x-aws-ec2-metadata-token';
const TTL = 'x-aws-ec2-metadata-token-ttl-seconds';

async function setUp(t: TestContext, options: ImdsOptions = {}) {
  const clock = new ManualClock();
  const service = await StandIn.start(options);
  const imds = new Imds({ url: new URL(service.url), clock });
  const admission = { charge: async () => {}, upstreamPermit: () => () => {} };
  const parts = await startServer(t, { passThrough: passThrough(imds, { disabled: false, allow: undefined, deny: undefined }, admission) });
  t.after(async () => {
    // First the upstream IMDS: Node 20 may hang at exit after the reset of a connection that its peer just closed.
    await service.close();
    imds.close();
  });
  const get = (path = ID_PATH, more: Partial<RequestOptions> = {}): Promise<Response> =>
    request({ port: parts.port, path, ...more });
  /** The last request that the upstream IMDS received. */
  const seen = (): ImdsRequest => {
    const last = service.requests.entries.at(-1);
    assert.ok(last);
    return last;
  };
  return { ...parts, clock, service, get, seen };
}

function namesOf(rawHeaders: readonly string[]): string[] {
  return rawHeaders
    .filter((_, index) => index % 2 === 0)
    .map((name) => name.toLowerCase())
    .toSorted();
}

test('the upstream answer comes back: status, headers and body', async (t) => {
  const { get, service } = await setUp(t);
  const { status, body, headers } = await get();
  assert.deepEqual([status, body], [200, INSTANCE_ID]);
  assert.deepEqual(
    [headers['server'], headers['content-type'], headers['last-modified']],
    ['EC2ws', 'text/plain', 'Thu, 01 Jan 2026 00:00:00 GMT'],
  );
  const missing = await get('/latest/meta-data/nothing');
  assert.deepEqual([missing.status, missing.headers['content-type']], [404, 'text/html']);
  service.fault(ID_PATH, {
    kind: 'headers',
    headers: [
      ['X-One', 'a'],
      ['x-one', 'b'],
      ['ETag', '"e"'],
    ],
  });
  const repeated = await get();
  assert.deepEqual(
    repeated.rawHeaders.filter((text) => /^x-one$/i.test(text)),
    ['X-One', 'x-one'],
    'as they were written',
  );
});

test('only request headers that can change the answer are forwarded, not those that proxies add', async (t) => {
  const { get, seen } = await setUp(t);
  const passed = {
    accept: 'text/plain',
    'accept-encoding': 'gzip',
    'if-match': '"a"',
    'if-none-match': '"b"',
    range: 'bytes=0-3',
    'user-agent': 'sdk',
    'if-modified-since': 'Thu, 01 Jan 2025 00:00:00 GMT',
    'if-unmodified-since': 'Thu, 01 Jan 2027 00:00:00 GMT',
    'if-range': '"c"',
  };
  await get(ID_PATH, {
    headers: {
      ...passed,
      'X-Forwarded-For': '1.2.3.4',
      Forwarded: 'for=1.2.3.4',
      Via: '1.1 x',
      Cookie: 'c',
      Authorization: 'Basic x',
      TE: 'trailers',
      'X-Custom': 'x',
      'Proxy-Authorization': 'x',
      Host: 'evil.example',
      [TTL]: '60',
      Connection: 'close, X-Other',
      'X-Other': 'y',
      Upgrade: 'h2c',
      'Keep-Alive': 'timeout=1',
      Pragma: 'no-cache',
      'Metadata-Flavor': 'x',
    },
  });
  const names = namesOf(seen().rawHeaders);
  assert.deepEqual(names, [...Object.keys(passed), 'connection', 'host', TOKEN].toSorted());
  for (const [name, value] of Object.entries(passed)) assert.equal(headerOf(seen().rawHeaders, name), value);
  assert.notEqual(headerOf(seen().rawHeaders, 'host'), 'evil.example');
});

test("a container's session token is not forwarded, and the upstream token does not come back", async (t) => {
  const { get, port, seen } = await setUp(t, { v2Only: true });
  const { body: token } = await request({
    port,
    method: 'PUT',
    path: '/latest/api/token',
    headers: { [TTL]: '60' },
  });
  const answer = await get(ID_PATH, { headers: { [TOKEN]: token } });
  assert.equal(answer.status, 200);
  assert.notEqual(headerOf(seen().rawHeaders, TOKEN), token);
  assert.deepEqual(answer.rawHeaders.filter((text) => text.toLowerCase() === TTL).length, 1);
  assert.ok(Number(answer.headers[TTL]) <= 60, answer.headers[TTL]);
  const without = await get();
  assert.deepEqual([without.status, without.headers[TTL]], [200, undefined]);
});

test('hop-by-hop headers of an answer do not come back', async (t) => {
  const { get, service } = await setUp(t);
  service.fault(ID_PATH, {
    kind: 'headers',
    headers: [
      ['Connection', 'X-Hop, x-other-hop'],
      ['X-Hop', '1'],
      ['X-Other-Hop', '2'],
      ['Keep-Alive', 'timeout=7'],
      ['Proxy-Authenticate', 'x'],
      ['Proxy-Connection', 'x'],
      ['TE', 'x'],
      ['Trailer', 'x'],
      ['Upgrade', 'x'],
      ['X-Kept', '3'],
      [TOKEN, 'ours'],
    ],
  });
  const { status, headers, body } = await get();
  assert.deepEqual([status, body, headers['x-kept']], [200, INSTANCE_ID, '3']);
  for (const name of [
    'x-hop',
    'x-other-hop',
    'proxy-authenticate',
    'proxy-connection',
    'te',
    'trailer',
    'upgrade',
    TOKEN,
  ]) {
    assert.equal(headers[name], undefined, name);
  }
  assert.notEqual(headers['keep-alive'], 'timeout=7');
});

test('HEAD is forwarded as HEAD', async (t) => {
  const { get, seen } = await setUp(t);
  const { status, body, headers } = await get(ID_PATH, { method: 'HEAD' });
  assert.deepEqual([status, body, headers['content-length']], [200, '', `${INSTANCE_ID.length}`]);
  assert.equal(seen().method, 'HEAD');
});

test('the canonical path is forwarded, not the request target', async (t) => {
  const { get, seen } = await setUp(t);
  const { status } = await get('//latest/./%6deta-data/x/..//instance-id?query=1');
  assert.equal(status, 200);
  assert.equal(seen().target, ID_PATH);
});

test('redirects go back to the client', async (t) => {
  const { get, service } = await setUp(t);
  service.fault(ID_PATH, { kind: 'redirect', location: '/latest/meta-data/iam/security-credentials/' });
  const { status, headers } = await get();
  assert.deepEqual([status, headers['location']], [302, '/latest/meta-data/iam/security-credentials/']);
  assert.equal(service.requests.all(({ target }) => target.includes('iam')).length, 0);
});

test('a large body is complete, with and without chunked encoding', async (t) => {
  const userData = userDataOf(2_000_000);
  const { get, service } = await setUp(t, { userData });
  assert.ok((await get('/latest/user-data')).bytes.equals(userData));
  service.fault('/latest/user-data', { kind: 'chunked' });
  assert.ok((await get('/latest/user-data')).bytes.equals(userData));
});

for (const kind of ['reset-in-body', 'close-in-body'] as const) {
  test(`a truncated body (${kind}) does not look complete`, async (t) => {
    const { get, service } = await setUp(t, { userData: userDataOf(100_000) });
    service.fault('/latest/user-data', { kind });
    await assert.rejects(get('/latest/user-data'));
  });
}

test('an upstream IMDS that is unreachable or refuses its own token is 502', async (t) => {
  const { get, service } = await setUp(t);
  service.fault(ID_PATH, { kind: 'status', status: 401, body: 'secret' });
  const refused = await get();
  assert.equal(refused.status, 502);
  assert.doesNotMatch(refused.body, /secret/);
  await service.stop();
  assert.equal((await get()).status, 502);
});

test('an upstream IMDS that is too slow is 504', async (t) => {
  const { get, service, clock } = await setUp(t);
  await get();
  service.fault(ID_PATH, { kind: 'hold' });
  const answer = get();
  await service.requests.next(({ target }) => target === ID_PATH);
  await clock.advance(5_000);
  assert.equal((await answer).status, 504);
});

/**
 * Sends a request and disconnects when the upstream IMDS has had it for so many milliseconds.
 *
 * @returns the log line that is written then
 */
async function hangUp(
  t: TestContext,
  waits = 0,
): Promise<{ line: Promise<LogLine>; ended: Promise<void>; lines: Journal<LogLine> }> {
  const { get, service, clock, port, lines } = await setUp(t);
  await get();
  service.fault(ID_PATH, { kind: 'hold' });
  const line = lines.next(({ msg }) => msg === 'answered');
  const outgoing = httpRequest({ host: '127.0.0.1', port, path: ID_PATH, agent: false });
  outgoing.on('error', () => {});
  outgoing.end();
  const held = await service.requests.next(({ target }) => target === ID_PATH);
  await clock.advance(waits);
  outgoing.destroy();
  return { line, ended: held.closed, lines };
}

test('a client that disconnects ends the upstream request', async (t) => {
  const { line, ended } = await hangUp(t);
  await ended;
  await line;
});

test('a client that disconnects is not logged as an error', async (t) => {
  const { line, lines } = await hangUp(t);
  await line;
  assert.deepEqual(
    lines.all(({ level }) => level === 'error'),
    [],
  );
});

test('a client that disconnects after an SDK\'s timeout is logged as an upstream timeout', async (t) => {
  const { line } = await hangUp(t, 990);
  const { status, error } = await line;
  assert.deepEqual([status, /did not answer before the client disconnected/.test(String(error))], [504, true]);
});
