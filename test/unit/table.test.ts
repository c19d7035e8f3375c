import assert from 'node:assert/strict';
import { test } from 'node:test';
import { table } from '../../lib/commands/table.ts';

test('a column of a table is as wide as its widest cell, two spaces before the next', () => {
  assert.equal(
    table(
      ['A', 'LONG', 'C'],
      [
        ['wide one', 'x', ''],
        ['', 'y', 'z'],
      ],
    ),
    ['A         LONG  C', 'wide one  x', '          y     z', ''].join('\n'),
  );
});

test('a table without rows has only its head', () => {
  assert.equal(table(['A', 'B'], []), 'A  B\n');
});
