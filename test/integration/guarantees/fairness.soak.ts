import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { parseResponses } from '../../support/http-bytes.ts';
import { INSTANCE_ID, userDataOf } from '../../support/imds.ts';
import { host, INSTANCE_ID_PATH, until, type Host } from '../host.ts';
import { flood, type FloodOptions, type FloodResult } from './flood.ts';
import { Lane } from './lane.ts';
import { arnOf, percentile, SOAK, sized } from './size.ts';

const HOSTILE = '127.0.9.9';
const OTHERS = ['127.0.0.11', '127.0.0.12', '127.0.0.13'];
/** The default of MAX_CONNECTIONS_PER_ADDRESS. */
const PER_ADDRESS = 256;
const ROUNDS = sized(100, 3_000);
const READERS = sized(40, 200);

async function hostWithOthers(t: TestContext, env = {}): Promise<Host> {
  const own = await host(t, { env });
  for (const address of [...OTHERS, HOSTILE]) {
    await own.docker.host.run({ name: `at-${address}`, address, env: { IAM_ROLE: arnOf(address) } });
    assert.equal(await own.roleGiven(address), arnOf(address));
  }
  return own;
}

/** The others ask as SDKs do and each gets its own; gives how long each answer took, in milliseconds. */
async function othersAreServed({ proxy, sts }: Host, rounds = ROUNDS): Promise<number[]> {
  const took: number[] = [];
  await Promise.all(OTHERS.map(async (address) => {
    const lane = new Lane(proxy.port, address);
    for (let round = 0; round < rounds; round += 1) {
      const path = round % 10 === 5 ? INSTANCE_ID_PATH : '/creds';
      // New connections have to get through as well.
      if (round % 10 === 0) lane.close();
      const began = performance.now();
      const { status, body, failure } = await lane.ask(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
      took.push(performance.now() - began);
      assert.equal(status, 200, `${path} for ${address}: ${failure}`);
      if (path === INSTANCE_ID_PATH) assert.equal(body, INSTANCE_ID);
      else assert.equal(sts.issuedAs((JSON.parse(body) as { AccessKeyId: string }).AccessKeyId).call.roleArn, arnOf(address));
    }
    lane.close();
  }));
  return took;
}

/** Measured on a machine that does other things too: the figure is in the report, and only a long run is held to it. */
function report(t: TestContext, undisturbed: readonly number[], disturbed: readonly number[], what: string): void {
  const [calm, busy] = [percentile(undisturbed, 0.99), percentile(disturbed, 0.99)];
  t.diagnostic(`${what}: p99 of the others ${busy.toFixed(2)} ms, undisturbed ${calm.toFixed(2)} ms: `
    + `${(busy / calm).toFixed(1)} ×`);
  if (SOAK) assert.ok(busy <= Math.max(10 * calm, 25), `p99 ${busy} ms instead of ${calm} ms`);
}

async function opened(port: number, count: number, bytes: string, from = HOSTILE): Promise<{ sockets: Socket[]; texts: string[] }> {
  const texts: string[] = [];
  const sockets = await Promise.all(Array.from({ length: count }, async (_, index) => {
    const socket = connect({ port, host: '127.0.0.1', localAddress: from });
    texts[index] = '';
    socket.setEncoding('latin1').on('error', () => {}).on('data', (text: string) => (texts[index] += text));
    await once(socket, 'connect');
    socket.write(bytes);
    return socket;
  }));
  return { sockets, texts };
}

/** In a worker of its own, so that what the flood takes of this process is not taken for the proxy's slowness. */
async function inWorker(options: FloodOptions): Promise<FloodResult> {
  const worker = new Worker(new URL(import.meta.url), { workerData: options });
  const [result] = await once(worker, 'message') as [FloodResult];
  await worker.terminate();
  return result;
}

function tests(): void {
  test('2,000 idle connections from one address: those beyond the limit are told 503, the others are served', async (t) => {
    const own = await hostWithOthers(t, { READ_TIMEOUT: '1m' });
    const calm = await othersAreServed(own);
    const held: Socket[] = [];
    t.after(() => held.forEach((socket) => socket.destroy()));
    const refused: string[] = [];
    // In batches below the kernel's backlog, which would make those beyond it wait for seconds.
    for (let count = 0; count < 2_000; count += 100) {
      const { sockets, texts } = await opened(own.proxy.port, 100, '');
      held.push(...sockets);
      const most = Math.max(held.length - PER_ADDRESS, 0);
      await until(() => refused.length + texts.filter((text) => text !== '').length, (some) => some === most);
      refused.push(...texts.filter((text) => text !== ''));
    }
    const busy = await othersAreServed(own);
    assert.equal(refused.length, 2_000 - PER_ADDRESS);
    for (const text of refused) {
      const [response] = parseResponses(text);
      assert.equal(response?.status, 503);
      assert.match(text, /\r\nRetry-After: 1\r\n/);
    }
    report(t, calm, busy, `2,000 idle connections, ${refused.length} × 503`);
  });

  test('slow headers on as many connections as one may have: the others are served', async (t) => {
    const own = await hostWithOthers(t);
    const calm = await othersAreServed(own);
    const { sockets, texts } = await opened(own.proxy.port, PER_ADDRESS, `GET ${INSTANCE_ID_PATH} HTTP/1.1\r\nHost: x\r\n`);
    const trickle = setInterval(() => sockets.forEach((socket) => socket.write('X-A: b\r\n')), 200);
    t.after(() => {
      clearInterval(trickle);
      sockets.forEach((socket) => socket.destroy());
    });
    const busy = await othersAreServed(own);
    assert.ok(texts.every((text) => text === '' || text.startsWith('HTTP/1.1 408 ')));
    report(t, calm, busy, `${PER_ADDRESS} slow heads`);
  });

  test('slow readers of large bodies: the others are served', async (t) => {
    const own = await hostWithOthers(t);
    own.imds.userData = userDataOf(10 * 1024 * 1024);
    const calm = await othersAreServed(own);
    const sockets = Array.from({ length: READERS }, () => {
      const socket = connect({ port: own.proxy.port, host: '127.0.0.1', localAddress: HOSTILE });
      socket.on('error', () => {}).pause();
      socket.write('GET /latest/user-data HTTP/1.1\r\nHost: x\r\n\r\n');
      return socket;
    });
    t.after(() => sockets.forEach((socket) => socket.destroy()));
    await own.imds.requests.several(READERS, ({ target }) => target === '/latest/user-data');
    report(t, calm, await othersAreServed(own), `${READERS} readers of 10 MB that read nothing`);
  });

  test('a flood from one container is held to its pace: the others are served', async (t) => {
    const own = await hostWithOthers(t);
    const calm = await othersAreServed(own);
    const milliseconds = sized(1_000, 60_000);
    const began = performance.now();
    const flooding = inWorker({ port: own.proxy.port, from: HOSTILE, connections: 64, path: '/creds', milliseconds });
    const busy = await othersAreServed(own);
    const counts = await flooding;
    const seconds = (performance.now() - began) / 1000;
    // A thousand a second, and a burst of as many.
    const most = 1_000 * (seconds + 1);
    assert.ok((counts[200] ?? 0) > 0 && (counts[200] ?? 0) <= most, `${counts[200]} in ${seconds} s`);
    assert.deepEqual(Object.keys(counts).filter((status) => !['200', '429', '503'].includes(status)), []);
    report(t, calm, busy, `a flood on 64 connections, answered ${JSON.stringify(counts)} in ${seconds.toFixed(1)} s`);
  });

  test('who has asked far too fast is told 429 with Retry-After, early', async (t) => {
    const own = await hostWithOthers(t, { MAX_REQUESTS_PER_SECOND: '50' });
    const { sockets, texts } = await opened(own.proxy.port, 200, `GET /creds HTTP/1.1\r\nHost: x\r\n\r\n`.repeat(15));
    t.after(() => sockets.forEach((socket) => socket.destroy()));
    // 3,000 at once: one second's worth at once, one in the next second, and the rest is refused.
    for (const giveUp = Date.now() + 20_000; !texts.join('').includes('HTTP/1.1 429 ');) {
      assert.ok(Date.now() < giveUp, 'nobody was told 429');
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.match(texts.join(''), /HTTP\/1\.1 429 [^]*?Retry-After: 1/);
    await othersAreServed(own, 40);
  });
}

if (isMainThread) tests();
else parentPort?.postMessage(await flood(workerData as FloodOptions));
