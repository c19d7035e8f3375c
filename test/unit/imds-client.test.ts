import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { PassThrough, type Writable } from 'node:stream';
import { test, type TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ClientDisconnected, Imds, UpstreamTimeout, UpstreamUnreachable } from '../../lib/imds/client.ts';
import { headerOf } from '../support/http-bytes.ts';
import { Imds as StandIn, INSTANCE_ID, REGION, type ImdsOptions } from '../support/imds.ts';
import { ManualClock, settled } from './helpers/manual-clock.ts';
import { watch } from './helpers/promises.ts';

const TOKEN_PATH = '/latest/api/token';
const ID_PATH = '/latest/meta-data/instance-id';
const HOUR = 3_600_000;

async function setUp(t: TestContext, options: ImdsOptions = {}) {
  const clock = new ManualClock();
  const service = await StandIn.start({ now: clock.now, ...options });
  const tokenless: string[] = [];
  const imds = new Imds({
    url: new URL(service.url),
    clock,
    events: { upstreamTokenFailed: (reason) => tokenless.push(reason) },
  });
  t.after(async () => {
    // First the service: Node 20 may hang at exit after the reset of a connection that its peer just closed.
    await service.close();
    imds.close();
  });
  const ask = (path = ID_PATH, client?: Writable): Promise<IncomingMessage> =>
    imds.request({ method: 'GET', path, headers: {}, ...(client ? { client } : {}) });
  const read = async (path = ID_PATH): Promise<[status: number | undefined, body: string]> => {
    const response = await ask(path);
    let body = '';
    for await (const chunk of response) body += String(chunk);
    return [response.statusCode, body];
  };
  const count = (target: string): number =>
    service.requests.all((request) => request.target === target).length;
  return { clock, service, imds, ask, read, count, tokenless };
}

test('requests carry the proxy\'s token, which is fetched once for six hours', async (t) => {
  const { clock, service, read, count } = await setUp(t, { v2Only: true });
  assert.deepEqual(await read(), [200, INSTANCE_ID]);
  const [first] = service.requests.all();
  assert.deepEqual([first?.method, first?.target], ['PUT', TOKEN_PATH]);
  assert.equal(headerOf(first?.rawHeaders ?? [], 'x-aws-ec2-metadata-token-ttl-seconds'), '21600');
  await clock.advance(6 * HOUR - 5 * 60_000 - 1);
  assert.deepEqual(await read(), [200, INSTANCE_ID]);
  assert.equal(count(TOKEN_PATH), 1);
  await clock.advance(1);
  assert.deepEqual(await read(), [200, INSTANCE_ID]);
  assert.equal(count(TOKEN_PATH), 2, 'and is replaced before it expires');
});

test('a thousand concurrent requests share one token request', async (t) => {
  const { service, ask, count } = await setUp(t, { v2Only: true });
  const hold = service.fault(TOKEN_PATH, { kind: 'hold' });
  const answers = Array.from({ length: 1000 }, () => ask());
  await service.requests.first(({ target }) => target === TOKEN_PATH);
  hold.lift();
  for (const answer of await Promise.all(answers)) {
    assert.equal(answer.statusCode, 200);
    answer.resume();
  }
  assert.equal(count(TOKEN_PATH), 1);
});

test('a 401 from IMDS refreshes the token and repeats the request once', async (t) => {
  const { service, read, count } = await setUp(t, { v2Only: true });
  await read();
  service.revokeTokens();
  assert.deepEqual(await read(), [200, INSTANCE_ID]);
  assert.deepEqual([count(TOKEN_PATH), count(ID_PATH)], [2, 3]);
});

test('concurrent requests with a 401 share the new token', async (t) => {
  const { service, read, count } = await setUp(t, { v2Only: true });
  await read();
  service.revokeTokens();
  const answers = await Promise.all(Array.from({ length: 50 }, () => read()));
  assert.ok(answers.every(([status]) => status === 200));
  assert.equal(count(TOKEN_PATH), 2);
});

test('a late 401 for the old token keeps the new one', async (t) => {
  const { service, read, count } = await setUp(t, { v2Only: true });
  await read();
  const hold = service.fault(ID_PATH, { kind: 'hold' }, 1);
  const late = read();
  await service.requests.several(2, ({ target }) => target === ID_PATH);
  service.revokeTokens();
  assert.equal((await read('/latest/meta-data/mac'))[0], 200);
  hold.lift();
  assert.deepEqual(await late, [200, INSTANCE_ID]);
  assert.equal(count(TOKEN_PATH), 2);
});

