import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { withSettingsTable } from '../support/settings-table.ts';

test("README's table of settings matches the definitions", () => {
  const readme = readFileSync('README.md', 'utf8');
  const expected = withSettingsTable(readme);
  if (process.env['UPDATE_README']) writeFileSync('README.md', expected);
  else assert.equal(readme, expected, 'run `make readme` and look at the difference');
});
