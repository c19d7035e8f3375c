import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Semaphore } from '../../lib/http/semaphore.ts';
import { ManualClock } from './helpers/manual-clock.ts';
import { watch } from './helpers/promises.ts';

test('each address has permits of its own', () => {
  const semaphore = new Semaphore(2, 1_000, new ManualClock());
  assert.deepEqual([semaphore.acquire('a'), semaphore.acquire('a'), semaphore.acquire('b')], [true, true, true]);
  assert.ok(semaphore.acquire('a') instanceof Promise);
  assert.equal(semaphore.acquire('b'), true);
});

test('a released permit goes to the request that has waited the longest', async () => {
  const clock = new ManualClock();
  const semaphore = new Semaphore(1, 1_000, clock);
  assert.equal(semaphore.acquire('a'), true);
  const [first, second] = [semaphore.acquire('a'), semaphore.acquire('a')].map((taken) => watch(Promise.resolve(taken)));
  semaphore.release('a');
  await clock.advance(999);
  assert.deepEqual([first?.state, first?.value, second?.state], ['fulfilled', true, 'pending']);
  semaphore.release('a');
  await clock.advance(10_000);
  assert.deepEqual([second?.state, second?.value], ['fulfilled', true]);
});

test('a request that times out gets no permit later', async () => {
  const clock = new ManualClock();
  const semaphore = new Semaphore(1, 1_000, clock);
  semaphore.acquire('a');
  const waiting = watch(Promise.resolve(semaphore.acquire('a')));
  await clock.advance(1_000);
  assert.deepEqual([waiting.state, waiting.value], ['fulfilled', false]);
  semaphore.release('a');
  assert.equal(semaphore.acquire('a'), true, 'it is free again');
});
