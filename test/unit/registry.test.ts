import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Registry } from '../../lib/docker/registry.ts';
import { Tombstones } from '../../lib/docker/tombstones.ts';
import { Waiters } from '../../lib/docker/waiters.ts';
import type { Container } from '../../lib/docker/container.ts';
import { aContainer } from './helpers/fixtures.ts';
import { ManualClock, settled } from './helpers/manual-clock.ts';
import { watch } from './helpers/promises.ts';

const IP = '172.17.0.2';

function setUp() {
  const waiters = new Waiters(new ManualClock());
  const registry = new Registry(waiters);
  const reported: string[] = [];
  registry.subscribe({
    known: ({ id }) => reported.push(`known ${id}`),
    started: ({ id }) => reported.push(`started ${id}`),
    ended: ({ id }) => reported.push(`ended ${id}`),
  });
  const describe = (id: string, more: Partial<Container> = {}) => {
    const entry = registry.ensure(id);
    registry.describe(entry, aContainer({ id, ...more }));
    return entry;
  };
  const peersOf = (id: string): string[] => [...registry.peersOf(id)].map((peer) => peer.id);
  return { waiters, registry, reported, describe, peersOf };
}

test('a container is reported once as known, started and ended', () => {
  const { registry, reported, describe } = setUp();
  const entry = describe('a');
  for (let times = 0; times < 2; times += 1) {
    describe('a');
    registry.start(entry);
  }
  for (let times = 0; times < 2; times += 1) registry.remove('a', true);
  assert.deepEqual(reported, ['known a', 'started a', 'ended a']);
});

test('an address announced before the container is known starts it once it is', () => {
  const { registry, reported, describe } = setUp();
  registry.setAddresses(registry.ensure('a'), 'bridge', [IP]);
  assert.deepEqual(reported, []);
  describe('a');
  assert.deepEqual(reported, ['known a', 'started a']);
});

test('a description of an entry that was forgotten meanwhile is ignored', () => {
  const { registry, reported } = setUp();
  const entry = registry.ensure('a');
  registry.remove('a', true);
  registry.describe(entry, aContainer({ id: 'a' }));
  assert.deepEqual([reported, registry.entry('a')], [[], undefined]);
});

test('a forgotten container leaves no address behind', () => {
  const { registry } = setUp();
  registry.setAddresses(registry.ensure('unknown'), 'bridge', [IP]);
  registry.remove('unknown', false);
  registry.setAddresses(registry.ensure('unknown'), 'bridge', [IP]);
  for (let index = 0; index < 1_000; index += 1) registry.remove(registry.ensure(`c${index}`).id, false);
  assert.deepEqual([registry.entry('unknown'), registry.addresses.owners(IP)], [undefined, []]);
});

test('a new owner of an address wakes who waits for it', async () => {
  const { registry, waiters } = setUp();
  const waiting = watch(waiters.wait(IP, 400));
  registry.setAddresses(registry.ensure('a'), 'bridge', [IP]);
  await settled();
  assert.equal(waiting.state, 'fulfilled');
});

test('peers are indexed by the owner of their network, in the order of their starts', async () => {
  const { registry, waiters, describe, peersOf } = setUp();
  const network = { sharedWith: 'owner' };
  const [one, two] = [describe('one', { network }), describe('two', { network })];
  const waiting = watch(waiters.wait('owner', 400));
  registry.start(two);
  await settled();
  assert.equal(waiting.state, 'fulfilled');
  registry.start(one);
  assert.deepEqual(peersOf('owner'), ['two', 'one']);
  registry.remove('two', true);
  assert.deepEqual([peersOf('owner'), peersOf('other')], [['one'], []]);
});

test('a new peer, and one that ended, make it worth to wait for the peers again', () => {
  const { registry, waiters, describe } = setUp();
  const network = { sharedWith: 'owner' };
  waiters.cacheMiss('owner');
  registry.start(describe('a', { network }));
  assert.equal(waiters.isMiss('owner'), false);
  waiters.cacheMiss('owner');
  registry.remove('a', false);
  assert.equal(waiters.isMiss('owner'), false);
});

test('a container that shares a network has no addresses of its own, and claims none', () => {
  const { registry, describe } = setUp();
  const entry = describe('a', { network: { sharedWith: 'owner' }, labelledAddress: '10.42.0.2' });
  registry.setAddresses(entry, 'bridge', [IP]);
  registry.start(entry);
  assert.deepEqual([registry.addresses.owners(IP), registry.addresses.owners('10.42.0.2')], [[], []]);
});

test('a started container has the address that its label claims, unless another one was assigned it', () => {
  const { registry, describe } = setUp();
  registry.start(describe('claims', { labelledAddress: IP }));
  assert.equal(registry.addresses.soleOwner(IP)?.id, 'claims');
  registry.setAddresses(describe('assigned'), 'bridge', [IP]);
  assert.equal(registry.addresses.soleOwner(IP)?.id, 'assigned');
});

test('tombstones name what was removed while they were open', async () => {
  const { registry, describe } = setUp();
  for (const id of ['a', 'b', 'c']) describe(id);
  registry.remove('a', false);
  let seen = new Tombstones();
  await registry.withTombstones(async (tombstones) => {
    seen = tombstones;
    registry.removeEndpoint('b', 'bridge');
    registry.remove('c', true);
  });
  registry.removeEndpoint('b', 'second');
  assert.deepEqual(['a', 'b', 'c'].map((id) => seen.hasContainer(id)), [false, false, true]);
  const endpoints = [['a', 'bridge'], ['b', 'bridge'], ['b', 'second'], ['c', 'any']] as const;
  assert.deepEqual(endpoints.map(([id, network]) => seen.hasEndpoint(id, network)), [false, true, false, true]);
});

test('a list that replaces everything makes other lookups stale, and ends what it does not show', async () => {
  const { registry, reported, describe } = setUp();
  for (const id of ['gone', 'stopped', 'running']) {
    registry.setAddresses(describe(id), 'bridge', [`of ${id}`]);
    registry.start(registry.ensure(id));
  }
  await registry.withTombstones((older) =>
    registry.withTombstones(async (own) => {
      registry.replaceAll(new Set(['running']), new Set(['running', 'stopped']), own);
      assert.deepEqual([older.hasContainer('running'), own.hasContainer('running')], [true, false]);
    }),
  );
  assert.deepEqual(reported.slice(-2).toSorted(), ['ended gone', 'ended stopped']);
  assert.deepEqual([registry.entry('gone'), registry.entry('stopped')?.started], [undefined, false]);
  assert.equal(registry.addresses.hasAddresses(registry.ensure('running')), false);
});

test('an entry that only a question has made is forgotten; one that an event has made is not', () => {
  const { registry, describe } = setUp();
  registry.setRunning(registry.ensure('running'));
  registry.setAddresses(registry.ensure('connected'), 'bridge', [IP]);
  describe('known');
  for (const id of ['running', 'connected', 'known', 'asked']) registry.forgetIfEmpty(registry.ensure(id).id);
  assert.deepEqual(
    ['running', 'connected', 'known', 'asked'].map((id) => registry.entry(id)?.id),
    ['running', 'connected', 'known', undefined],
  );
});
