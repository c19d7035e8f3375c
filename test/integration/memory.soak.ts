import assert from 'node:assert/strict';
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { test } from 'node:test';
import { collectsOnSignal } from '../support/forced-collection.ts';
import type { Journal } from '../support/journal.ts';
import { host, INSTANCE_ID_PATH, SECURITY_CREDENTIALS, TOKEN_PATH, TTL, type Host } from './host.ts';

const FULL = process.env['SOAK'] === '1';

/** The amounts of the load; the warm-up is a fraction of it. */
const AMOUNTS = FULL
  ? { requests: 5_000_000, paths: 100_000, tokens: 50_000, lives: 10_000 }
  : { requests: 200_000, paths: 10_000, tokens: 5_000, lives: 1_000 };
const WARM_UP = 0.1;
/** Lives of the warm-up: enough to reach the limit of 2,000 series of a metric. */
const FIRST_LIVES = 2_000;

/** The maximum growth of resident memory after the warm-up, in MB. */
const BOUND_MB = 10;
/** The maximum growth of V8's heap, where a leak is visible first: leaked credentials of 1,000 lives are 2 MB. */
const HEAP_BOUND_MB = FULL ? 5 : 2;
/** Every so many containers one is stopped instead of removed. The warm-up stops as many as the proxy remembers. */
const STOPPED_EVERY = 2;

const CONTAINERS = 8;
const CONNECTIONS_EACH = 4;
/** After so many requests the journals are cleared. */
const BATCH = 20_000;
const CONCURRENT_LIVES = 8;
/** One in so many requests passes through, because the fake IMDS takes a millisecond to check a path. */
const PROXIED_EVERY = 40;

const MB = 1024 * 1024;
const COLLECTED = 'garbage collected';

const COLLECTION = collectsOnSignal(`
      const heap = process.memoryUsage().heapUsed;
      process.stderr.write(JSON.stringify({ msg: '${COLLECTED}', heap }) + '\\n');`);

/** A share of the load: `count` requests of a kind, numbered from `first` on. */
interface Load {
  readonly kind: 'mixed' | 'paths' | 'tokens';
  readonly port: number;
  readonly first: number;
  readonly count: number;
}

/** The number of answers by status. */
type Statuses = Readonly<Record<string, number>>;

// A separate process, which runs this same file, sends the load.
if (process.send !== undefined && process.env['LOAD'] === 'yes') {
  process.on('message', (load: Load) => void answerLoad(load).then((statuses) => process.send?.(statuses)));
  process.on('disconnect', () => process.exit());
} else {
  test('memory is bounded: past requests and containers leave nothing behind', async (t) => {
    const at = await host(t, { env: {
      MAX_REQUESTS_PER_SECOND: '0',
      NODE_OPTIONS: COLLECTION,
    } });
    for (let n = 0; n < CONTAINERS; n += 1) {
      await at.docker.host.run({ address: addressOf(n), env: { IAM_ROLE: 'app' }, name: `caller-${n}` });
    }
    const client = fork(process.argv[1] ?? '', {
      env: { LOAD: 'yes' }, stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    t.after(() => client.disconnect());

    const began = performance.now();
    await work(at, client, 'warm-up', WARM_UP, FIRST_LIVES);
    const before = await restingMemory(at);
    t.diagnostic(`after the warm-up (${WARM_UP} of the load, ${FIRST_LIVES} lives): ${describe(before)}`);
    const done = await work(at, client, 'load', 1, AMOUNTS.lives);
    const after = await restingMemory(at);
    const seconds = (performance.now() - began) / 1000;
    t.diagnostic(`${AMOUNTS.requests} requests, ${AMOUNTS.paths} distinct paths, ${AMOUNTS.tokens} session tokens ` +
      `and ${AMOUNTS.lives} container lives later: ${describe(after)}; ` +
      `at most ${(await memoryOf(at.proxy.pid, 'VmHWM')).toFixed(1)} MB, ${Math.round(seconds)} s in all`);
    t.diagnostic(`answers by status: ${JSON.stringify(done)}`);
    const grown = { resident: after.resident - before.resident, heap: after.heap - before.heap };
    assert.ok(grown.heap <= HEAP_BOUND_MB, `${grown.heap.toFixed(1)} MB of heap more than after the warm-up`);
    assert.ok(grown.resident <= BOUND_MB, `${grown.resident.toFixed(1)} MB more than after the warm-up`);
  });
}

/** Runs a share of the load, with its own paths, tokens and containers. */
async function work(
  at: Host, client: ChildProcess, share: string, part: number, livesOfIt: number,
): Promise<Statuses> {
  const statuses: { [status: string]: number } = {};
  const first = share === 'load' ? 1e7 : 0;
  for (const [kind, amount] of [
    ['mixed', AMOUNTS.requests], ['paths', AMOUNTS.paths], ['tokens', AMOUNTS.tokens],
  ] as const) {
    for (let sent = 0; sent < amount * part; sent += BATCH) {
      const count = Math.min(BATCH, amount * part - sent);
      const answered = await sendLoad(client, { kind, port: at.proxy.port, first: first + sent, count });
      for (const [status, times] of Object.entries(answered)) {
        statuses[status] = (statuses[status] ?? 0) + times;
      }
      clearJournals(at);
    }
  }
  assert.deepEqual(Object.keys(statuses).sort(), ['200', '400', '404'], 'nothing failed');
  await lives(at, share, livesOfIt);
  return statuses;
}

/** Container lives, each with a different role. Some containers are stopped instead of removed. */
async function lives(at: Host, share: string, count: number): Promise<void> {
  let begun = 0;
  await Promise.all(Array.from({ length: CONCURRENT_LIVES }, async () => {
    while (begun < count) {
      const n = (begun += 1);
      const role = `${share}-${n}`;
      const container = await at.docker.host.run({ name: role, env: { IAM_ROLE: role }, labels: { team: role } });
      const address = container.connected.get('bridge')?.address ?? '';
      assert.match(await at.roleGiven(address) ?? '', new RegExp(`/${role}$`));
      if (n % STOPPED_EVERY === 0) at.docker.host.stop(container);
      else at.docker.host.remove(container);
      if (n % 500 === 0) clearJournals(at);
    }
  }));
}

/** The proxy's memory after a garbage collection, in MB. */
interface Memory {
  /** The minimum of several samples, because V8 returns memory gradually. */
  readonly resident: number;
  /** V8's used heap. */
  readonly heap: number;
}

async function restingMemory({ proxy }: Host): Promise<Memory> {
  const resident: number[] = [];
  const heap: number[] = [];
  for (let sample = 0; sample < 8; sample += 1) {
    const collected = proxy.logs.next(({ msg }) => msg === COLLECTED);
    proxy.signal('SIGUSR2');
    heap.push(Number((await collected).fields['heap']) / MB);
    resident.push(await memoryOf(proxy.pid, 'VmRSS'));
  }
  return { resident: Math.min(...resident), heap: Math.min(...heap) };
}

function describe({ resident, heap }: Memory): string {
  return `${resident.toFixed(1)} MB, of them ${heap.toFixed(1)} MB of heap in use`;
}

/** A value of /proc/{pid}/status, in MB. */
async function memoryOf(pid: number, name: 'VmRSS' | 'VmHWM'): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, 'm').exec(status)?.[1]) * 1024 / MB;
}

