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

/** Changes are relative to the watcher's first poll, which gives no event: so this touches the file until it is seen. */
async function whileTouched<T>(path: string, seen: Promise<T>): Promise<T> {
  const timer = setInterval(() => utimesSync(path, new Date(), new Date()), 200);
  return seen.finally(() => clearInterval(timer));
}

function follow(t: TestContext, path: string) {
  const changes = new Journal<readonly [now: string, before: string]>('a change');
  const failures = new Journal<string>('a failure');
  const reloads: (readonly [setting: string, path: string])[] = [];
  const file = new WatchedFile({
    setting: 'A_SETTING',
    path,
    parse: upperCase,
    events: {
      fileReloaded: (...reloaded) => reloads.push(reloaded),
      fileReloadFailed: (_setting, _path, { message }) => failures.add(message),
    },
  });
  file.follow((now, before) => changes.add([now, before]));
  t.after(() => file.close());
  return { file, changes, failures, reloads };
}

test('without a path there is no file', () => {
  assert.equal(readSettingFile('A_SETTING', undefined, upperCase), undefined);
});

test('the first content is read at once, without onChange', (t) => {
  const { file, changes } = follow(t, pathOf(t, 'one'));
  assert.equal(file.value, 'ONE');
  file.reload();
  assert.deepEqual(changes.all(), []);
});

test('an unreadable or invalid file is an invalid setting', (t) => {
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

test('reload reads the file again, and onChange gets both contents', (t) => {
  const path = pathOf(t, 'one');
  const { file, changes, reloads } = follow(t, path);
  writeFileSync(path, 'two');
  file.reload();
  assert.equal(file.value, 'TWO');
  assert.deepEqual(reloads, [['A_SETTING', path]]);
  assert.deepEqual(changes.all(), [['TWO', 'ONE']]);
});

test('a broken or missing file keeps the previous content until it is fixed', (t) => {
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

test('a file that is written or replaced is reloaded automatically', async (t) => {
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

test('a change between reading and following is not missed', (t) => {
  const path = pathOf(t, 'one');
  const events = { fileReloaded: () => {}, fileReloadFailed: () => assert.fail('it can be read') };
  const file = new WatchedFile({ setting: 'A_SETTING', path, parse: upperCase, events });
  t.after(() => file.close());
  writeFileSync(path, 'two');
  const changes: unknown[] = [];
  file.follow((...change) => changes.push(change));
  assert.deepEqual(changes, [['TWO', 'ONE']]);
});

test('two settings may share a file, and closing one keeps the other', async (t) => {
  const path = pathOf(t, 'one');
  const [first, second] = [follow(t, path), follow(t, path)];
  first.file.close();
  writeFileSync(path, 'two');
  await whileTouched(path, second.changes.first());
  assert.deepEqual(first.changes.all(), []);
});
