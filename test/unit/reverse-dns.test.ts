import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { lookup as systemLookup } from 'node:dns/promises';
import { once } from 'node:events';
import { test, type TestContext } from 'node:test';
import { CallerUndetermined } from '../../lib/caller.ts';
import { dnsName, hostsName, ReverseDns } from '../../lib/callers/reverse-dns.ts';
import type { Clock } from '../../lib/util/clock.ts';
import type { Container } from '../../lib/docker/container.ts';
import { aContainer } from './helpers/fixtures.ts';

const named = (...hostnames: string[]): Container[] =>
  hostnames.map((hostname, index) => aContainer({
    id: `${index}`.repeat(64),
    shortId: `${index}`.repeat(12),
    name: `container-${index}`,
    image: '',
    hostname,
  }));

/** Time that the test moves; a timer fires when its moment has come. */
class Time implements Clock {
  #now = 0;
  readonly #timers = new Set<{ at: number; action: () => void }>();
  readonly now = (): number => this.#now;
  readonly monotonic = (): number => this.#now;

  after(milliseconds: number, action: () => void): () => void {
    const timer = { at: this.#now + milliseconds, action };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  advance(milliseconds: number): void {
    this.#now += milliseconds;
    for (const timer of [...this.#timers]) {
      if (timer.at > this.#now) continue;
      this.#timers.delete(timer);
      timer.action();
    }
  }
}

function lookup(
  hostnames: string[],
  name: string | ((address: string, signal: AbortSignal) => Promise<string>),
  pattern = '^.*$',
) {
  const asked: string[] = [];
  const clock = new Time();
  const containers = named(...hostnames);
  const reverse = new ReverseDns({
    containers: () => containers,
    pattern: new RegExp(pattern),
    clock,
    nameOf: (address, signal) => {
      asked.push(address);
      return typeof name === 'string' ? Promise.resolve(name) : name(address, signal);
    },
  });
  return {
    reverse,
    asked,
    clock,
    containers,
    find: async (address = '10.0.0.7') => (await reverse.resolve(address))?.hostname,
  };
}

for (const [hostname, name, pattern, isFound] of [
  ['web.example.com', 'web.example.com', '^.*$', true],
  ['web.example.com', 'web.example.com.', '^.*$', true],
  ['Web.Example.com', 'wEB.example.COM', '^.*$', true],
  ['web.example.com', 'web.example.org', '^.*$', false],
  ['web', 'web.example.com', '^.*$', false],
  ['web', 'web.example.com', '^([^.]+)', true],
  ['web-2', 'web-1.example.com', '^([^.]+)', false],
  ['web-2', 'web-1.example.com', '^(web)-', true],
  ['web-2.a', 'web-1.b', '^(?:web)-', true],
  ['job', 'job', '^(web)-', false],
  ['', 'web', '^.*$', false],
  ['', '', '^.*$', false],
] as const) {
  test(`the name "${name}" ${isFound ? 'finds' : 'does not find'} the container "${hostname}" by ${pattern}`, async () => {
    assert.equal(await lookup([hostname], name, pattern).find(), isFound ? hostname : undefined);
  });
}

test("HOSTNAME_MATCH_REGEX matches from the beginning of both names, as in lyft's", async () => {
  // Otherwise whoever may choose a longer name has another one's role.
  assert.equal(await lookup(['web-1'], 'evil-web-1.example.com', 'web-(\\d+)').find(), undefined);
  assert.equal(await lookup(['web-1'], 'web-1.example.com', 'web-(\\d+)').find(), 'web-1');
});

test('a name that two containers share finds neither', async () => {
  const { find } = lookup(['web', 'job', 'web'], 'web');
  assert.equal(await find(), undefined);
});

test('an address without a name finds no container', async () => {
  assert.equal(await lookup(['web'], () => Promise.reject(new Error('ENOTFOUND'))).find(), undefined);
});

test('a lookup that takes more than a second finds no container', async () => {
  const { find, clock } = lookup(['web'], () => new Promise(() => {}));
  const found = find();
  clock.advance(1000);
  assert.equal(await found, undefined);
});

test('a name, or its absence, is cached for 5 seconds', async () => {
  let name: string | undefined = 'web';
  const { find, asked, clock } = lookup(['web', 'job'], () =>
    name === undefined ? Promise.reject(new Error('none')) : Promise.resolve(name),
  );
  assert.equal(await find(), 'web');
  name = undefined;
  clock.advance(4999);
  assert.equal(await find(), 'web');
  clock.advance(1);
  assert.equal(await find(), undefined);
  name = 'job';
  assert.equal(await find(), undefined);
  assert.equal(asked.length, 2);
  clock.advance(5000);
  assert.equal(await find(), 'job');
});

test('concurrent requests share a lookup, and each address has its own', async () => {
  const { find, asked } = lookup(['web'], 'web');
  await Promise.all([find('10.0.0.7'), find('10.0.0.7'), find('10.0.0.8')]);
  assert.deepEqual(asked, ['10.0.0.7', '10.0.0.8']);
});

test('at most 1,000 names are cached', async () => {
  const { find, asked } = lookup(['web'], 'web');
  for (let number = 0; number <= 1000; number += 1) await find(`10.0.${number >> 8}.${number & 255}`);
  await find('10.0.0.1');
  assert.equal(asked.length, 1001);
  await find('10.0.0.0');
  assert.equal(asked.length, 1002);
});

test('an ended container is not found by a cached name', async () => {
  const { find, containers } = lookup(['web'], 'web');
  assert.equal(await find(), 'web');
  containers.length = 0;
  assert.equal(await find(), undefined);
});

test('a name longer than a DNS name finds no container', async () => {
  const name = `${'a'.repeat(63)}.`.repeat(4).slice(0, -1);
  assert.equal(await lookup([name], name).find(), name);
  assert.equal(await lookup([`${name}a`], `${name}a`).find(), undefined);
});

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((resolved) => (resolve = resolved));
  return { promise, resolve };
}

test('look-ups run one at a time, and a slow one is given up after a second', async () => {
  const signals = new Map<string, AbortSignal>();
  const { promise: second, resolve: answerSecond } = deferred<string>();
  const { promise: secondAsked, resolve: askSecond } = deferred<undefined>();
  const { find, asked, clock } = lookup(['web'], (address, signal) => {
    signals.set(address, signal);
    if (address === '10.0.0.1') return new Promise(() => {});
    askSecond(undefined);
    return second;
  });
  const slow = find('10.0.0.1');
  clock.advance(500);
  const next = find('10.0.0.2');
  assert.deepEqual(asked, ['10.0.0.1']);
  clock.advance(500);
  assert.equal(await slow, undefined);
  await secondAsked;
  assert.deepEqual([signals.get('10.0.0.1')?.aborted, signals.get('10.0.0.2')?.aborted], [true, false]);
  answerSecond('web');
  assert.equal(await next, 'web');
});

test('a caller that waited a second for its turn is undetermined, and asks anew with its next request', async () => {
  let isSlow = true;
  const { find, asked, clock } = lookup(['web'], () => (isSlow ? new Promise(() => {}) : Promise.resolve('web')));
  const slow = find('10.0.0.1');
  const others = ['10.0.0.2', '10.0.0.3'].map((address) => assert.rejects(find(address), CallerUndetermined));
  clock.advance(1000);
  assert.equal(await slow, undefined);
  await Promise.all(others);
  assert.deepEqual(asked, ['10.0.0.1']);
  isSlow = false;
  assert.equal(await find('10.0.0.2'), 'web');
});

for (const [address, name] of [
  ['10.0.0.7', 'web.example.com'],
  ['10.0.0.8', undefined],
  ['10.0.0.9', 'first'],
  ['fd00::7', 'six'],
  ['10.0.0.10', undefined],
] as const) {
  test(`a hosts file gives ${address} the name ${name}`, () => {
    const file = '# 10.0.0.8 web\n10.0.0.7\tweb.example.com web # ours\n10.0.0.9 first\n10.0.0.9 second\nFD00:0::7 six\n10.0.0.10\n';
    assert.equal(hostsName(file, address), name);
  });
}

/** @param names answers with these PTR records; without them it never answers */
async function dnsServer(t: TestContext, names?: readonly string[]): Promise<{ address: string; queries: Socket }> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  t.after(() => socket.close());
  await once(socket, 'listening');
  socket.on('message', (query, from) => {
    if (!names) return;
    // The header with the number of answers, then the question, then the answers, whose name is the question's (RFC 1035).
    const end = query.indexOf(0, 12) + 5;
    const header = Buffer.from([...query.subarray(0, 2), 0x81, 0x80, 0, 1, 0, names.length, 0, 0, 0, 0]);
    const answers = names.map((name) => {
      const data = Buffer.from(`${name.split('.').map((label) => String.fromCharCode(label.length) + label).join('')}\0`, 'latin1');
      return Buffer.concat([Buffer.from([0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 1, 0, data.length]), data]);
    });
    socket.send(Buffer.concat([header, query.subarray(12, end), ...answers]), from.port, from.address);
  });
  return { address: `127.0.0.1:${socket.address().port}`, queries: socket };
}

test('the name of an address is the first that DNS has for it', async (t) => {
  const { signal } = new AbortController();
  const { address } = await dnsServer(t, ['web.example.com', 'other.example.com']);
  assert.equal(await dnsName('10.0.0.7', signal, [address]), 'web.example.com');
  assert.equal(await dnsName('fd00::7', signal, [address]), 'web.example.com');
  const none = await dnsServer(t, []);
  await assert.rejects(dnsName('10.0.0.7', signal, [none.address]));
});

test('look-ups that get no answer occupy no thread of Node, and end with their signal', async (t) => {
  const { address, queries } = await dnsServer(t);
  const controller = new AbortController();
  // Node has four threads for the system's own look-ups, such as that of the STS endpoint.
  const silent = Array.from({ length: 8 }, (_, index) => dnsName(`10.0.0.${index}`, controller.signal, [address]));
  const settled = Promise.allSettled(silent);
  await once(queries, 'message');
  await systemLookup('localhost');
  controller.abort();
  for (const { status } of await settled) assert.equal(status, 'rejected');
});
