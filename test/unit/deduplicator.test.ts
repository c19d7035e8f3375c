import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LogDeduplicator } from '../../lib/log/deduplicator.ts';
import { ManualClock } from './helpers/manual-clock.ts';

function setUp() {
  const clock = new ManualClock();
  const deduplicator = new LogDeduplicator(clock);
  const reported: [string, number][] = [];
  const deduplicate = (kind: string, detail = kind): void =>
    deduplicator.deduplicate(kind, (suppressed) => reported.push([detail, suppressed]));
  return { clock, reported, deduplicate };
}

test('the first message is reported at once; the last duplicate is reported at the end of the minute, with the suppressed count', async () => {
  const { clock, reported, deduplicate } = setUp();
  for (const detail of ['first', 'second', 'third', 'fourth']) deduplicate('a', detail);
  deduplicate('b');
  assert.deepEqual(reported, [['first', 0], ['b', 0]]);
  await clock.advance(59_999);
  assert.equal(reported.length, 2);
  await clock.advance(1);
  assert.deepEqual(reported.slice(2), [['fourth', 2]]);
  await clock.advance(600_000);
  assert.equal(reported.length, 3);
});

test('a message after a minute without one is reported at once', async () => {
  const { clock, reported, deduplicate } = setUp();
  deduplicate('a', 'first');
  await clock.advance(60_000);
  deduplicate('a', 'second');
  assert.deepEqual(reported, [['first', 0], ['second', 0]]);
});

test('a message that never ends is reported once a minute, and each is counted once', async () => {
  const { clock, reported, deduplicate } = setUp();
  for (let second = 0; second < 300; second += 1) {
    deduplicate('a');
    await clock.advance(1_000);
  }
  assert.equal(reported.length, 6);
  assert.equal(reported.reduce((sum, [, suppressed]) => sum + 1 + suppressed, 0), 300);
});

test('beyond 1,000 kinds in a minute all others are one kind, and none is reported again', async () => {
  const { clock, reported, deduplicate } = setUp();
  for (let times = 0; times < 3; times += 1) {
    for (let kind = 0; kind < 5_000; kind += 1) deduplicate(String(kind));
  }
  assert.equal(reported.length, 1_001);
  assert.deepEqual(reported.slice(999), [['999', 0], ['1000', 0]]);
  reported.length = 0;
  await clock.advance(60_000);
  assert.equal(reported.length, 1_001);
  assert.deepEqual(new Map(reported).get('0'), 1);
  assert.deepEqual(new Map(reported).get('4999'), 3 * 4_000 - 2);
});

test('kinds of an earlier minute make room', async () => {
  const { clock, reported, deduplicate } = setUp();
  for (let kind = 0; kind < 1_001; kind += 1) deduplicate(String(kind));
  await clock.advance(60_000);
  reported.length = 0;
  for (const kind of ['new', 'newer']) deduplicate(kind);
  assert.deepEqual(reported, [['new', 0], ['newer', 0]]);
});

test('a flush reports what is suppressed, once', async () => {
  const { clock, reported, deduplicate } = setUp();
  const deduplicator = new LogDeduplicator(clock);
  for (const detail of ['first', 'second', 'third']) {
    deduplicator.deduplicate('a', (suppressed) => reported.push([detail, suppressed]));
  }
  deduplicator.flush();
  deduplicator.flush();
  assert.deepEqual(reported, [['first', 0], ['third', 1]]);
  await clock.advance(60_000);
  deduplicate('b');
  assert.deepEqual(reported.slice(2), [['b', 0]]);
});
