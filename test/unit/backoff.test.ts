import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backoff } from '../../lib/util/backoff.ts';

test('the backoff doubles with each failure up to the maximum, and half of it is jitter', () => {
  for (const [failures, ceiling] of [
    [1, 100],
    [2, 200],
    [3, 400],
    [6, 3200],
    [7, 5000],
    [8, 5000],
    [5000, 5000],
  ] as const) {
    assert.equal(
      backoff(failures, 100, 5000, () => 0),
      ceiling / 2,
    );
    assert.equal(
      backoff(failures, 100, 5000, () => 0.5),
      ceiling * 0.75,
    );
    assert.ok(backoff(failures, 100, 5000, () => 0.999_999) <= ceiling);
  }
});
