import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '../support/seeded-random.ts';

test('a seed repeats its cases; another seed makes other cases', () => {
  const cases = (seed: number): string => new SeededRandom(seed).string('abcdef', 40, 40);
  assert.equal(cases(7), cases(7));
  assert.notEqual(cases(7), cases(8));
});

test('integers include both bounds and nothing beyond', () => {
  const random = new SeededRandom(1);
  const seen = new Set(Array.from({ length: 1000 }, () => random.int(-2, 2)));
  assert.deepEqual([...seen].sort((a, b) => a - b), [-2, -1, 0, 1, 2]);
});

test('shuffle keeps every item and does not change its argument', () => {
  const items = Array.from({ length: 50 }, (_, index) => index);
  const shuffled = new SeededRandom(3).shuffle(items);
  assert.notDeepEqual(shuffled, items);
  assert.deepEqual(shuffled.sort((a, b) => a - b), Array.from({ length: 50 }, (_, index) => index));
});

test('SEED in the environment sets the seed and must be an integer', () => {
  assert.equal(SeededRandom.fromEnvironment({}, 5).seed, 5);
  assert.equal(SeededRandom.fromEnvironment({ SEED: '42' }, 5).seed, 42);
  assert.throws(() => SeededRandom.fromEnvironment({ SEED: 'x' }, 5), /SEED is "x"/);
});
