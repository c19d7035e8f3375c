// One noisy container against the others. The other containers, the noisy one and IMDS run in separate threads, so that this
// thread, which reads the log, cannot delay them. Rounds with and without the noise alternate, so that other load of the
// machine affects both.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test, type TestContext } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { Imds, userDataOf } from '../../support/imds.ts';
import { median, percentile } from '../../support/statistics.ts';
import { host, INSTANCE_ID_PATH, type Host } from '../host.ts';
import { NoisyNeighbour, type Noise, type NoiseOptions } from './noisy-neighbour.ts';
import { requestAsOthers, type OthersOptions, type OthersResult } from './other-containers.ts';
import { arnOf, SOAK, sized } from './scale.ts';

const HOSTILE = '127.0.9.9';
const OTHERS = [11, 12, 13, 14, 15, 16].map((host) => `127.0.0.${host}`);
/** The defaults of MAX_CONNECTIONS_PER_ADDRESS and MAX_REQUESTS_PER_SECOND. */
const PER_ADDRESS = 256;
const PER_SECOND = 200;
const ROUNDS = sized(2, 5);
/** Requests of each other container in one round. */
const REQUESTS = sized(200, 1_000);
/** The noise needs this time to open its connections. */
const NOISE_START_MS = 1_000;
/** README's limit for the others' p99, as a multiple of the p99 without noise. */
const MAX_RATIO = 2;

/** A command to a thread. */
type Order =
  | { readonly do: 'ask'; readonly options: OthersOptions }
  | { readonly do: 'disturb'; readonly options: NoiseOptions }
  | { readonly do: 'stop' }
  /** Runs IMDS with user data of so many bytes. */
  | { readonly do: 'serve'; readonly userData: number };

class Thread {
  readonly #worker = new Worker(new URL(import.meta.url));

