import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ReverseDns } from '../../lib/callers/reverse-dns.ts';
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
  name: string | ((address: string) => Promise<string>),
  pattern = '^.*$',
) {
  const asked: string[] = [];
  const clock = new Time();
  const containers = named(...hostnames);
  const reverse = new ReverseDns({
    containers: () => containers,
    pattern: new RegExp(pattern),
    clock,
    nameOf: (address) => {
      asked.push(address);
      return typeof name === 'string' ? Promise.resolve(name) : name(address);
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
