import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { describe, test } from 'node:test';
import { parseResponses } from '../support/http-bytes.ts';
import { INSTANCE_ID, userDataOf } from '../support/imds.ts';
import { host, INSTANCE_ID_PATH, until } from './host.ts';

const READ = `GET ${INSTANCE_ID_PATH} HTTP/1.1\r\nHost: x\r\n`;

/** A connection, and all that comes on it until it is closed. */
function open(port: number, from: string, bytes = ''): { socket: Socket; over: Promise<string> } {
  const socket = connect({ port, host: '127.0.0.1', localAddress: from });
  let text = '';
  socket.setEncoding('latin1').on('data', (chunk: string) => (text += chunk)).on('error', () => {});
  if (bytes !== '') socket.write(bytes);
  // Not events.once(), which takes a reset for a failure.
  return { socket, over: new Promise((resolve) => socket.once('close', () => resolve(text))) };
}

/** Connections that have been answered once, and so are counted. */
async function keepOpen(port: number, from: string, count: number): Promise<Socket[]> {
  return await Promise.all(Array.from({ length: count }, async () => {
    const { socket } = open(port, from, `${READ}\r\n`);
    await once(socket, 'data');
    return socket;
  }));
}

test('one address has MAX_CONNECTIONS_PER_ADDRESS connections; more are answered 503 with Retry-After', async (t) => {
  const { proxy, ask } = await host(t, { env: { MAX_CONNECTIONS_PER_ADDRESS: '3' } });
  const held = await keepOpen(proxy.port, '127.0.0.11', 3);
  t.after(() => held.forEach((socket) => socket.destroy()));
  for (const bytes of ['', `${READ}\r\n`]) {
    const [response] = parseResponses(await open(proxy.port, '127.0.0.11', bytes).over);
    assert.equal(response?.status, 503);
    assert.match(response?.rawHeaders.join() ?? '', /Retry-After,1/);
    assert.match(response?.rawHeaders.join() ?? '', /Server,EC2ws/);
  }
  // Others are unaffected.
  assert.equal((await ask('127.0.0.12', INSTANCE_ID_PATH)).body, INSTANCE_ID);
});

test('a connection that is closed makes room for another one of the same address', async (t) => {
  const { proxy, ask } = await host(t, { env: { MAX_CONNECTIONS_PER_ADDRESS: '2' } });
  const [first, second] = await keepOpen(proxy.port, '127.0.0.11', 2);
  t.after(() => void second?.destroy());
  assert.equal((await ask('127.0.0.11', INSTANCE_ID_PATH)).status, 503);
  first?.destroy();
  await until(() => ask('127.0.0.11', INSTANCE_ID_PATH), ({ status }) => status === 200);
  // Refused ones are not counted.
  for (let times = 0; times < 5; times += 1) {
    await until(() => ask('127.0.0.11', INSTANCE_ID_PATH), ({ status }) => status === 200);
  }
});

test('a request on a refused connection is not served', async (t) => {
  const { proxy, imds } = await host(t, { env: { MAX_CONNECTIONS_PER_ADDRESS: '1' } });
  const [held] = await keepOpen(proxy.port, '127.0.0.11', 1);
  t.after(() => void held?.destroy());
  const before = imds.requests.entries.length;
  const text = await open(proxy.port, '127.0.0.11', `${READ}\r\n`.repeat(5)).over;
  assert.doesNotMatch(text, new RegExp(INSTANCE_ID));
  assert.equal(imds.requests.entries.length, before);
});

test('MAX_CONNECTIONS are open at once in all; more are closed', async (t) => {
  const { proxy } = await host(t, { env: { MAX_CONNECTIONS: '4' } });
  const held = [
    ...await keepOpen(proxy.port, '127.0.0.11', 2), ...await keepOpen(proxy.port, '127.0.0.12', 2),
  ];
  t.after(() => held.forEach((socket) => socket.destroy()));
  assert.equal(await open(proxy.port, '127.0.0.13', `${READ}\r\n`).over, '');
  held.pop()?.destroy();
  const text = await until(
    () => open(proxy.port, '127.0.0.13', `${READ}Connection: close\r\n\r\n`).over, (answer) => answer !== '',
  );
  assert.match(text, new RegExp(INSTANCE_ID));
});

test('a large body counts against the rate limit of its address like so many requests', async (t) => {
  const { proxy, imds, ask } = await host(t, { env: { MAX_REQUESTS_PER_SECOND: '1' } });
  imds.userData = userDataOf(1024 * 1024);
  const { socket } = open(proxy.port, '127.0.0.11', 'GET /latest/user-data HTTP/1.1\r\nHost: x\r\n\r\n');
  t.after(() => socket.destroy());
  await once(socket, 'data');
  // Without the body this one would not be rate-limited.
  assert.equal((await ask('127.0.0.11', INSTANCE_ID_PATH)).status, 429);
  assert.equal((await ask('127.0.0.12', INSTANCE_ID_PATH)).body, INSTANCE_ID);
});

