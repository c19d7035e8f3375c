import assert from 'node:assert/strict';
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { test } from 'node:test';
import type { Journal } from '../support/journal.ts';
import { host, INSTANCE_ID_PATH, SECURITY_CREDENTIALS, TOKEN_PATH, TTL, type Host } from './host.ts';

const FULL = process.env['SOAK'] === '1';

/** How much of each is asked for; before it, for a warm-up, a part of that. */
const AMOUNTS = FULL
  ? { requests: 5_000_000, paths: 100_000, tokens: 50_000, lives: 10_000 }
  : { requests: 200_000, paths: 10_000, tokens: 5_000, lives: 1_000 };
const WARM_UP = 0.1;
/** Lives of the warm-up: enough to fill what is kept up to a bound, which is 2,000 series of a metric. */
const FIRST_LIVES = 2_000;

/** How much more memory may be in use at the end than after the warm-up, in MB. */
const BOUND_MB = 10;
/** And how much of it may be V8's heap, where a leak shows first: 1,000 lives that leave their credentials are 2 MB. */
const HEAP_BOUND_MB = FULL ? 5 : 2;
/** Of so many containers one stays behind, stopped, when it has ended: the warm-up leaves as many as are remembered. */
const STAYS_BEHIND_EVERY = 2;

const CONTAINERS = 8;
const CONNECTIONS_EACH = 4;
/** So many requests between two looks at what the stand-ins and the log have gathered. */
const BATCH = 20_000;
const CONCURRENT_LIVES = 8;
/** The stand-in takes a millisecond to find every path that can be read into a request. */
const PASSED_THROUGH_EVERY = 40;

const MB = 1024 * 1024;
const COLLECTED = 'garbage collected';

// V8 collects when it sees fit, which is hardly ever in a process with nothing to do; so what it has yet to
// collect would be taken for a leak. Nothing of the program is different with this loaded beside it.
const COLLECT_ON_DEMAND = `
  import { setFlagsFromString } from 'node:v8';
  import { runInNewContext } from 'node:vm';
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc');
  process.on('SIGUSR2', () => {
    collect();
    const heap = process.memoryUsage().heapUsed;
    process.stderr.write(JSON.stringify({ msg: '${COLLECTED}', heap }) + '\\n');
  });`;

/** A part of the load: `count` requests of a kind, numbered from `first` on. */
interface Load {
  readonly kind: 'mixed' | 'paths' | 'tokens';
  readonly port: number;
  readonly first: number;
  readonly count: number;
}

/** How often each status was answered. */
type Statuses = Readonly<Record<string, number>>;

