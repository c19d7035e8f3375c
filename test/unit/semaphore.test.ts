import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Places } from '../../lib/http/semaphore.ts';
import { ManualClock } from './helpers/manual-clock.ts';
import { watch } from './helpers/promises.ts';

test('each address has so many places, which have nothing to do with those of others', () => {
  const places = new Places(2, 1_000, new ManualClock());
  assert.deepEqual([places.take('a'), places.take('a'), places.take('b')], [true, true, true]);
  assert.ok(places.take('a') instanceof Promise);
  assert.equal(places.take('b'), true);
});

test('a place that is left goes to whoever has waited the longest', async () => {
  const clock = new ManualClock();
  const places = new Places(1, 1_000, clock);
  assert.equal(places.take('a'), true);
  const [first, second] = [places.take('a'), places.take('a')].map((taken) => watch(Promise.resolve(taken)));
  places.leave('a');
  await clock.advance(999);
  assert.deepEqual([first?.state, first?.value, second?.state], ['fulfilled', true, 'pending']);
  places.leave('a');
  await clock.advance(10_000);
  assert.deepEqual([second?.state, second?.value], ['fulfilled', true]);
});

test('who waits in vain is told so, and takes no place later', async () => {
  const clock = new ManualClock();
  const places = new Places(1, 1_000, clock);
  places.take('a');
  const waiting = watch(Promise.resolve(places.take('a')));
  await clock.advance(1_000);
  assert.deepEqual([waiting.state, waiting.value], ['fulfilled', false]);
  places.leave('a');
  assert.equal(places.take('a'), true, 'it is free again');
});