test('one address has 16 concurrent upstream requests; more wait for a permit, and then are answered 503', async (t) => {
  const { proxy, imds, ask } = await host(t);
  imds.fault('/latest/user-data', { kind: 'hold' });
  const held = Array.from({ length: 16 }, () => open(proxy.port, '127.0.0.11', 'GET /latest/user-data HTTP/1.1\r\nHost: x\r\n\r\n'));
  t.after(() => held.forEach(({ socket }) => socket.destroy()));
  await imds.requests.several(16, ({ target }) => target === '/latest/user-data');
  const refused = await ask('127.0.0.11', INSTANCE_ID_PATH);
  assert.deepEqual([refused.status, refused.headers['retry-after']], [503, '1']);
  assert.equal((await ask('127.0.0.11', '/latest/meta-data/iam/')).status, 404, 'answers of the proxy itself need no permit');
  assert.equal((await ask('127.0.0.12', INSTANCE_ID_PATH)).body, INSTANCE_ID, 'other addresses have permits of their own');
  const waiting = ask('127.0.0.11', INSTANCE_ID_PATH);
  held[0]?.socket.destroy();
  assert.equal((await waiting).body, INSTANCE_ID);
});

test('an upstream permit is released when upstream has answered, whether or not the client reads the answer', async (t) => {
  const { proxy, imds, ask } = await host(t);
  imds.fault('/latest/user-data', { kind: 'hold' });
  const requests = ['/latest/user-data', ...Array.from({ length: 16 }, () => INSTANCE_ID_PATH)];
  const { socket } = open(proxy.port, '127.0.0.11', requests.map((path) => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`).join(''));
  t.after(() => socket.destroy());
  // They are pipelined behind the first one, which has no answer.
  await imds.requests.several(16, ({ target }) => target === INSTANCE_ID_PATH);
  assert.equal((await ask('127.0.0.11', INSTANCE_ID_PATH)).body, INSTANCE_ID);
});

for (const [what, request] of [
  ['small requests', 'GET / HTTP/1.1\r\n\r\n'],
  ['requests with 1,900 headers', `GET / HTTP/1.1\r\nHost: x\r\n${'a:\r\n'.repeat(1_900)}\r\n`],
  ['requests that expect something', 'GET / HTTP/1.1\r\nHost: x\r\nExpect: x\r\n\r\n'],
] as const) {
  test(`200 connections full of ${what} take little memory and delay no other address`, async (t) => {
    const { proxy, ask } = await host(t);
    const first = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(300);
    const bytes = first + request.repeat(Math.ceil(500_000 / request.length));
    const full = Array.from({ length: 200 }, () => open(proxy.port, '127.0.0.11', bytes));
    t.after(() => full.forEach(({ socket }) => socket.destroy()));
    // A reset because of unread bytes may overtake the answer; test/unit/server.test.ts tests the answer.
    await Promise.race(full.map(({ over }) => over));
    assert.equal((await ask('127.0.0.12', INSTANCE_ID_PATH)).body, INSTANCE_ID);
    const [, peak] = /^VmHWM:\s+(\d+) kB$/m.exec(await readFile(`/proc/${proxy.pid}/status`, 'utf8')) ?? [];
    assert.ok(Number(peak) < MAX_KB, `${peak} kB`);
  });
}

/** A connection that is read from without a limit takes 50 MB. */
const MAX_KB = 200 * 1024;

test('an address in its IPv4 and its IPv6-mapped form is one address', async (t) => {
  const { proxy, ask } = await host(t, { env: { HOST: '::', MAX_CONNECTIONS_PER_ADDRESS: '2' } });
  const held = await keepOpen(proxy.port, '127.0.0.11', 2);
  t.after(() => held.forEach((socket) => socket.destroy()));
  assert.equal((await ask('127.0.0.11', INSTANCE_ID_PATH)).status, 503);
  assert.equal((await ask('::1', INSTANCE_ID_PATH)).body, INSTANCE_ID);
});

describe('a slow client', { concurrency: true }, () => {
  test('is answered 408 when a request\'s head does not arrive', async (t) => {
    const { proxy } = await host(t);
    const texts = await Promise.all([
      open(proxy.port, '127.0.0.11', `GET ${INSTANCE_ID_PATH} HTTP/1.1\r\nHost:`).over,
      open(proxy.port, '127.0.0.12', 'G').over,
    ]);
    for (const text of texts) assert.deepEqual(parseResponses(text).map(({ status }) => status), [408]);
  });

  test('is answered 408 although a byte arrives now and then', async (t) => {
    const { proxy, imds } = await host(t);
    const { socket, over } = open(proxy.port, '127.0.0.11', READ);
    const trickle = setInterval(() => socket.write('X-A: b\r\n'), 250);
    const text = await over;
    clearInterval(trickle);
    assert.deepEqual(parseResponses(text).map(({ status }) => status), [408]);
    assert.equal(imds.requests.entries.length, 0);
  });

  test('delays no other client', async (t) => {
    const { proxy, ask } = await host(t);
    const slow = Array.from({ length: 200 }, () => open(proxy.port, '127.0.0.11', READ));
    assert.equal((await ask('127.0.0.11', INSTANCE_ID_PATH)).body, INSTANCE_ID);
    assert.equal((await ask('127.0.0.12', INSTANCE_ID_PATH)).body, INSTANCE_ID);
    for (const { socket } of slow) socket.destroy();
  });
});