// The load comes from a process of its own, which is this file again.
if (process.send !== undefined && process.env['LOAD'] === 'yes') {
  process.on('message', (load: Load) => void answerLoad(load).then((statuses) => process.send?.(statuses)));
  process.on('disconnect', () => process.exit());
} else {
  test('memory is bounded: what has been asked, and who has lived, leaves nothing behind', async (t) => {
    const at = await host(t, { env: {
      MAX_REQUESTS_PER_SECOND: '0',
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(COLLECT_ON_DEMAND)}`,
    } });
    for (let n = 0; n < CONTAINERS; n += 1) {
      await at.docker.host.run({ address: addressOf(n), env: { IAM_ROLE: 'app' }, name: `asker-${n}` });
    }
    const client = fork(process.argv[1] ?? '', {
      env: { LOAD: 'yes' }, stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    t.after(() => client.disconnect());

    const began = performance.now();
    await work(at, client, 'warm-up', WARM_UP, FIRST_LIVES);
    const before = await restingMemory(at);
    t.diagnostic(`after the warm-up (${WARM_UP} of the load, ${FIRST_LIVES} lives): ${inWords(before)}`);
    const done = await work(at, client, 'load', 1, AMOUNTS.lives);
    const after = await restingMemory(at);
    const seconds = (performance.now() - began) / 1000;
    t.diagnostic(`${AMOUNTS.requests} requests, ${AMOUNTS.paths} distinct paths, ${AMOUNTS.tokens} session tokens ` +
      `and ${AMOUNTS.lives} container lives later: ${inWords(after)}; ` +
      `at most ${(await memoryOf(at.proxy.pid, 'VmHWM')).toFixed(1)} MB, ${Math.round(seconds)} s in all`);
    t.diagnostic(`answers by status: ${JSON.stringify(done)}`);
    const grown = { resident: after.resident - before.resident, heap: after.heap - before.heap };
    assert.ok(grown.heap <= HEAP_BOUND_MB, `${grown.heap.toFixed(1)} MB of heap more than after the warm-up`);
    assert.ok(grown.resident <= BOUND_MB, `${grown.resident.toFixed(1)} MB more than after the warm-up`);
  });
}

/** Does `share` of everything; a share has paths, tokens and containers of its own. */
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
      forgetSeen(at);
    }
  }
  assert.deepEqual(Object.keys(statuses).sort(), ['200', '400', '404'], 'nothing failed');
  await lives(at, share, livesOfIt);
  return statuses;
}

/** Container lives, each with a role of its own: some of the containers stay behind when they have ended. */
async function lives(at: Host, share: string, count: number): Promise<void> {
  let begun = 0;
  await Promise.all(Array.from({ length: CONCURRENT_LIVES }, async () => {
    while (begun < count) {
      const n = (begun += 1);
      const role = `${share}-${n}`;
      const container = await at.docker.host.run({ name: role, env: { IAM_ROLE: role }, labels: { team: role } });
      const address = container.connected.get('bridge')?.address ?? '';
      assert.match(await at.roleGiven(address) ?? '', new RegExp(`/${role}$`));
      if (n % STAYS_BEHIND_EVERY === 0) at.docker.host.stop(container);
      else at.docker.host.remove(container);
      if (n % 500 === 0) forgetSeen(at);
    }
  }));
}

/** What the proxy needs when its garbage is collected, in MB. */
interface Memory {
  /** The least of some looks, because V8 gives back by and by what it has done with. */
  readonly resident: number;
  /** Of V8's heap, in use. */
  readonly heap: number;
}

async function restingMemory({ proxy }: Host): Promise<Memory> {
  const resident: number[] = [];
  const heap: number[] = [];
  for (let look = 0; look < 8; look += 1) {
    const collected = proxy.logs.next(({ msg }) => msg === COLLECTED);
    proxy.signal('SIGUSR2');
    heap.push(Number((await collected).fields['heap']) / MB);
    resident.push(await memoryOf(proxy.pid, 'VmRSS'));
  }
  return { resident: Math.min(...resident), heap: Math.min(...heap) };
}

function inWords({ resident, heap }: Memory): string {
  return `${resident.toFixed(1)} MB, of them ${heap.toFixed(1)} MB of heap in use`;
}

/** A figure of /proc/{pid}/status, in MB. */
async function memoryOf(pid: number, name: 'VmRSS' | 'VmHWM'): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, 'm').exec(status)?.[1]) * 1024 / MB;
}

/** The stand-ins and the log keep everything that they have seen. */
function forgetSeen({ docker, imds, sts, proxy }: Host): void {
  const journals: Pick<Journal<unknown>, 'clear'>[] = [
    docker.requests, docker.events, imds.requests, imds.closings, sts.calls, proxy.logs,
  ];
  for (const journal of journals) journal.clear();
}

async function sendLoad(client: ChildProcess, load: Load): Promise<Statuses> {
  client.send(load);
  const over = new AbortController();
  const { signal } = over;
  try {
    const [statuses] = await Promise.race([
      once(client, 'message', { signal }),
      once(client, 'exit', { signal }).then(() => Promise.reject(new Error('the client ended'))),
    ]) as [Statuses];
    return statuses;
  } finally {
    over.abort();
  }
}

function addressOf(container: number): string {
  return `127.0.1.${11 + container}`;
}

/** In the client: sends the load over kept connections, one request at a time on each. */
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
      if (n % PASSED_THROUGH_EVERY === 0) return get(`/latest/meta-data/tags/instance/${n}`);
      // Refused by the role, by the subtree, by the reading.
      return get([
        `${SECURITY_CREDENTIALS}app-${n}`, `/latest/meta-data/identity-credentials/${n}`, `/latest/%2525${n}`,
      ][n % 3] ?? '');
    case 'mixed':
      if (n % PASSED_THROUGH_EVERY === 0) return get(INSTANCE_ID_PATH);
      return get([
        SECURITY_CREDENTIALS, `${SECURITY_CREDENTIALS}app`, SECURITY_CREDENTIALS, '/latest/meta-data/iam/',
        SECURITY_CREDENTIALS, '/creds', SECURITY_CREDENTIALS, '/latest/meta-data/iam/',
      ][n % 8] ?? '');
  }
}

/** One connection: the next request when the answer to the last one is whole, until `ask` has none. */
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
