import assert from 'node:assert/strict';
import { once } from 'node:events';
import { IncomingMessage, ServerResponse } from 'node:http';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { connectionOf, Connections } from '../../lib/http/connections.ts';
import { Journal } from '../support/journal.ts';
import { ManualClock } from './helpers/manual-clock.ts';

const TIMED_OUT = Object.assign(new Error(), { code: 'ERR_HTTP_REQUEST_TIMEOUT' });
const NO_REQUEST = Object.assign(new Error(), { code: 'HPE_INVALID_METHOD' });

/** Connections on a real listener, without HTTP: a test says when a request has come and when it is answered. */
async function setUp(t: TestContext) {
  const clock = new ManualClock();
  const connections = new Connections({ maxPerAddress: 2, recoveryTime: 1_000, clock });
  const sockets = new Journal<Socket>('a connection');
  const server = createServer((socket) => {
    socket.on('error', () => {});
    connections.admit(socket);
    sockets.add(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  /** Both ends of a new connection, and all that the client has received when it is closed. */
  const open = async (localAddress = '127.0.0.2') => {
    const accepted = sockets.next();
    const client = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', localAddress });
    t.after(() => client.destroy());
    let text = '';
    client.setEncoding('latin1').on('data', (part: string) => (text += part)).on('error', () => {});
    const received = new Promise<string>((resolve) => client.once('close', () => resolve(text)));
    return { client, socket: await accepted, received };
  };
  return { clock, connections, open };
}

/** The response to a request of HTTP/1.1, which may keep its connection alive. */
function responseOn(socket: Socket): ServerResponse {
  const request = new IncomingMessage(socket);
  [request.httpVersionMajor, request.httpVersionMinor] = [1, 1];
  return new ServerResponse(request);
}

test('a connection beyond the limit of its address is refused with 503, and requests on it are ignored', async (t) => {
  const { connections, open } = await setUp(t);
  const [first] = [await open(), await open()];
  const third = await open();
  assert.equal(connections.accept(third.socket, responseOn(third.socket)), undefined);
  assert.match(await third.received, /^HTTP\/1\.1 503 .*Retry-After: 1/s);
  const other = await open('127.0.0.3');
  assert.equal(connectionOf(other.socket)?.address, '127.0.0.3');
  first?.client.destroy();
  await once(first?.socket ?? assert.fail(), 'close');
  assert.ok(connectionOf((await open()).socket), 'a closed connection makes room');
});

test('an unanswered request too many makes its connection overflow, whichever connection the others came on', async (t) => {
  const { connections, open } = await setUp(t);
  const [one, two] = [(await open()).socket, (await open()).socket];
  const responses = [one, one].map((socket) => {
    const response = responseOn(socket);
    assert.equal(connections.accept(socket, response)?.state, 'open');
    return response;
  });
  const last = responseOn(two);
  const overflowed = connections.accept(two, last);
  assert.deepEqual([overflowed?.state, last.shouldKeepAlive], ['overflowed', false]);
  assert.equal(connections.accept(two, responseOn(two)), undefined, 'further requests on it are ignored');
  assert.equal(connectionOf(one)?.state, 'open');
  const [answered] = responses;
  assert.equal(connectionOf(one)?.answered(answered ?? assert.fail()), true);
  assert.equal(connectionOf(one)?.answered(answered ?? assert.fail()), false);
  overflowed?.answered(last);
  assert.equal(connections.accept(one, responseOn(one))?.state, 'open', 'answered requests do not count');
});

test('a pause stops reading from all connections of the address, also new ones, until it ends', async (t) => {
  const { clock, open } = await setUp(t);
  const [first, other] = [(await open()).socket, (await open('127.0.0.3')).socket];
  connectionOf(first)?.pauseReads(2_000);
  const second = (await open()).socket;
  // As Node does when an answer is finished.
  first.resume();
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([first, second, other].map((socket) => socket.isPaused()), [true, true, false]);
  await clock.advance(2_000);
  assert.deepEqual([first, second].map((socket) => socket.isPaused()), [false, false]);
});

test('an overflowed connection is not read from, even when the pause has ended', async (t) => {
  const { clock, connections, open } = await setUp(t);
  const { socket } = await open();
  for (let requests = 0; requests < 3; requests += 1) connections.accept(socket, responseOn(socket));
  connectionOf(socket)?.pauseReads(2_000);
  await clock.advance(2_000);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(socket.isPaused(), true);
});

test('bytes that are no request are refused on an idle connection, and break off one that is being answered', async (t) => {
  const { connections, open } = await setUp(t);
  const [idle, answering] = [await open(), await open()];
  connections.refuse(NO_REQUEST, idle.socket);
  assert.match(await idle.received, /^HTTP\/1\.1 400 /);
  connections.accept(answering.socket, responseOn(answering.socket));
  connections.refuse(NO_REQUEST, answering.socket);
  assert.equal(await answering.received, '');
});

test('bytes that are no request end a connection after its last answer', async (t) => {
  const { connections, open } = await setUp(t);
  const { socket, received } = await open();
  const response = responseOn(socket);
  response.shouldKeepAlive = false;
  const connection = connections.accept(socket, response);
  connection?.answered(response);
  assert.equal(connection?.state, 'closing');
  connections.refuse(NO_REQUEST, socket);
  assert.equal(await received, '');
});

test('a request that is late is refused with 503 if its address was paused, and with 408 otherwise', async (t) => {
  const { clock, connections, open } = await setUp(t);
  const [during, after, later] = [await open(), await open(), await open('127.0.0.3')];
  connectionOf(during.socket)?.pauseReads(2_000);
  await clock.advance(2_999);
  connections.refuse(TIMED_OUT, during.socket);
  assert.match(await during.received, /^HTTP\/1\.1 503 /);
  await clock.advance(1);
  for (const { socket, received } of [after, later]) {
    connections.refuse(TIMED_OUT, socket);
    assert.match(await received, /^HTTP\/1\.1 408 /);
  }
});

test('a client that disconnects cancels what is deferred and ends its responses, and its requests count until they are answered', async (t) => {
  const { connections, open } = await setUp(t);
  const { client, socket } = await open();
  const responses = [responseOn(socket), responseOn(socket)];
  for (const response of responses) connections.accept(socket, response);
  const connection = connectionOf(socket) ?? assert.fail();
  const ended = new Journal<string>('an end');
  connection.deferred.add(() => ended.add('deferred'));
  for (const response of responses) response.once('close', () => ended.add('response'));
  client.destroy();
  assert.deepEqual(await ended.several(3), ['deferred', 'response', 'response']);
  const { socket: next } = await open();
  assert.equal(connections.accept(next, responseOn(next))?.state, 'overflowed');
  for (const response of responses) connection.answered(response);
});

test('from drain() on each answer is the last one of its connection', async (t) => {
  const { connections, open } = await setUp(t);
  const { socket } = await open();
  const [before, after] = [responseOn(socket), responseOn(socket)];
  connections.accept(socket, before);
  connections.drain();
  connections.accept(socket, after);
  assert.deepEqual([before.shouldKeepAlive, after.shouldKeepAlive], [false, false]);
});