test('a second 401 is not retried', async (t) => {
  const { service, ask, count } = await setUp(t);
  service.fault(ID_PATH, { kind: 'status', status: 401 });
  const answer = await ask();
  answer.resume();
  assert.equal(answer.statusCode, 401);
  assert.deepEqual([count(TOKEN_PATH), count(ID_PATH)], [2, 2]);
});

for (const status of [403, 404, 405, 500]) {
  test(`an IMDS without tokens (${status}) gets requests without one, and a new token request after five minutes`, async (t) => {
    const { clock, service, read, count, tokenless } = await setUp(t);
    const fault = service.fault(TOKEN_PATH, { kind: 'status', status });
    for (let request = 0; request < 3; request += 1) assert.deepEqual(await read(), [200, INSTANCE_ID]);
    assert.equal(count(TOKEN_PATH), 1);
    assert.equal(
      headerOf(service.requests.entries.at(-1)?.rawHeaders ?? [], 'x-aws-ec2-metadata-token'),
      undefined,
    );
    assert.match(tokenless.join(), new RegExp(`answered .* with ${status}`));
    fault.lift();
    await clock.advance(5 * 60_000);
    await read();
    assert.equal(count(TOKEN_PATH), 2);
    assert.ok(headerOf(service.requests.entries.at(-1)?.rawHeaders ?? [], 'x-aws-ec2-metadata-token'));
  });
}

