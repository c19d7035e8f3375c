import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LogDeduplicator } from '../../lib/log/deduplicator.ts';
import { ManualClock } from './helpers/manual-clock.ts';

function setUp() {
  const clock = new ManualClock();
  const repeats = new LogDeduplicator(clock.monotonic, clock.after.bind(clock));
  const told: [string, number][] = [];
  const fold = (what: string, detail = what): void => repeats.deduplicate(what, (repeated) => told.push([detail, repeated]));
  return { clock, repeats, told, fold };
}

test('the first is told at once, and others of its kind are counted for a minute', async () => {
  const { clock, repeats } = setUp();
  assert.deepEqual([repeats.count('a'), repeats.count('a'), repeats.count('b')], [0, undefined, 0]);
  await clock.advance(60_000);
  assert.deepEqual([repeats.count('a'), repeats.count('b')], [1, 0]);
});

test('what was folded is told at the end of the minute, the last one for all, though nothing comes any more', async () => {
  const { clock, told, fold } = setUp();
  for (const detail of ['first', 'second', 'third', 'fourth']) fold('a', detail);
  fold('b');
  assert.deepEqual(told, [['first', 0], ['b', 0]]);
  await clock.advance(59_999);
  assert.equal(told.length, 2);
  await clock.advance(1);
  assert.deepEqual(told.slice(2), [['fourth', 2]], 'two others were not told');
  await clock.advance(600_000);
  assert.equal(told.length, 3);
});

test('what goes on and on is told once a minute', async () => {
  const { clock, told, fold } = setUp();
  for (let second = 0; second < 300; second += 1) {
    fold('a');
    await clock.advance(1_000);
  }
  assert.equal(told.length, 6);
  assert.equal(told.reduce((sum, [, repeated]) => sum + 1 + repeated, 0), 300, 'and each is counted once');
});

test('what was told the longest ago makes room', () => {
  const { told, fold } = setUp();
  for (let kind = 0; kind <= 1_000; kind += 1) fold(String(kind));
  told.length = 0;
  fold('0');
  fold('1000');
  assert.deepEqual(told, [['0', 0]]);
});
