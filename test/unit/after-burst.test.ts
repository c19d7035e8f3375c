import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AfterBurst } from '../../lib/util/after-burst.ts';
import { ManualClock } from './helpers/manual-clock.ts';

function setUp() {
  const clock = new ManualClock();
  let collections = 0;
  const afterBurst = new AfterBurst(clock, () => void (collections += 1));
  const answer = (requests: number): void => {
    for (let n = 0; n < requests; n += 1) afterBurst.answered();
  };
  return { clock, answer, collections: () => collections };
}

test('garbage is collected twice after a burst of requests, and then no more', async () => {
  const { clock, answer, collections } = setUp();
  answer(5_000);
  for (let second = 0; second < 30; second += 1) {
    answer(200);
    await clock.advance(1_000);
  }
  assert.equal(collections(), 0);
  await clock.advance(60_000);
  assert.equal(collections(), 2);
  answer(5_000);
  await clock.advance(60_000);
  assert.equal(collections(), 4, 'but after the next one');
});

test('few requests never cause a collection', async () => {
  const { clock, answer, collections } = setUp();
  answer(4_999);
  await clock.advance(3_600_000);
  assert.equal(collections(), 0);
});

test('this Node exposes the garbage collector', async () => {
  const clock = new ManualClock();
  const afterBurst = new AfterBurst(clock);
  const dead = (() => new WeakRef(new Array<number>(1000)))();
  for (let n = 0; n < 5_000; n += 1) afterBurst.answered();
  await clock.advance(3_000);
  assert.equal(dead.deref(), undefined);
});