/** The fakes and the log record everything. */
function clearJournals({ docker, imds, sts, proxy }: Host): void {
  const journals: Pick<Journal<unknown>, 'clear'>[] = [
    docker.requests, docker.events, imds.requests, imds.closings, sts.calls, proxy.logs,
  ];
  for (const journal of journals) journal.clear();
}

async function sendLoad(client: ChildProcess, load: Load): Promise<Statuses> {
  client.send(load);
  const done = new AbortController();
  const { signal } = done;
  try {
    const [statuses] = await Promise.race([
      once(client, 'message', { signal }),
      once(client, 'exit', { signal }).then(() => Promise.reject(new Error('the client ended'))),
    ]) as [Statuses];
    return statuses;
  } finally {
    done.abort();
  }
}

function addressOf(container: number): string {
  return `127.0.1.${11 + container}`;
}

/** In the client process: sends the load over keep-alive connections, one request at a time on each. */
async function answerLoad(load: Load): Promise<Statuses> {
  const statuses: { [status: string]: number } = {};
  let sent = 0;
  const ask = (): string | undefined => {
    if (sent >= load.count) return undefined;
    sent += 1;
    return `${requestLine(load.kind, load.first + sent)}Host: 169.254.169.254\r\nUser-Agent: load\r\n\r\n`;
  };
  await Promise.all(Array.from({ length: CONTAINERS * CONNECTIONS_EACH }, (_, n) =>
    converse(load.port, addressOf(n % CONTAINERS), ask, (status) => {
      statuses[status] = (statuses[status] ?? 0) + 1;
    })));
  return statuses;
}

function requestLine(kind: Load['kind'], n: number): string {
  const get = (path: string): string => `GET ${path} HTTP/1.1\r\n`;
  switch (kind) {
    case 'tokens':
      return `PUT ${TOKEN_PATH} HTTP/1.1\r\n${TTL}: ${1 + n % 21_600}\r\n`;
    case 'paths':
      if (n % PROXIED_EVERY === 0) return get(`/latest/meta-data/tags/instance/${n}`);
      // Refused because of the role, the subtree, the encoding.
      return get([
        `${SECURITY_CREDENTIALS}app-${n}`, `/latest/meta-data/identity-credentials/${n}`, `/latest/%2525${n}`,
      ][n % 3] ?? '');
    case 'mixed':
      if (n % PROXIED_EVERY === 0) return get(INSTANCE_ID_PATH);
      return get([
        SECURITY_CREDENTIALS, `${SECURITY_CREDENTIALS}app`, SECURITY_CREDENTIALS, '/latest/meta-data/iam/',
        SECURITY_CREDENTIALS, '/creds', SECURITY_CREDENTIALS, '/latest/meta-data/iam/',
      ][n % 8] ?? '');
  }
}

/** One connection: sends the next request when the previous answer is complete, until `ask` returns none. */
function converse(
  port: number, from: string, ask: () => string | undefined, onAnswer: (status: string) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, localAddress: from, noDelay: true });
    let unread = '';
    const askNext = (): void => {
      const request = ask();
      if (request === undefined) socket.end();
      else socket.write(request, 'latin1');
    };
    socket.setEncoding('latin1').on('data', (chunk) => {
      unread += chunk;
      const headEnd = unread.indexOf('\r\n\r\n');
      if (headEnd < 0) return;
      const length = Number(/\r\ncontent-length: (\d+)/i.exec(unread.slice(0, headEnd))?.[1] ?? 0);
      if (unread.length < headEnd + 4 + length) return;
      onAnswer(unread.slice(9, 12));
      unread = '';
      askNext();
    });
    socket.once('connect', askNext);
    socket.once('error', reject);
    socket.once('close', () => resolve());
  });
}
