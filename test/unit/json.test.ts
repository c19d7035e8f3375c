import assert from 'node:assert/strict';
import { test } from 'node:test';
import { array, object, string } from '../../lib/util/json.ts';

test('a value of another type is read as an empty one', () => {
  const [anObject, anArray] = [{ a: 1 }, [1]];
  assert.equal(object(anObject), anObject);
  assert.equal(array(anArray), anArray);
  assert.equal(string('text'), 'text');
  for (const value of [undefined, null, 0, true, 'text', [1]]) assert.deepEqual(object(value), {});
  for (const value of [undefined, null, 0, true, 'text', { length: 1 }]) assert.deepEqual(array(value), []);
  for (const value of [undefined, null, 0, true, ['text'], {}]) assert.equal(string(value), '');
});
