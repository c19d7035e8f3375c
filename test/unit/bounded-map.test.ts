import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BoundedMap } from '../../lib/util/bounded-map.ts';

test('a bounded map drops its oldest entry when it is full, and returns that key', () => {
  const map = new BoundedMap<string, number>(2);
  assert.equal(map.set('a', 1), undefined);
  assert.equal(map.set('b', 2), undefined);
  assert.equal(map.set('c', 3), 'a');
  assert.equal(map.size, 2);
  assert.equal(map.get('a'), undefined);
  assert.equal(map.has('a'), false);
  assert.deepEqual([...map.values()], [2, 3]);
});

test('setting a key again makes its entry the newest and drops nothing', () => {
  const map = new BoundedMap<string, number>(2);
  map.set('a', 1);
  map.set('b', 2);
  assert.equal(map.set('a', 3), undefined);
  assert.equal(map.set('c', 4), 'b');
  assert.deepEqual([...map.values()], [3, 4]);
});

test('a deleted entry makes room', () => {
  const map = new BoundedMap<string, number>(1);
  map.set('a', 1);
  assert.equal(map.delete('a'), true);
  assert.equal(map.delete('a'), false);
  assert.equal(map.set('b', 2), undefined);
});
