import assert from 'node:assert/strict';
import { test } from 'node:test';
import { JsonElements } from '../../lib/docker/json-elements.ts';

/** Splits a text that comes in chunks of some length. */
function split(text: string, chunkLength: number, maxLength = 1_000) {
  const elements = new JsonElements(maxLength);
  const bytes = Buffer.from(text);
  const found = [];
  for (let at = 0; at < bytes.length; at += chunkLength) found.push(...elements.push(bytes.subarray(at, at + chunkLength)));
  return { found, isComplete: elements.isComplete };
}

test('elements are the same whatever the chunks are', () => {
  const values = [{ a: '],["{}\\' }, [], {}, [[1, { b: ']' }]], 'text, \\" é🐳', 7, null, { deep: [[[{}]]] }];
  for (const text of [JSON.stringify(values), JSON.stringify(values, null, 2), `\n ${JSON.stringify(values)} \n`]) {
    for (const length of [1, 2, 3, 7, 1_000]) {
      const { found, isComplete } = split(text, length);
      assert.deepEqual([found.map((element) => JSON.parse(element.text)), isComplete], [values, true]);
    }
  }
});

test('an empty array has no elements', () => {
  assert.deepEqual(split('[ ]', 1), { found: [], isComplete: true });
});

test('of an element that is too long the start is kept, and the others are whole', () => {
  const values = [{ Id: 'a' }, { Id: 'b', Labels: 'x'.repeat(5_000) }, { Id: 'c' }];
  for (const length of [1, 100, 10_000]) {
    const { found } = split(JSON.stringify(values), length);
    assert.deepEqual(found.map(({ isTooLong, text }) => [isTooLong, text.slice(0, 9)]), [
      [false, '{"Id":"a"'], [true, '{"Id":"b"'], [false, '{"Id":"c"'],
    ]);
    assert.ok(found.every(({ text }) => text.length <= 128));
  }
});

test('an array that breaks off is incomplete', () => {
  for (const text of ['', '[', '[{"a":1}', '[{"a":1},', '["]']) assert.equal(split(text, 3).isComplete, false);
});

test('what is no array is an error', () => {
  for (const text of ['{"a":[1]}', '"text"', '7', 'null', '[1] [2]', '[]x']) assert.throws(() => split(text, 1), SyntaxError);
});
