import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Waiters } from '../../lib/docker/waiters.ts';
import { ManualClock, settled } from './helpers/manual-clock.ts';
import { watch } from './helpers/promises.ts';

function setUp() {
  const clock = new ManualClock();
  return { clock, waiters: new Waiters(clock) };
}

test('a notification wakes every waiter of its key, and leaves no timer', async () => {
  const { clock, waiters } = setUp();
  const [one, two, other] = [watch(waiters.wait('a', 400)), watch(waiters.wait('a', 900)), watch(waiters.wait('b', 400))];
  waiters.notify('a');
  await settled();
  assert.deepEqual([one.state, two.state, other.state], ['fulfilled', 'fulfilled', 'pending']);
  assert.deepEqual(clock.pending, [400]);
});

test('a wait ends after its timeout', async () => {
  const { clock, waiters } = setUp();
  const waiting = watch(waiters.wait('a', 400));
  await clock.advance(399);
  assert.equal(waiting.state, 'pending');
  await clock.advance(1);
  assert.equal(waiting.state, 'fulfilled');
  waiters.notify('a'); // Nobody waits any more.
});

test('a wait without time left ends at once', async () => {
  const { clock, waiters } = setUp();
  const waiting = [watch(waiters.wait('a', 0)), watch(waiters.wait('a', -1))];
  await settled();
  assert.deepEqual([waiting.map(({ state }) => state), clock.pending], [['fulfilled', 'fulfilled'], []]);
});

test('a miss is cached for 5 s, however often it is repeated', async () => {
  const { clock, waiters } = setUp();
  const asked = clock.monotonic();
  assert.equal(waiters.isMiss('a'), false);
  waiters.cacheMiss('a');
  await clock.advance(3_000);
  waiters.cacheMiss('a');
  await clock.advance(2_000);
  assert.deepEqual([waiters.isMiss('a'), waiters.isMiss('b')], [true, false]);
  await clock.advance(1);
  assert.deepEqual([waiters.isMiss('a'), waiters.isMiss('a', asked)], [false, true]);
});

test('a notification forgets the cached miss, and forgetMiss wakes nobody', async () => {
  const { waiters } = setUp();
  for (const key of ['a', 'b']) waiters.cacheMiss(key);
  const waiting = watch(waiters.wait('b', 400));
  waiters.notify('a');
  waiters.forgetMiss('b');
  await settled();
  assert.deepEqual([waiters.isMiss('a'), waiters.isMiss('b'), waiting.state], [false, false, 'pending']);
});

test('the time of a miss stays known after its TTL', async () => {
  const { clock, waiters } = setUp();
  const at = clock.monotonic();
  waiters.cacheMiss('a');
  await clock.advance(60_000);
  assert.deepEqual([waiters.missedAt('a'), waiters.missedAt('b')], [at, -Infinity]);
});

test('no more than a thousand misses are kept', () => {
  const { waiters } = setUp();
  for (let index = 0; index <= 1_000; index += 1) waiters.cacheMiss(`key ${index}`);
  assert.deepEqual([waiters.isMiss('key 0'), waiters.isMiss('key 1000')], [false, true]);
});
