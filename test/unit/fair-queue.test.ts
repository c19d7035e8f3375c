import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { FairQueue } from '../../lib/http/fair-queue.ts';

test('an address has so much done in a turn of the event loop, and the rest in the next ones, in order', async () => {
  const turns = new FairQueue(2);
  const done: number[] = [];
  for (let piece = 1; piece <= 5; piece += 1) {
    const turn = turns.take('10.0.0.1');
    if (turn) void turn.then(() => done.push(piece));
    else done.push(piece);
  }
  assert.deepEqual(done, [1, 2]);
  await nextTurn();
  assert.deepEqual(done, [1, 2, 3, 4]);
  await nextTurn();
  assert.deepEqual(done, [1, 2, 3, 4, 5]);
});

test('another address has its turn at once, however many of the first one\'s wait', () => {
  const turns = new FairQueue(1);
  assert.equal(turns.take('10.0.0.1'), undefined);
  for (let piece = 0; piece < 1_000; piece += 1) assert.ok(turns.take('10.0.0.1'));
  assert.equal(turns.take('10.0.0.2'), undefined);
});

test('who has waited has the turn that was waited for, and no second one in it', async () => {
  const turns = new FairQueue(1);
  turns.take('10.0.0.1');
  await turns.take('10.0.0.1');
  assert.ok(turns.take('10.0.0.1'));
});

test('after a turn in which nothing was wanted there is a turn at once', async () => {
  const turns = new FairQueue(1);
  turns.take('10.0.0.1');
  await nextTurn();
  await nextTurn();
  assert.equal(turns.take('10.0.0.1'), undefined);
});
