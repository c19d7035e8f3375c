import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Semaphore } from '../../lib/http/semaphore.ts';
import { ManualClock } from './helpers/manual-clock.ts';
import { watch } from './helpers/promises.ts';

test('each address has so many places, which have nothing to do with those of others', () => {
  const places = new Semaphore(2, 1_000, new ManualClock());
  assert.deepEqual([places.acquire('a'), places.acquire('a'), places.acquire('b')], [true, true, true]);
  assert.ok(places.acquire('a') instanceof Promise);
  assert.equal(places.acquire('b'), true);
});

test('a place that is left goes to whoever has waited the longest', async () => {
  const clock = new ManualClock();
  const places = new Semaphore(1, 1_000, clock);
  assert.equal(places.acquire('a'), true);
  const [first, second] = [places.acquire('a'), places.acquire('a')].map((taken) => watch(Promise.resolve(taken)));
  places.release('a');
  await clock.advance(999);
  assert.deepEqual([first?.state, first?.value, second?.state], ['fulfilled', true, 'pending']);
  places.release('a');
  await clock.advance(10_000);
  assert.deepEqual([second?.state, second?.value], ['fulfilled', true]);
});

test('who waits in vain is told so, and takes no place later', async () => {
  const clock = new ManualClock();
  const places = new Semaphore(1, 1_000, clock);
  places.acquire('a');
  const waiting = watch(Promise.resolve(places.acquire('a')));
  await clock.advance(1_000);
  assert.deepEqual([waiting.state, waiting.value], ['fulfilled', false]);
  places.release('a');
  assert.equal(places.acquire('a'), true, 'it is free again');
});
