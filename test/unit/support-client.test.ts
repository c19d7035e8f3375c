import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { raw, request } from '../support/client.ts';
import { Journal } from '../support/journal.ts';

async function serve(t: TestContext, listener: RequestListener): Promise<number> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

test('a request has the container\'s source address', async (t) => {
  const port = await serve(t, (incoming, response) => response.end(incoming.socket.remoteAddress));
  assert.equal((await request({ port, from: '127.0.0.11' })).body, '127.0.0.11');
  const { responses } = await raw({ port, from: '127.0.0.12', bytes: 'GET / HTTP/1.1\r\nHost: x\r\n\r\n' });
  assert.deepEqual(responses.map(({ body }) => body), ['127.0.0.12']);
});

test('several requests in raw bytes get separate responses', async (t) => {
  const port = await serve(t, (incoming, response) => {
    response.write('chunked ');
    response.end(incoming.url);
  });
  const { responses, closed } = await raw({
    port, bytes: 'GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n', responses: 2,
  });
  assert.deepEqual(responses.map(({ body }) => body), ['chunked /a', 'chunked /b']);
  assert.equal(closed, false);
});

test('malformed raw bytes get a 400 and a closed connection', async (t) => {
  const port = await serve(t, (_, response) => response.end());
  const { responses, closed } = await raw({ port, bytes: 'NONSENSE\r\n\r\n', responses: Infinity });
  assert.deepEqual(responses.map(({ status }) => status), [400]);
  assert.equal(closed, true);
});

test('a truncated answer rejects the request', async (t) => {
  const port = await serve(t, (_, response) => {
    response.writeHead(200, { 'Content-Length': 10 });
    response.write('half', () => response.destroy());
  });
  await assert.rejects(request({ port }), { code: 'ECONNRESET' });
});

test('a journal returns recorded and future entries', async () => {
  const journal = new Journal<number>('a number');
  journal.add(1);
  assert.equal(await journal.first((entry) => entry === 1), 1);
  const next = journal.next();
  const several = journal.several(2, (entry) => entry % 2 === 1);
  journal.add(2);
  journal.add(3);
  assert.equal(await next, 2);
  assert.deepEqual(await several, [1, 3]);
});

test('a journal\'s timeout names the missing entry and the recorded ones', async () => {
  const journal = new Journal<number>('an odd number');
  journal.add(2);
  const missing = journal.first((entry) => entry === 1, 1);
  await assert.rejects(missing, /no 1 × an odd number: timeout after 1 ms.*\n {2}2/s);
  const wait = journal.first((entry) => entry === 1);
  journal.end('it is closed');
  await assert.rejects(wait, /it is closed/);
  await assert.rejects(journal.next(), /it is closed/);
});
