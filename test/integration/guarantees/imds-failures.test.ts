import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { test } from 'node:test';
import { parseResponses } from '../../support/http-bytes.ts';
import { INSTANCE_ID, userDataOf, type ImdsFault } from '../../support/imds.ts';
import { host, INSTANCE_ID_PATH, until, type Host } from '../host.ts';
import { inParallel } from './keep-alive-client.ts';
import { sized } from './scale.ts';

const FROM = '127.0.0.11';
const USER_DATA = '/latest/user-data';
const COUNT = sized(20, 200);
const ROUNDS = sized(1, 10);
/** With more concurrent bodies of 10 MB the fake IMDS, which runs in this thread, would answer too late. */
const CONCURRENCY = 40;
const ADDRESSES = 10;
/** The proxy's maximum number of idle upstream connections. */
const MAX_IDLE = 16;

function openFiles({ proxy }: Host): number {
  return readdirSync(`/proc/${proxy.pid}/fd`).length;
}

/** Reads at most `maximum` bytes and then disconnects, or reads to the end. */
async function read(port: number, maximum: number, from = FROM): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1', localAddress: from });
  let text = '';
  socket.setEncoding('latin1').on('error', () => {}).on('data', (chunk: string) => {
    text += chunk;
    if (text.length >= maximum) socket.destroy();
  });
  socket.setTimeout(20_000, () => socket.destroy());
  socket.write(`GET ${USER_DATA} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
  await once(socket, 'close').catch(() => {});
  return text;
}

/** If the proxy completed this body itself, the client would take it for a complete one. */
const UNENDED = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n';

const FAILURES: readonly { what: string; fault: ImdsFault; status: 'none' | 502; disconnectAfter?: number }[] = [
  { what: 'an endless body of chunks', fault: { kind: 'endless', framing: 'chunked' }, status: 'none', disconnectAfter: 500_000 },
  { what: 'an endless body', fault: { kind: 'endless', framing: 'close' }, status: 'none', disconnectAfter: 500_000 },
  { what: 'a body that pauses', fault: { kind: 'pause-in-body' }, status: 'none', disconnectAfter: 100 },
  { what: 'a reset within the body', fault: { kind: 'reset-in-body' }, status: 'none' },
  { what: 'a close within the body', fault: { kind: 'close-in-body' }, status: 'none' },
  { what: 'a Content-Length that is too long', fault: { kind: 'content-length', value: 99_999_999 }, status: 'none' },
  { what: 'an invalid Content-Length', fault: { kind: 'content-length', value: '5, 6' }, status: 502 },
  { what: 'chunks without the last chunk', fault: { kind: 'raw', bytes: UNENDED }, status: 'none' },
  { what: 'a reset instead of an answer', fault: { kind: 'reset' }, status: 502 },
  { what: 'not HTTP', fault: { kind: 'raw', bytes: 'no HTTP\r\n\r\n' }, status: 502 },
];

test('a faulty body never looks complete to a client, and no socket leaks', async (t) => {
  const own = await host(t, { env: { MAX_REQUESTS_PER_SECOND: '0' } });
  own.imds.userData = userDataOf(10 * 1024 * 1024);
  const askOnce = async (): Promise<void> => assert.equal((await own.ask(FROM, INSTANCE_ID_PATH)).body, INSTANCE_ID);
  await askOnce();
  const before = openFiles(own);
  let maximum = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const { what, fault, status, disconnectAfter = Infinity } of FAILURES) {
      const injected = own.imds.fault(USER_DATA, fault);
      // From several addresses, because the limit per address is not under test.
      const texts: string[] = [];
      await inParallel(Array.from({ length: COUNT }, (_, n) => n), CONCURRENCY, async (n) => {
        texts.push(await read(own.proxy.port, disconnectAfter, `127.0.1.${1 + n % ADDRESSES}`));
      });
      assert.equal(texts.length, COUNT);
      maximum = Math.max(maximum, openFiles(own));
      injected.lift();
      for (const text of texts) {
        const whole = parseResponses(text).map((response) => response.status);
        assert.deepEqual(whole, status === 'none' ? [] : [status], `${what}: ${text.slice(0, 300)}`);
      }
      // No upstream connection remains except idle ones for later requests.
      await until(() => own.imds.openConnections, (open) => open <= MAX_IDLE);
      await until(() => openFiles(own), (files) => files <= before + MAX_IDLE);
      await askOnce();
    }
  }
  t.diagnostic(`${ROUNDS * COUNT * FAILURES.length} requests under ${FAILURES.length} faults: ${before} files open before, `
    + `at most ${maximum} in between, ${openFiles(own)} after; ${own.imds.openConnections} connections upstream`);
});

test('10 MB of user data for many clients, some of which disconnect early, leaks no socket', async (t) => {
  const own = await host(t, { env: { MAX_REQUESTS_PER_SECOND: '0' } });
  own.imds.userData = userDataOf(10 * 1024 * 1024);
  await own.ask(FROM, INSTANCE_ID_PATH);
  const before = openFiles(own);
  for (let round = 0; round < ROUNDS; round += 1) {
    const disconnecting = Array.from({ length: 10 }, (_, index) => read(own.proxy.port, 1 + index * 300_000));
    const staying = Array.from({ length: 3 }, () => own.ask(FROM, USER_DATA));
    await Promise.all(disconnecting);
    for (const { bytes } of await Promise.all(staying)) assert.ok(bytes.equals(own.imds.userData));
  }
  await until(() => own.imds.openConnections, (open) => open <= MAX_IDLE);
  await until(() => openFiles(own), (files) => files <= before + MAX_IDLE);
  t.diagnostic(`${before} files open before, ${openFiles(own)} after`);
});

test('an unreachable IMDS is an immediate 502, and after its recovery requests succeed without a leaked socket', async (t) => {
  const own = await host(t, { env: { MAX_REQUESTS_PER_SECOND: '0' } });
  await own.ask(FROM, INSTANCE_ID_PATH);
  const before = openFiles(own);
  for (let round = 0; round < 3 * ROUNDS; round += 1) {
    await own.imds.stop();
    const answers = await Promise.all(Array.from({ length: COUNT }, () => own.ask(FROM, INSTANCE_ID_PATH)));
    assert.deepEqual([...new Set(answers.map(({ status }) => status))], [502]);
    await own.imds.listen();
    assert.equal((await own.ask(FROM, INSTANCE_ID_PATH)).body, INSTANCE_ID);
  }
  await until(() => openFiles(own), (files) => files <= before + MAX_IDLE);
});
