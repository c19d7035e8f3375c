import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { FairQueue } from '../../lib/http/fair-queue.ts';

test('each iteration of the event loop takes a limited number of requests of an address, in order', async () => {
  const queue = new FairQueue(2);
  const done: number[] = [];
  for (let piece = 1; piece <= 5; piece += 1) {
    const turn = queue.take('10.0.0.1');
    if (turn) void turn.then(() => done.push(piece));
    else done.push(piece);
  }
  assert.deepEqual(done, [1, 2]);
  await nextTurn();
  assert.deepEqual(done, [1, 2, 3, 4]);
  await nextTurn();
  assert.deepEqual(done, [1, 2, 3, 4, 5]);
});

test('an address is taken at once, however many requests of another one wait', () => {
  const queue = new FairQueue(1);
  assert.equal(queue.take('10.0.0.1'), undefined);
  for (let piece = 0; piece < 1_000; piece += 1) assert.ok(queue.take('10.0.0.1'));
  assert.equal(queue.take('10.0.0.2'), undefined);
});

test('a request that waited counts in the iteration that takes it', async () => {
  const queue = new FairQueue(1);
  queue.take('10.0.0.1');
  await queue.take('10.0.0.1');
  assert.ok(queue.take('10.0.0.1'));
});

test('after an iteration without requests an address is taken at once', async () => {
  const queue = new FairQueue(1);
  queue.take('10.0.0.1');
  await nextTurn();
  await nextTurn();
  assert.equal(queue.take('10.0.0.1'), undefined);
});