  async order<T>(order: Order): Promise<T> {
    this.#worker.postMessage(order);
    const [answer] = await once(this.#worker, 'message') as [T];
    return answer;
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }
}

function runOrders(): void {
  let maker: NoisyNeighbour | undefined;
  const answerTo = async (order: Order): Promise<unknown> => {
    if (order.do === 'ask') return requestAsOthers(order.options);
    if (order.do === 'stop') return maker?.stop();
    if (order.do === 'serve') return (await Imds.start({ userData: userDataOf(order.userData) })).url;
    maker = new NoisyNeighbour(order.options);
    return maker.start();
  };
  parentPort?.on('message', (order: Order) => void answerTo(order).then((answer) => parentPort?.postMessage(answer)));
}

/** The other containers' p99, in milliseconds. */
interface P99 {
  /** For credentials, which the proxy answers itself. */
  readonly credentials: number;
  /** For IMDS's answers. IMDS also answers the noise. */
  readonly metadata: number;
}

interface Disturbance {
  readonly what: string;
  readonly noise: Noise;
  readonly env?: Readonly<Record<string, string>>;
  /** Checks the noise's answers by status in one round of so many seconds. */
  readonly expect?: (statuses: Readonly<Record<string, number>>, seconds: number) => void;
}

async function compare(t: TestContext, disturbance: Disturbance): Promise<void> {
  const { what, noise, env = {}, expect } = disturbance;
  const [others, hostile, metadata] = [new Thread(), new Thread(), new Thread()];
  const url = await metadata.order<string>({ do: 'serve', userData: 10 * 1024 * 1024 });
  const own = await hostWithOthers(t, { METADATA_URL: url, ...env });
  t.after(() => Promise.all([others.end(), hostile.end(), metadata.end()]));
  const { port } = own.proxy;
  const ask = async (): Promise<P99> => {
    const options = { port, addresses: OTHERS, requests: REQUESTS };
    const asked = await others.order<OthersResult>({ do: 'ask', options });
    assert.deepEqual(asked.wrong, []);
    for (const [address, keys] of Object.entries(asked.accessKeys)) {
      for (const key of keys) assert.equal(own.sts.issuedAs(key).call.roleArn, arnOf(address));
    }
    return { credentials: percentile(asked.credentials, 0.99), metadata: percentile(asked.metadata, 0.99) };
  };

  await ask();
  const rounds: { calm: P99; busy: P99 }[] = [];
  const answers: Record<string, number> = {};
  for (let round = 0; round < ROUNDS; round += 1) {
    const calm = await ask();
    const began = performance.now();
    await hostile.order({ do: 'disturb', options: { noise, port, from: HOSTILE } });
    await pause(NOISE_START_MS);
    rounds.push({ calm, busy: await ask() });
    const statuses = await hostile.order<Record<string, number>>({ do: 'stop' });
    expect?.(statuses, (performance.now() - began) / 1000);
    for (const [status, count] of Object.entries(statuses)) answers[status] = (answers[status] ?? 0) + count;
  }

  t.diagnostic(`${what}, answered ${JSON.stringify(answers)}`);
  for (const kind of ['credentials', 'metadata'] as const) {
    const [calm, busy] = [median(rounds.map((one) => one.calm[kind])), median(rounds.map((one) => one.busy[kind]))];
    const ratios = rounds.map((one) => (one.busy[kind] / one.calm[kind]).toFixed(2));
    const comparison = `the others' p99 for ${kind} ${busy.toFixed(2)} ms, without noise ${calm.toFixed(2)} ms: `
      + `${(busy / calm).toFixed(2)} × (${ratios.join(', ')})`;
    t.diagnostic(comparison);
    if (SOAK) assert.ok(busy <= MAX_RATIO * calm, comparison);
  }
}

async function hostWithOthers(t: TestContext, env: Readonly<Record<string, string>>): Promise<Host> {
  const own = await host(t, { env });
  for (const address of [...OTHERS, HOSTILE]) {
    await own.docker.host.run({ name: `at-${address}`, address, env: { IAM_ROLE: arnOf(address) } });
    assert.equal(await own.roleGiven(address), arnOf(address));
  }
  return own;
}

/** The rate limit permits so many answers per second, and a burst of the same size. */
function isRateLimited(statuses: Readonly<Record<string, number>>, seconds: number): void {
  const { 200: served = 0 } = statuses;
  assert.ok(served <= PER_SECOND * (seconds + 1), `${JSON.stringify(statuses)} in ${seconds} s`);
  assert.deepEqual(Object.keys(statuses).filter((status) => !['200', '429', '503'].includes(status)), []);
}

const USER_DATA = '/latest/user-data';

const DISTURBANCES: readonly Disturbance[] = [
  {
    what: '2,000 idle connections',
    noise: { kind: 'idle', connections: 2_000 },
    env: { READ_TIMEOUT: '1m' },
    expect: (statuses) => assert.deepEqual(statuses, { 503: 2_000 - PER_ADDRESS }),
  },
  { what: `${PER_ADDRESS} slow heads`, noise: { kind: 'slow heads', connections: PER_ADDRESS } },
  {
    what: '200 readers of 10 MB that read nothing',
    noise: { kind: 'slow readers', connections: 200, path: USER_DATA },
  },
  {
    what: '64 repeated readers of 10 MB',
    noise: { kind: 'fast readers', connections: 64, path: USER_DATA },
  },
  {
    what: 'a flood of credential requests on 64 connections',
    noise: { kind: 'flood', connections: 64, path: '/creds', pipelined: 1 },
    expect: isRateLimited,
  },
  {
    what: 'a flood of pass-through requests on 256 connections',
    noise: { kind: 'flood', connections: PER_ADDRESS, path: INSTANCE_ID_PATH, pipelined: 1 },
    expect: isRateLimited,
  },
  {
    what: 'a flood of 16 pipelined requests on 256 connections',
    noise: { kind: 'flood', connections: PER_ADDRESS, path: '/creds', pipelined: 16 },
    expect: isRateLimited,
  },
  {
    what: 'a flood of 2,000 pipelined requests on 200 connections',
    noise: { kind: 'flood', connections: 200, path: '/creds', pipelined: 2_000 },
    expect: isRateLimited,
  },
  {
    what: 'a flood of new connections, 64 at a time',
    noise: { kind: 'new connections', connections: 64, path: '/creds' },
    expect: isRateLimited,
  },
];

if (isMainThread) {
  for (const one of DISTURBANCES) {
    const promise = `the others' p99 is at most ${MAX_RATIO} times as long`;
    test(`${one.what} from one container: ${promise}`, (t) => compare(t, one));
  }
} else runOrders();
