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
    onTokenless: (reason) => tokenless.push(reason),
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

test('the real service is asked with a token of our own, which is fetched once for six hours', async (t) => {
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
  assert.equal(count(TOKEN_PATH), 2, 'and is renewed while it is good still');
});

test('a thousand requests at once share one request for a token', async (t) => {
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

test('when the service wants a new token the request is repeated once with a new one', async (t) => {
  const { service, read, count } = await setUp(t, { v2Only: true });
  await read();
  service.revokeTokens();
  assert.deepEqual(await read(), [200, INSTANCE_ID]);
  assert.deepEqual([count(TOKEN_PATH), count(ID_PATH)], [2, 3]);
});

test('many requests that are told so at once share the new token', async (t) => {
  const { service, read, count } = await setUp(t, { v2Only: true });
  await read();
  service.revokeTokens();
  const answers = await Promise.all(Array.from({ length: 50 }, () => read()));
  assert.ok(answers.every(([status]) => status === 200));
  assert.equal(count(TOKEN_PATH), 2);
});

test('a request that is refused late does not throw the new token away', async (t) => {
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

test('a service that refuses the new token as well is asked no third time', async (t) => {
  const { service, ask, count } = await setUp(t);
  service.fault(ID_PATH, { kind: 'status', status: 401 });
  const answer = await ask();
  answer.resume();
  assert.equal(answer.statusCode, 401);
  assert.deepEqual([count(TOKEN_PATH), count(ID_PATH)], [2, 2]);
});

for (const status of [403, 404, 405, 500]) {
  test(`a service that has no tokens (${status}) is asked without one, and asked for one again after five minutes`, async (t) => {
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

test('what is no token is not sent as one', async (t) => {
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

test('a request for a token that is not answered in a second is given up', async (t) => {
  const { clock, service, ask, tokenless } = await setUp(t);
  service.fault(TOKEN_PATH, { kind: 'hold' });
  const answer = watch(ask());
  await service.requests.first(({ target }) => target === TOKEN_PATH);
  await clock.advance(999);
  assert.deepEqual(tokenless, []);
  await clock.advance(1);
  await service.requests.first(({ target }) => target === ID_PATH);
  assert.match(tokenless.join(), /takes too long/);
  assert.notEqual(answer.state, 'rejected');
});

test('a token whose body does not come in a second is given up, with its connection', async (t) => {
  const { clock, service, read, tokenless } = await setUp(t);
  service.fault(TOKEN_PATH, { kind: 'pause-in-body' });
  const timers = t.mock.method(clock, 'after');
  const answer = read();
  const { closed } = await service.requests.first(({ target }) => target === TOKEN_PATH);
  // The first is the patience with its head, the second the one with its body.
  while (timers.mock.callCount() < 2) await nextTurn();
  await clock.advance(1_000);
  assert.deepEqual(await answer, [200, INSTANCE_ID]);
  assert.match(tokenless.join(), /takes too long to give a token/);
  await closed;
});

test('an answer whose head does not come in five seconds is slow', async (t) => {
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

test('a service where nobody listens cannot be reached', async (t) => {
  const { service, clock, ask, tokenless } = await setUp(t);
  await service.stop();
  await assert.rejects(ask(), UpstreamUnreachable);
  assert.equal(tokenless.length, 1);
  assert.deepEqual(clock.pending, []);
});

test('a service that was away is asked for a token again five seconds later', async (t) => {
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

test('a service that was away and wants a token is sent one at once', async (t) => {
  const { service, ask, read } = await setUp(t, { v2Only: true });
  await service.stop();
  await assert.rejects(ask(), UpstreamUnreachable);
  await service.listen();
  assert.deepEqual(await read(), [200, INSTANCE_ID]);
});

test('a service that breaks off before its answer cannot be reached', async (t) => {
  const { service, ask } = await setUp(t);
  service.fault(ID_PATH, { kind: 'reset' });
  await assert.rejects(ask(), UpstreamUnreachable);
});

test('a connection that the service closed while it was idle is no trouble', async (t) => {
  const { service, read } = await setUp(t);
  await read();
  service.fault(ID_PATH, { kind: 'reset' }, 1);
  assert.deepEqual(await read(), [200, INSTANCE_ID]);
});

test('an answer that breaks off in its body is not asked for again', async (t) => {
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

test('whoever has gone ends the request', async (t) => {
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
  assert.equal(service.requests.all(({ target }) => target === ID_PATH).length, 2, 'and nobody asks again');
  await assert.rejects(ask(ID_PATH, client), ClientDisconnected);
});

test('whoever has gone after half a second without an answer was kept waiting too long', async (t) => {
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

test('the region is what the service tells, without the space around it', async (t) => {
  const { service, imds } = await setUp(t);
  service.tree.set('meta-data/placement/region', ` ${REGION}\n`);
  assert.equal(await imds.region(), REGION);
});

test('a service that does not tell the region tells none', async (t) => {
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

test('a service on IPv6 is reached, and named with its port', async () => {
  const imds = new Imds({ url: new URL('http://[::1]:1'), clock: new ManualClock() });
  const failure = await imds
    .request({ method: 'GET', path: '/', headers: {} })
    .catch((error: Error) => error);
  assert.ok(failure instanceof UpstreamUnreachable);
  assert.match(failure.message, /^\[::1\]:1: /);
  imds.close();
});
