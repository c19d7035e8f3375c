import assert from 'node:assert/strict';
import { test } from 'node:test';
import { helpText, parseCommandLine } from '../../lib/config/cli.ts';
import { table } from '../../lib/commands/table.ts';
import { ConfigError } from '../../lib/config/config.ts';
import { SETTINGS, type Setting } from '../../lib/config/settings.ts';

const settings: Setting<unknown>[] = Object.values(SETTINGS);

// --help

test('--help is at most 80 columns wide', () => {
  assert.deepEqual(
    helpText('123.456.789')
      .split('\n')
      .filter((line) => line.length > 80),
    [],
  );
});

test('--help has each setting once, under the heading of its group, with its default', () => {
  const lines = helpText('1').split('\n');
  const groups = [...new Set(settings.map(({ group }) => group))];
  assert.deepEqual(
    lines.filter((line) => groups.some((group) => group === line)),
    groups,
  );
  for (const [index, group] of groups.entries()) {
    const next = groups[index + 1];
    const part = lines.slice(
      lines.indexOf(group) + 1,
      next === undefined ? lines.length : lines.indexOf(next),
    );
    const text = part.join(' ').replace(/\s+/g, ' ');
    for (const setting of settings.filter((one) => one.group === group)) {
      for (const name of setting.env) assert.match(text, new RegExp(`(?<![\\w-])${name}(?![\\w-])`));
      for (const flag of setting.flag ? [setting.flag.name, ...(setting.flag.aliases ?? [])] : [])
        assert.match(text, new RegExp(`--${flag}(?![\\w-])`));
      if (setting.default) assert.ok(text.includes(`(default ${setting.default})`), setting.default);
      assert.ok(text.includes(setting.help), setting.help);
    }
  }
});

// The command line

test('check and roles are commands, with --json or without', () => {
  assert.deepEqual(parseCommandLine(['check']), { kind: 'check', flags: {}, json: false });
  assert.deepEqual(parseCommandLine(['roles', '--json']), { kind: 'roles', flags: {}, json: true });
  assert.deepEqual(parseCommandLine(['--json', '--verbose', 'check']), {
    kind: 'check',
    flags: { verbose: 'true' },
    json: true,
  });
});

test('every flag has each of its spellings, with one dash or two, with "=" or a blank', () => {
  for (const [name, { flag }] of Object.entries(SETTINGS) as [string, Setting<unknown>][]) {
    if (!flag) continue;
    for (const spelling of [flag.name, ...(flag.aliases ?? [])]) {
      for (const dashes of ['-', '--']) {
        const of = (...args: string[]): unknown => parseCommandLine(args);
        assert.deepEqual(of(`${dashes}${spelling}=true`), { kind: 'run', flags: { [name]: 'true' } });
        if (flag.boolean)
          assert.deepEqual(of(`${dashes}${spelling}`), { kind: 'run', flags: { [name]: 'true' } });
        else
          assert.deepEqual(of(`${dashes}${spelling}`, 'a=b -c'), {
            kind: 'run',
            flags: { [name]: 'a=b -c' },
          });
      }
      if (flag.boolean)
        assert.deepEqual(parseCommandLine([`--no-${spelling}`]), { kind: 'run', flags: { [name]: 'false' } });
    }
  }
});

test('an empty value of a flag is a value', () => {
  assert.deepEqual(parseCommandLine(['--default-iam-role', '', '--default-iam-policy=', 'docker']), {
    kind: 'run',
    flags: { defaultRole: '', defaultPolicy: '' },
  });
});

test('a value over several lines stays whole', () => {
  assert.deepEqual(parseCommandLine(['--default-iam-policy={\n"Statement": []\n}']), {
    kind: 'run',
    flags: { defaultPolicy: '{\n"Statement": []\n}' },
  });
});

for (const args of [
  ['--nonsense'],
  ['-x'],
  ['--server'],
  ['--no-server', ':1'],
  ['rolls'],
  ['check', 'roles'],
  ['docker', 'check'],
]) {
  test(`metadataproxy ${args.join(' ')} is refused`, () =>
    assert.throws(() => parseCommandLine(args), ConfigError));
}

// Tables

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

test('a table without rows has its head', () => {
  assert.equal(table(['A', 'B'], []), 'A  B\n');
});
