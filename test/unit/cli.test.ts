import assert from 'node:assert/strict';
import { test } from 'node:test';
import { helpText, parseCommandLine } from '../../lib/config/cli.ts';
import { ConfigError } from '../../lib/config/config.ts';
import { SETTINGS, type Setting } from '../../lib/config/settings.ts';

const settings: Setting<unknown>[] = Object.values(SETTINGS);

function flagsOf(...args: string[]): unknown {
  const command = parseCommandLine(args);
  assert.equal(command.kind, 'run');
  return command.kind === 'run' ? command.flags : undefined;
}

test('without arguments the proxy runs', () => {
  assert.deepEqual(parseCommandLine([]), { kind: 'run', flags: {} });
});

test('the flags of docker-ec2-metadata are accepted, long and short', () => {
  assert.deepEqual(flagsOf('--server', ':80', '--default-iam-role', 'app', '--verbose'), {
    server: ':80',
    defaultRole: 'app',
    verbose: 'true',
  });
  assert.deepEqual(flagsOf('-s', ':80', '-r', 'app'), { server: ':80', defaultRole: 'app' });
});

test('the flags of the other programs are accepted', () => {
  assert.deepEqual(
    flagsOf('--docker-endpoint=/s', '--metadata-url', 'http://h', '--mock', '--mock-credentials'),
    {
      docker: '/s',
      metadataUrl: 'http://h',
      mockApi: 'true',
      mockCredentials: 'true',
    },
  );
});

test('a boolean flag accepts a value or a "no-" prefix, and any flag a single dash', () => {
  assert.deepEqual(flagsOf('--mock=yes', '-verbose'), { mockApi: 'yes', verbose: 'true' });
  assert.deepEqual(flagsOf('--no-verbose', '-mock=false'), { mockApi: 'false', verbose: 'false' });
  assert.deepEqual(flagsOf('-listen-addr', ':80', '-meta-data-api=http://h'), { server: ':80', metadataUrl: 'http://h' });
});

test('of a flag given twice the last value applies', () => {
  assert.deepEqual(flagsOf('-r', 'one', '--default-iam-role', 'two'), { defaultRole: 'two' });
});

test('--help and --version take precedence over everything else', () => {
  assert.deepEqual(parseCommandLine(['--server', 'nonsense', '--version', '-h']), { kind: 'help' });
  assert.deepEqual(parseCommandLine(['--version', '--mock']), { kind: 'version' });
});

for (const args of [
  ['--nonsense'],
  ['-x'],
  ['--server'],
  ['stray'],
  ['--', 'stray'],
  ['--no-server'],
  ['--Mock'],
]) {
  test(`${args.join(' ')} is an error that refers to --help`, () => {
    assert.throws(
      () => parseCommandLine(args),
      (error) => {
        assert.ok(error instanceof ConfigError);
        assert.equal(error.problems.length, 1);
        const [problem = ''] = error.problems;
        assert.ok(problem.includes(args.at(-1)?.replace(/=.*/, '') ?? ''), problem);
        assert.match(problem, /; see metadataproxy --help$/);
        assert.doesNotMatch(problem, /\n/);
        return true;
      },
    );
  });
}

test('--help is at most 80 columns wide', () => {
  for (const line of helpText('10.20.30').split('\n'))
    assert.ok(line.length <= 80, `${line.length}: ${line}`);
});

test('--help shows each setting once, under the heading of its group, with its default', () => {
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
      if (setting.flag?.short) assert.match(text, new RegExp(`(?<![\\w-])-${setting.flag.short}\\b`));
      if (setting.default) assert.ok(text.includes(`(default ${setting.default})`), setting.default);
      assert.ok(text.includes(setting.help), setting.help);
    }
  }
});

test('--help shows the version, and how a container declares its role', () => {
  assert.match(helpText('1.2.3'), /^metadataproxy 1\.2\.3: /);
  assert.match(helpText('1.2.3'), /metadataproxy\.role or in IAM_ROLE/);
});

test('no two settings share a variable or a flag', () => {
  const names = settings.flatMap(({ env, flag }) => [
    ...env,
    ...(flag ? [`--${flag.name}`] : []),
    ...(flag?.short ? [`-${flag.short}`] : []),
  ]);
  assert.equal(new Set(names).size, names.length);
});

test('check and roles are commands, with --json or without', () => {
  assert.deepEqual(parseCommandLine(['check']), { kind: 'check', flags: {}, json: false });
  assert.deepEqual(parseCommandLine(['roles', '--json']), { kind: 'roles', flags: {}, json: true });
  assert.deepEqual(parseCommandLine(['--json', '--verbose', 'check']), {
    kind: 'check',
    flags: { verbose: 'true' },
    json: true,
  });
});

test('every flag is accepted under each name, with one dash or two, with "=" or a space', () => {
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

test('a flag accepts an empty value', () => {
  assert.deepEqual(parseCommandLine(['--default-iam-role', '', '--default-iam-policy=', 'docker']), {
    kind: 'run',
    flags: { defaultRole: '', defaultPolicy: '' },
  });
});

test('a value may contain line breaks', () => {
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
