import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { startProxy } from '../../support/proxy.ts';
import { INSTANCE_ID } from '../../support/imds.ts';
import type { Sts } from '../../support/sts.ts';
import { host, INSTANCE_ID_PATH, SECURITY_CREDENTIALS, type Host } from '../host.ts';
import { KeepAliveClient } from './keep-alive-client.ts';
import { arnOf, sized } from './scale.ts';

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

/** Whether the body of a 200 is the right one for the container. */
function isRight(sts: Sts, address: string, path: string, body: string): boolean {
  if (path === INSTANCE_ID_PATH) return body === INSTANCE_ID;
  if (path === SECURITY_CREDENTIALS) return body === address;
  const { AccessKeyId = '' } = JSON.parse(body) as { AccessKeyId?: string };
  return sts.issuedAs(AccessKeyId).call.roleArn === arnOf(address);
}

interface Load {
  answered: number;
  /** Answers other than 200: path and status. */
  readonly others: string[];
  readonly wrong: string[];
  /** Unanswered requests on connections with earlier answers. */
  readonly failed: string[];
  /** Connections without any answer, by reason. */
  readonly neverServed: Map<string, number>;
  stopped: boolean;
}

/** Clients that send requests without a pause over keep-alive connections, until `stopped`. */
function startLoad(own: Host): { load: Load; done: Promise<void> } {
  const load: Load = { answered: 0, others: [], wrong: [], failed: [], neverServed: new Map(), stopped: false };
  const clients = ADDRESSES.map(async (address) => {
    const client = new KeepAliveClient(own.proxy.port, address);
    for (let n = 0; !load.stopped; n += 1) {
      const path = PATHS[n % PATHS.length] ?? '';
      const { status, body, before, failure } = await client.ask(get(path));
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
    client.close();
  });
  return { load, done: Promise.all(clients).then(() => undefined) };
}

async function underLoad(load: Load, answers: number): Promise<void> {
  for (const deadline = Date.now() + 20_000; load.answered < answers;) {
    assert.ok(Date.now() < deadline, `only ${load.answered} answers`);
    await pause(10);
  }
}

const ROUNDS = sized(2, 20);
const WARM = sized(500, 5_000);

test('after kill -9 under load a new start serves every container its own role within 5 s', async (t) => {
  const took: number[] = [];
  const firstAnswers: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const own = await busyHost(t);
    const { load, done } = startLoad(own);
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
    await done;
    await again.stop('SIGKILL');
    assert.deepEqual(load.wrong, []);
    // Until the containers are known, the proxy answers 503.
    assert.deepEqual(load.others.filter((other) => !other.endsWith(': 503')), []);
    t.diagnostic(`round ${round + 1}: listening after ${took.at(-1)} ms, first correct answer after `
      + `${firstAnswers.at(-1)} ms; ${load.answered} correct answers, ${load.others.length} × 503, 0 wrong`);
  }
  const slowest = Math.max(...firstAnswers);
  assert.ok(slowest <= 5_000, `${slowest} ms until the first answer`);
});

test('SIGTERM under load fails no request on a connection with earlier answers', async (t) => {
  for (let round = 0; round < ROUNDS; round += 1) {
    const own = await busyHost(t);
    const { load, done } = startLoad(own);
    await underLoad(load, WARM);
    const stopping = own.proxy.stop('SIGTERM');
    await own.proxy.awaitLog('stopping');
    const exit = await stopping;
    load.stopped = true;
    await done;
    assert.deepEqual(load.failed, []);
    assert.deepEqual(load.others, []);
    assert.deepEqual(load.wrong, []);
    assert.deepEqual(exit, { code: 0, signal: null });
    // The kernel resets new connections that the proxy has not accepted.
    assert.deepEqual([...load.neverServed.keys()].filter((why) => why !== 'ECONNREFUSED' && why !== 'ECONNRESET'), []);
    const refused = [...load.neverServed].map(([why, times]) => `${times} × ${why}`).join(', ');
    t.diagnostic(`round ${round + 1}: ${load.answered} answered, 0 failed; new connections after it: ${refused || 'none'}`);
  }
});
