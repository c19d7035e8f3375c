import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sleep, systemClock, withTimeout } from '../../lib/util/clock.ts';
import { ManualClock, settled } from './helpers/manual-clock.ts';
import { deferred, watch } from './helpers/promises.ts';

test('withTimeout returns an answer in time, and leaves no timer', async () => {
  const clock = new ManualClock();
  const { promise, resolve } = deferred<string>();
  const answer = watch(withTimeout(clock, 100, promise, () => new Error('late')));
  await clock.advance(99);
  assert.equal(answer.state, 'pending');
  resolve('in time');
  await settled();
  assert.equal(answer.value, 'in time');
  assert.deepEqual(clock.pending, []);
});

test('withTimeout rejects with an error in time', async () => {
  const clock = new ManualClock();
  const answer = watch(withTimeout(clock, 100, Promise.reject(new Error('broken')), () => new Error('late')));
  await settled();
  assert.match(String(answer.error), /broken/);
  assert.deepEqual(clock.pending, []);
});

test('a late answer or error is ignored', async () => {
  const clock = new ManualClock();
  const late = deferred<string>();
  const answer = watch(withTimeout(clock, 100, late.promise, () => new Error('late')));
  await clock.advance(100);
  assert.match(String(answer.error), /late/);
  late.reject(new Error('broken'));
  await settled();
  assert.match(String(answer.error), /late/);
});

test('sleep waits for the given time', async () => {
  const clock = new ManualClock();
  const over = watch(sleep(clock, 50));
  await clock.advance(49);
  assert.equal(over.state, 'pending');
  await clock.advance(1);
  assert.equal(over.state, 'fulfilled');
});

test("the system clock returns the time, and its timers can be cancelled", async () => {
  assert.ok(Math.abs(systemClock.now() - Date.now()) < 1000);
  let fired = '';
  const cancel = systemClock.after(0, () => (fired += 'cancelled'));
  cancel();
  // The clock's timers do not keep the process alive, so this one does.
  const alive = setInterval(() => {}, 1000);
  await new Promise<void>((resolve) => systemClock.after(-Infinity, () => resolve()));
  await new Promise<void>((resolve) => systemClock.after(1, () => resolve()));
  clearInterval(alive);
  assert.equal(fired, '');
});

test('a time beyond the maximum of setTimeout does not fire at once', async () => {
  let fired = false;
  const cancel = systemClock.after(2 ** 40, () => (fired = true));
  const alive = setInterval(() => {}, 1000);
  await new Promise<void>((resolve) => systemClock.after(20, () => resolve()));
  clearInterval(alive);
  cancel();
  assert.ok(!fired);
});