test('an invalid token is not used', async (t) => {
  const { service, read } = await setUp(t);
  service.fault(
    TOKEN_PATH,
    { kind: 'raw', bytes: 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<a token>' },
    1,
  );
  service.fault(TOKEN_PATH, { kind: 'raw', bytes: 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na\nb' });
  assert.deepEqual(await read(), [200, INSTANCE_ID]);
  assert.equal(
    headerOf(service.requests.entries.at(-1)?.rawHeaders ?? [], 'x-aws-ec2-metadata-token'),
    undefined,
  );
});

test('a token request times out after a second', async (t) => {
  const { clock, service, ask, tokenless } = await setUp(t);
  service.fault(TOKEN_PATH, { kind: 'hold' });
  const answer = watch(ask());
  await service.requests.first(({ target }) => target === TOKEN_PATH);
  await clock.advance(999);
  assert.deepEqual(tokenless, []);
  await clock.advance(1);
  await service.requests.first(({ target }) => target === ID_PATH);
  assert.match(tokenless.join(), /did not answer in time/);
  assert.notEqual(answer.state, 'rejected');
});

test('a token whose body does not arrive within a second closes the connection', async (t) => {
  const { clock, service, read, tokenless } = await setUp(t);
  service.fault(TOKEN_PATH, { kind: 'pause-in-body' });
  const timers = t.mock.method(clock, 'after');
  const answer = read();
  const { closed } = await service.requests.first(({ target }) => target === TOKEN_PATH);
  // The first timer is for the head, the second for the body.
  while (timers.mock.callCount() < 2) await nextTurn();
  await clock.advance(1_000);
  assert.deepEqual(await answer, [200, INSTANCE_ID]);
  assert.match(tokenless.join(), /did not send a session token in time/);
  await closed;
});

test('an answer without a head after five seconds is an UpstreamTimeout', async (t) => {
  const { clock, service, read, ask } = await setUp(t);
  await read();
  service.fault(ID_PATH, { kind: 'hold' });
  const answer = watch(ask());
  const held = await service.requests.next(({ target }) => target === ID_PATH);
  await clock.advance(4_999);
  assert.equal(answer.state, 'pending');
  await clock.advance(1);
  assert.ok(answer.error instanceof UpstreamTimeout, String(answer.error));
  await held.closed;
  assert.deepEqual(clock.pending, []);
});

test('an answer in time leaves no timer', async (t) => {
  const { clock, read } = await setUp(t);
  await read();
  assert.deepEqual(clock.pending, []);
});

test('a refused connection is an UpstreamUnreachable', async (t) => {
  const { service, clock, ask, tokenless } = await setUp(t);
  await service.stop();
  await assert.rejects(ask(), UpstreamUnreachable);
  assert.equal(tokenless.length, 1);
  assert.deepEqual(clock.pending, []);
});

test('after a failed token request the next one is five seconds later', async (t) => {
  const { service, clock, ask, read, count } = await setUp(t, { v2Only: false });
  await service.stop();
  await assert.rejects(ask(), UpstreamUnreachable);
  await service.listen();
  await read();
  assert.equal(count(TOKEN_PATH), 0);
  await clock.advance(5_000);
  await read();
  assert.equal(count(TOKEN_PATH), 1);
});

test('an IMDS that recovers and requires a token gets one at once', async (t) => {
  const { service, ask, read } = await setUp(t, { v2Only: true });
  await service.stop();
  await assert.rejects(ask(), UpstreamUnreachable);
  await service.listen();
  assert.deepEqual(await read(), [200, INSTANCE_ID]);
});

test('a connection that closes before its answer is an UpstreamUnreachable', async (t) => {
  const { service, ask } = await setUp(t);
  service.fault(ID_PATH, { kind: 'reset' });
  await assert.rejects(ask(), UpstreamUnreachable);
});

test('a request on a connection that IMDS closed while idle is sent again', async (t) => {
  const { service, read } = await setUp(t);
  await read();
  service.fault(ID_PATH, { kind: 'reset' }, 1);
  assert.deepEqual(await read(), [200, INSTANCE_ID]);
});

test('a truncated body is not requested again', async (t) => {
  const asked: string[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      const [line = ''] = bytes.toString().split(' HTTP');
      asked.push(line);
      if (line === 'GET /half') socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf');
      else socket.write(`HTTP/1.1 ${line.startsWith('PUT') ? 404 : 200} OK\r\nContent-Length: 0\r\n\r\n`);
      if (line === 'GET /half') reset = () => socket.resetAndDestroy();
    });
  });
  let reset = (): void => {};
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.after(() => server.close());
  const imds = new Imds({
    url: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`),
    clock: new ManualClock(),
  });
  t.after(() => imds.close());
  const ask = (path: string): Promise<IncomingMessage> => imds.request({ method: 'GET', path, headers: {} });
  await once((await ask('/first')).resume(), 'end');
  const half = await ask('/half');
  await once(half, 'data');
  reset();
  await once(half, 'error');
  await once((await ask('/last')).resume(), 'end');
  assert.deepEqual(asked, ['PUT /latest/api/token', 'GET /first', 'GET /half', 'GET /last']);
});

test('a client that disconnects ends the upstream request', async (t) => {
  const { service, read, ask } = await setUp(t);
  await read();
  service.fault(ID_PATH, { kind: 'hold' });
  const client = new PassThrough();
  const answer = watch(ask(ID_PATH, client));
  const held = await service.requests.next(({ target }) => target === ID_PATH);
  client.destroy();
  await held.closed;
  await settled();
  assert.equal(answer.state, 'rejected');
  assert.equal(service.requests.all(({ target }) => target === ID_PATH).length, 2, 'and no request is repeated');
  await assert.rejects(ask(ID_PATH, client), ClientDisconnected);
});

test('a client that disconnects after half a second without an answer is an UpstreamTimeout', async (t) => {
  const { service, clock, read, ask } = await setUp(t);
  await read();
  service.fault(ID_PATH, { kind: 'hold' });
  for (const [milliseconds, Kind] of [[499, ClientDisconnected], [500, UpstreamTimeout]] as const) {
    const client = new PassThrough();
    const answer = ask(ID_PATH, client);
    const rejected = assert.rejects(answer, Kind);
    await service.requests.next(({ target }) => target === ID_PATH);
    await clock.advance(milliseconds);
    client.destroy();
    await rejected;
  }
});

test('the region is read from IMDS without surrounding white space', async (t) => {
  const { service, imds } = await setUp(t);
  service.tree.set('meta-data/placement/region', ` ${REGION}\n`);
  assert.equal(await imds.region(), REGION);
});

test('an IMDS without a region gives none', async (t) => {
  const { service, imds } = await setUp(t);
  const fault = service.fault('/latest/meta-data/placement/region', { kind: 'status', status: 404 });
  assert.equal(await imds.region(), undefined);
  fault.lift();
  const endless = service.fault('/latest/meta-data/placement/region', {
    kind: 'endless',
    framing: 'chunked',
  });
  assert.equal(await imds.region(), undefined);
  endless.lift();
  await service.stop();
  assert.equal(await imds.region(), undefined);
});

test('an IMDS on IPv6 is reached, and errors name it with its port', async () => {
  const imds = new Imds({ url: new URL('http://[::1]:1'), clock: new ManualClock() });
  const failure = await imds
    .request({ method: 'GET', path: '/', headers: {} })
    .catch((error: Error) => error);
  assert.ok(failure instanceof UpstreamUnreachable);
  assert.match(failure.message, /^\[::1\]:1: /);
  imds.close();
});
