import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { test } from 'node:test';
import { parseResponses } from '../../support/http-bytes.ts';
import { INSTANCE_ID, userDataOf, type ImdsFault } from '../../support/imds.ts';
import { host, INSTANCE_ID_PATH, until, type Host } from '../host.ts';
import { abreast } from './lane.ts';
import { sized } from './size.ts';

const FROM = '127.0.0.11';
const USER_DATA = '/latest/user-data';
const COUNT = sized(20, 200);
const ROUNDS = sized(1, 10);
/** More bodies of 10 MB at once would keep this thread, in which the stand-in is, from answering in time. */
const CONCURRENCY = 40;
const ADDRESSES = 10;
/** As many idle connections to the metadata service the proxy keeps, at the most. */
const KEPT = 16;

function openFiles({ proxy }: Host): number {
  return readdirSync(`/proc/${proxy.pid}/fd`).length;
}

/** What a client sees that reads `most` bytes and then leaves, or reads to the end. */
async function read(port: number, most: number, from = FROM): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1', localAddress: from });
  let text = '';
  socket.setEncoding('latin1').on('error', () => {}).on('data', (chunk: string) => {
    text += chunk;
    if (text.length >= most) socket.destroy();
  });
  socket.setTimeout(20_000, () => socket.destroy());
  socket.write(`GET ${USER_DATA} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
  await once(socket, 'close').catch(() => {});
  return text;
}

/** Only here would an end that the proxy puts under it look like the real one. */
const UNENDED = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n';

const TROUBLES: readonly { what: string; fault: ImdsFault; status: 'none' | 502; leaveAfter?: number }[] = [
  { what: 'an endless body of chunks', fault: { kind: 'endless', framing: 'chunked' }, status: 'none', leaveAfter: 500_000 },
  { what: 'an endless body', fault: { kind: 'endless', framing: 'close' }, status: 'none', leaveAfter: 500_000 },
  { what: 'a body that pauses', fault: { kind: 'pause-in-body' }, status: 'none', leaveAfter: 100 },
  { what: 'a reset in mid-body', fault: { kind: 'reset-in-body' }, status: 'none' },
  { what: 'a close in mid-body', fault: { kind: 'close-in-body' }, status: 'none' },
  { what: 'a Content-Length that is too long', fault: { kind: 'content-length', value: 99_999_999 }, status: 'none' },
  { what: 'a Content-Length that is none', fault: { kind: 'content-length', value: '5, 6' }, status: 502 },
  { what: 'chunks without the last one', fault: { kind: 'raw', bytes: UNENDED }, status: 'none' },
  { what: 'a reset instead of an answer', fault: { kind: 'reset' }, status: 502 },
  { what: 'no HTTP', fault: { kind: 'raw', bytes: 'no HTTP\r\n\r\n' }, status: 502 },
];

test('whatever is wrong with a body, no client takes it for whole, and no socket is kept', async (t) => {
  const own = await host(t, { env: { MAX_REQUESTS_PER_SECOND: '0' } });
  own.imds.userData = userDataOf(10 * 1024 * 1024);
  const askOnce = async (): Promise<void> => assert.equal((await own.ask(FROM, INSTANCE_ID_PATH)).body, INSTANCE_ID);
  await askOnce();
  const before = openFiles(own);
  let most = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const { what, fault, status, leaveAfter = Infinity } of TROUBLES) {
      const struck = own.imds.fault(USER_DATA, fault);
      // An address has a limit of its own, which is not what is tried here.
      const texts: string[] = [];
      await abreast(Array.from({ length: COUNT }, (_, n) => n), CONCURRENCY, async (n) => {
        texts.push(await read(own.proxy.port, leaveAfter, `127.0.1.${1 + n % ADDRESSES}`));
      });
      assert.equal(texts.length, COUNT);
      most = Math.max(most, openFiles(own));
      struck.lift();
      for (const text of texts) {
        const whole = parseResponses(text).map((response) => response.status);
        assert.deepEqual(whole, status === 'none' ? [] : [status], `${what}: ${text.slice(0, 300)}`);
      }
      // Upstream nothing goes on, but for what is kept for the next requests.
      await until(() => own.imds.openConnections, (open) => open <= KEPT);
      await until(() => openFiles(own), (files) => files <= before + KEPT);
      await askOnce();
    }
  }
  t.diagnostic(`${ROUNDS * COUNT * TROUBLES.length} requests under ${TROUBLES.length} faults: ${before} files open before, `
    + `${most} seen in between, ${openFiles(own)} after; ${own.imds.openConnections} connections upstream`);
});

test('10 MB of user data for many clients, of which some leave early, keep no socket', async (t) => {
  const own = await host(t, { env: { MAX_REQUESTS_PER_SECOND: '0' } });
  own.imds.userData = userDataOf(10 * 1024 * 1024);
  await own.ask(FROM, INSTANCE_ID_PATH);
  const before = openFiles(own);
  for (let round = 0; round < ROUNDS; round += 1) {
    const leaving = Array.from({ length: 10 }, (_, index) => read(own.proxy.port, 1 + index * 300_000));
    const staying = Array.from({ length: 3 }, () => own.ask(FROM, USER_DATA));
    await Promise.all(leaving);
    for (const { bytes } of await Promise.all(staying)) assert.ok(bytes.equals(own.imds.userData));
  }
  await until(() => own.imds.openConnections, (open) => open <= KEPT);
  await until(() => openFiles(own), (files) => files <= before + KEPT);
  t.diagnostic(`${before} files open before, ${openFiles(own)} after`);
});

test('a metadata service that is away is a failure at once, and served again when it is back, without a socket kept', async (t) => {
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
  await until(() => openFiles(own), (files) => files <= before + KEPT);
});
