import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync, unlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { ConfigError } from '../../lib/config/config.ts';
import { readSettingFile, WatchedFile } from '../../lib/config/watched-file.ts';
import { Journal } from '../support/journal.ts';

function upperCase(text: string): string {
  if (text.includes('bad')) throw new Error('it is bad');
  return text.toUpperCase();
}

function pathOf(t: TestContext, text?: string): string {
  const directory = mkdtempSync(join(tmpdir(), 'setting-file-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, 'file');
  if (text !== undefined) writeFileSync(path, text);
  return path;
}

/** A change counts from the first look at a file, of which nobody is told: so the file is touched until it is seen. */
async function whileTouched<T>(path: string, seen: Promise<T>): Promise<T> {
  const timer = setInterval(() => utimesSync(path, new Date(), new Date()), 200);
  return seen.finally(() => clearInterval(timer));
}

function follow(t: TestContext, path: string) {
  const changes = new Journal<readonly [now: string, before: string]>('a change');
  const failures = new Journal<string>('a failure');
  const file = new WatchedFile({
    setting: 'A_SETTING',
    path,
    parse: upperCase,
    onChange: (now, before) => changes.add([now, before]),
    onBroken: ({ message }) => failures.add(message),
  });
  t.after(() => file.close());
  return { file, changes, failures };
}

test('a setting that names no file has none', () => {
  assert.equal(readSettingFile('A_SETTING', undefined, upperCase), undefined);
});

test('a file is read at once, and nobody is told of it', (t) => {
  const { file, changes } = follow(t, pathOf(t, 'one'));
  assert.equal(file.value, 'ONE');
  file.reload();
  assert.deepEqual(changes.all(), []);
});

test('a file that cannot be read, or means nothing, is a wrong setting', (t) => {
  const [missing, broken] = [pathOf(t), pathOf(t, 'bad')];
  const problems = (path: string): readonly string[] => {
    try {
      follow(t, path);
    } catch (error) {
      assert.ok(error instanceof ConfigError);
      return error.problems;
    }
    return [];
  };
  assert.deepEqual(problems(missing), [
    `A_SETTING: ${missing}: ENOENT: no such file or directory, open '${missing}'`,
  ]);
  assert.deepEqual(problems(broken), [`A_SETTING: ${broken}: it is bad`]);
});

test('reload reads the file again, and tells what was before', (t) => {
  const path = pathOf(t, 'one');
  const { file, changes } = follow(t, path);
  writeFileSync(path, 'two');
  file.reload();
  assert.equal(file.value, 'TWO');
  assert.deepEqual(changes.all(), [['TWO', 'ONE']]);
});

test('a file that is broken, or gone, leaves the value, and its mended text is read', (t) => {
  const path = pathOf(t, 'one');
  const { file, changes, failures } = follow(t, path);
  writeFileSync(path, 'bad');
  file.reload();
  assert.equal(file.value, 'ONE');
  unlinkSync(path);
  file.reload();
  assert.equal(file.value, 'ONE');
  assert.deepEqual(failures.all(), ['it is bad', `ENOENT: no such file or directory, open '${path}'`]);
  assert.deepEqual(changes.all(), []);
  writeFileSync(path, 'two');
  file.reload();
  assert.deepEqual([file.value, changes.all()], ['TWO', [['TWO', 'ONE']]]);
});

test('a file that is written, or replaced, is read without being asked', async (t) => {
  const path = pathOf(t, 'one');
  const { changes } = follow(t, path);
  writeFileSync(path, 'two');
  await whileTouched(path, changes.several(1));
  writeFileSync(`${path}.new`, 'three');
  renameSync(`${path}.new`, path);
  await whileTouched(path, changes.several(2));
  assert.deepEqual(changes.all(), [
    ['TWO', 'ONE'],
    ['THREE', 'TWO'],
  ]);
});

test('two settings may name one file, and the end of one does not end the other', async (t) => {
  const path = pathOf(t, 'one');
  const [first, second] = [follow(t, path), follow(t, path)];
  first.file.close();
  writeFileSync(path, 'two');
  await whileTouched(path, second.changes.first());
  assert.deepEqual(first.changes.all(), []);
});
