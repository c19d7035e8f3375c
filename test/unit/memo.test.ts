import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Memo } from '../../lib/util/memo.ts';

test('a result is computed once for each key', () => {
  const memo = new Memo(10, (key: string) => ({ key }));
  const first = memo.of('a');
  assert.deepEqual(first, { key: 'a' });
  assert.equal(memo.of('a'), first);
  assert.deepEqual(memo.of('b'), { key: 'b' });
});

test('an error is not cached', () => {
  let tries = 0;
  const memo = new Memo(10, () => {
    tries += 1;
    throw new Error('bad');
  });
  for (let times = 0; times < 2; times += 1) assert.throws(() => memo.of('a'), /^Error: bad$/);
  assert.equal(tries, 2);
});

test('a full memo drops all results, so a flood of keys cannot fill it', () => {
  let made = 0;
  const memo = new Memo(10, (key: number) => ({ key, made: (made += 1) }));
  for (let key = 0; key < 11; key += 1) assert.equal(memo.of(key).key, key);
  assert.equal(memo.of(10).made, 11);
  assert.equal(memo.of(0).made, 12);
});
