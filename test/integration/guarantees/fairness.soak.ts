// One container against the others. Who asks, who disturbs and the metadata service are threads of their own, which
// what this thread does (it reads the log) cannot hold up, and rounds with and without the disturbance take turns, so
// that what this machine does besides is in both.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test, type TestContext } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { Imds, userDataOf } from '../../support/imds.ts';
import { host, INSTANCE_ID_PATH, type Host } from '../host.ts';
import { NuisanceMaker, type Nuisance, type NuisanceOptions } from './nuisance.ts';
import { askAsOthers, type OthersOptions, type OthersResult } from './others.ts';
import { arnOf, percentile, SOAK, sized } from './size.ts';

const HOSTILE = '127.0.9.9';
const OTHERS = [11, 12, 13, 14, 15, 16].map((host) => `127.0.0.${host}`);
/** The defaults of MAX_CONNECTIONS_PER_ADDRESS and MAX_REQUESTS_PER_SECOND. */
const PER_ADDRESS = 256;
const PER_SECOND = 200;
const ROUNDS = sized(2, 5);
/** Of each of the others, in one round. */
const REQUESTS = sized(200, 1_000);
/** What begins takes a moment in which the machine is busy with making connections. */
const SETTLED_MS = 1_000;
/** What README promises of the others' p99, against a round without disturbance. */
const MOST = 2;

/** What a thread of its own is asked for. */
type Order =
  | { readonly do: 'ask'; readonly options: OthersOptions }
  | { readonly do: 'disturb'; readonly options: NuisanceOptions }
  | { readonly do: 'stop' }
  /** As the metadata service, with user data of so many bytes. */
  | { readonly do: 'serve'; readonly userData: number };

class Aside {
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

function obey(): void {
  let maker: NuisanceMaker | undefined;
  const answerTo = async (order: Order): Promise<unknown> => {
    if (order.do === 'ask') return askAsOthers(order.options);
    if (order.do === 'stop') return maker?.stop();
    if (order.do === 'serve') return (await Imds.start({ userData: userDataOf(order.userData) })).url;
    maker = new NuisanceMaker(order.options);
    return maker.start();
  };
  parentPort?.on('message', (order: Order) => void answerTo(order).then((answer) => parentPort?.postMessage(answer)));
}

/** Of the others, in milliseconds. */
interface P99 {
  /** For their credentials, which the proxy answers itself. */
  readonly credentials: number;
  /** For what the metadata service answers, which is in the middle of whatever it has to do for the nuisance. */
  readonly metadata: number;
}

interface Disturbance {
  readonly what: string;
  readonly nuisance: Nuisance;
  readonly env?: Readonly<Record<string, string>>;
  /** Of the nuisance's answers, by status, in one round of so many seconds. */
  readonly expect?: (statuses: Readonly<Record<string, number>>, seconds: number) => void;
}

async function compare(t: TestContext, disturbance: Disturbance): Promise<void> {
  const { what, nuisance, env = {}, expect } = disturbance;
  const [others, hostile, metadata] = [new Aside(), new Aside(), new Aside()];
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
    await hostile.order({ do: 'disturb', options: { nuisance, port, from: HOSTILE } });
    await pause(SETTLED_MS);
    rounds.push({ calm, busy: await ask() });
    const statuses = await hostile.order<Record<string, number>>({ do: 'stop' });
    expect?.(statuses, (performance.now() - began) / 1000);
    for (const [status, count] of Object.entries(statuses)) answers[status] = (answers[status] ?? 0) + count;
  }

  t.diagnostic(`${what}, answered ${JSON.stringify(answers)}`);
  for (const kind of ['credentials', 'metadata'] as const) {
    const [calm, busy] = [median(rounds.map((one) => one.calm[kind])), median(rounds.map((one) => one.busy[kind]))];
    const ratios = rounds.map((one) => (one.busy[kind] / one.calm[kind]).toFixed(2));
    const said = `the others' p99 for ${kind} ${busy.toFixed(2)} ms, undisturbed ${calm.toFixed(2)} ms: `
      + `${(busy / calm).toFixed(2)} × (${ratios.join(', ')})`;
    t.diagnostic(said);
    if (SOAK) assert.ok(busy <= MOST * calm, said);
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

function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

/** So many a second are answered, and a burst of as many. */
function pace(statuses: Readonly<Record<string, number>>, seconds: number): void {
  const { 200: served = 0 } = statuses;
  assert.ok(served <= PER_SECOND * (seconds + 1), `${JSON.stringify(statuses)} in ${seconds} s`);
  assert.deepEqual(Object.keys(statuses).filter((status) => !['200', '429', '503'].includes(status)), []);
}

const USER_DATA = '/latest/user-data';

const DISTURBANCES: readonly Disturbance[] = [
  {
    what: '2,000 idle connections',
    nuisance: { kind: 'idle', connections: 2_000 },
    env: { READ_TIMEOUT: '1m' },
    expect: (statuses) => assert.deepEqual(statuses, { 503: 2_000 - PER_ADDRESS }),
  },
  { what: `${PER_ADDRESS} slow heads`, nuisance: { kind: 'slow heads', connections: PER_ADDRESS } },
  {
    what: '200 readers of 10 MB that read nothing',
    nuisance: { kind: 'slow readers', connections: 200, path: USER_DATA },
  },
  {
    what: '64 readers of 10 MB, over and over',
    nuisance: { kind: 'fast readers', connections: 64, path: USER_DATA },
  },
  {
    what: 'a flood for credentials on 64 connections',
    nuisance: { kind: 'flood', connections: 64, path: '/creds', abreast: 1 },
    expect: pace,
  },
  {
    what: 'a flood for the metadata service on 256 connections',
    nuisance: { kind: 'flood', connections: PER_ADDRESS, path: INSTANCE_ID_PATH, abreast: 1 },
    expect: pace,
  },
  {
    what: 'a flood of 16 requests behind each other on 256 connections',
    nuisance: { kind: 'flood', connections: PER_ADDRESS, path: '/creds', abreast: 16 },
    expect: pace,
  },
  {
    what: 'a flood of 2,000 requests behind each other on 200 connections',
    nuisance: { kind: 'flood', connections: 200, path: '/creds', abreast: 2_000 },
    expect: pace,
  },
  {
    what: 'a flood of new connections, 64 at a time',
    nuisance: { kind: 'new connections', connections: 64, path: '/creds' },
    expect: pace,
  },
];

if (isMainThread) {
  for (const one of DISTURBANCES) {
    const promise = `the others are served within ${MOST} × of their time`;
    test(`${one.what} from one container: ${promise}`, (t) => compare(t, one));
  }
} else obey();
