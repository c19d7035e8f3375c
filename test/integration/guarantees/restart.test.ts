import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { startProxy } from '../../support/proxy.ts';
import { INSTANCE_ID } from '../../support/imds.ts';
import type { Sts } from '../../support/sts.ts';
import { host, INSTANCE_ID_PATH, SECURITY_CREDENTIALS, type Host } from '../host.ts';
import { Lane } from './lane.ts';
import { arnOf, sized } from './size.ts';

const CLIENTS = 16;
const ADDRESSES = Array.from({ length: CLIENTS }, (_, index) => `127.0.1.${index + 1}`);
const PATHS = ['/creds', SECURITY_CREDENTIALS, INSTANCE_ID_PATH];

function get(path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n`;
}

async function busyHost(t: Parameters<typeof host>[0]): Promise<Host> {
  const own = await host(t, { env: { MAX_REQUESTS_PER_SECOND: '0' } });
  for (const address of ADDRESSES) {
    await own.docker.host.run({ name: `at-${address}`, address, env: { IAM_ROLE: arnOf(address) } });
  }
  for (const address of ADDRESSES) assert.equal(await own.roleGiven(address), arnOf(address));
  return own;
}

/** Whether a 200 for the container at an address is its own answer, and the right one. */
function isRight(sts: Sts, address: string, path: string, body: string): boolean {
  if (path === INSTANCE_ID_PATH) return body === INSTANCE_ID;
  if (path === SECURITY_CREDENTIALS) return body === address;
  const { AccessKeyId = '' } = JSON.parse(body) as { AccessKeyId?: string };
  return sts.issuedAs(AccessKeyId).call.roleArn === arnOf(address);
}

interface Load {
  answered: number;
  /** Other answers than 200: path and status. */
  readonly others: string[];
  readonly wrong: string[];
  /** Requests without an answer on connections that had been answered before. */
  readonly failed: string[];
  /** Connections on which nothing ever came, by reason. */
  readonly neverServed: Map<string, number>;
  stopped: boolean;
}

/** Clients that ask without a pause, each on a connection that is kept, until `stopped`. */
function startLoad(own: Host): { load: Load; over: Promise<void> } {
  const load: Load = { answered: 0, others: [], wrong: [], failed: [], neverServed: new Map(), stopped: false };
  const clients = ADDRESSES.map(async (address) => {
    const lane = new Lane(own.proxy.port, address);
    for (let turn = 0; !load.stopped; turn += 1) {
      const path = PATHS[turn % PATHS.length] ?? '';
      const { status, body, before, failure } = await lane.ask(get(path));
      if (failure !== undefined) {
        if (before > 0) load.failed.push(`${path} after ${before} answers: ${failure}`);
        else load.neverServed.set(failure, (load.neverServed.get(failure) ?? 0) + 1);
        await pause(5);
      } else if (status === 200) {
        load.answered += 1;
        if (!isRight(own.sts, address, path, body)) load.wrong.push(`${address} ${path}: ${body}`);
      } else {
        load.others.push(`${path}: ${status}`);
      }
    }
    lane.close();
  });
  return { load, over: Promise.all(clients).then(() => undefined) };
}

async function underLoad(load: Load, answers: number): Promise<void> {
  for (const giveUp = Date.now() + 20_000; load.answered < answers;) {
    assert.ok(Date.now() < giveUp, `only ${load.answered} answers`);
    await pause(10);
  }
}

const ROUNDS = sized(2, 20);
const WARM = sized(500, 5_000);

test('after kill -9 under load a new start listens at once and gives every container its own role', async (t) => {
  const took: number[] = [];
  const firstAnswers: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const own = await busyHost(t);
    const { load, over } = startLoad(own);
    await underLoad(load, WARM);
    await own.proxy.stop('SIGKILL');
    const before = load.answered;
    const began = Date.now();
    const { docker, imds, sts } = own;
    const again = await startProxy(t, { docker, imds, sts, env: { PORT: String(own.proxy.port), MAX_REQUESTS_PER_SECOND: '0' } });
    took.push(Date.now() - began);
    await underLoad(load, before + 1);
    firstAnswers.push(Date.now() - began);
    await underLoad(load, before + WARM);
    load.stopped = true;
    await over;
    await again.stop('SIGKILL');
    assert.deepEqual(load.wrong, []);
    // Until the engine's containers are known the proxy says so instead of guessing.
    assert.deepEqual(load.others.filter((other) => !other.endsWith(': 503')), []);
    t.diagnostic(`round ${round + 1}: listening after ${took.at(-1)} ms, first right answer after `
      + `${firstAnswers.at(-1)} ms; ${load.answered} right answers, ${load.others.length} × 503, 0 wrong`);
  }
  const longest = Math.max(...firstAnswers);
  assert.ok(longest <= 5_000, `${longest} ms until the first answer`);
});

test('SIGTERM under load fails no request on a connection that it has served', async (t) => {
  for (let round = 0; round < ROUNDS; round += 1) {
    const own = await busyHost(t);
    const { load, over } = startLoad(own);
    await underLoad(load, WARM);
    const stopping = own.proxy.stop('SIGTERM');
    await own.proxy.awaitLog('stopping');
    const exit = await stopping;
    load.stopped = true;
    await over;
    assert.deepEqual(load.failed, []);
    assert.deepEqual(load.others, []);
    assert.deepEqual(load.wrong, []);
    assert.deepEqual(exit, { code: 0, signal: null });
    // A reset of a new connection is one that the kernel had and the proxy never saw.
    assert.deepEqual([...load.neverServed.keys()].filter((why) => why !== 'ECONNREFUSED' && why !== 'ECONNRESET'), []);
    const refused = [...load.neverServed].map(([why, times]) => `${times} × ${why}`).join(', ');
    t.diagnostic(`round ${round + 1}: ${load.answered} answered, 0 failed; new connections after it: ${refused || 'none'}`);
  }
});
