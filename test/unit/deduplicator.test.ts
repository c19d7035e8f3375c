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

test('beyond 1,000 kinds the oldest one is forgotten', () => {
  const { reported, deduplicate } = setUp();
  for (let kind = 0; kind <= 1_000; kind += 1) deduplicate(String(kind));
  reported.length = 0;
  deduplicate('0');
  deduplicate('1000');
  assert.deepEqual(reported, [['0', 0]]);
});
