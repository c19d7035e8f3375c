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

test('without flags the program runs', () => {
  assert.deepEqual(parseCommandLine([]), { kind: 'run', flags: {} });
});

test('the flags of docker-ec2-metadata are understood, long and short', () => {
  assert.deepEqual(flagsOf('--server', ':80', '--default-iam-role', 'app', '--verbose'), {
    server: ':80',
    defaultRole: 'app',
    verbose: 'true',
  });
  assert.deepEqual(flagsOf('-s', ':80', '-r', 'app'), { server: ':80', defaultRole: 'app' });
});

test('so are the others', () => {
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

test('a boolean flag may have a value, or a "no-" before it, and any flag a single dash', () => {
  assert.deepEqual(flagsOf('--mock=yes', '-verbose'), { mockApi: 'yes', verbose: 'true' });
  assert.deepEqual(flagsOf('--no-verbose', '-mock=false'), { mockApi: 'false', verbose: 'false' });
  assert.deepEqual(flagsOf('-listen-addr', ':80', '-meta-data-api=http://h'), { server: ':80', metadataUrl: 'http://h' });
});

test('a flag that is given twice counts as it was given last', () => {
  assert.deepEqual(flagsOf('-r', 'one', '--default-iam-role', 'two'), { defaultRole: 'two' });
});

test('--help and --version come before everything else', () => {
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
  test(`${args.join(' ')} is a problem of the settings that refers to --help`, () => {
    assert.throws(
      () => parseCommandLine(args),
      (error) => {
        assert.ok(error instanceof ConfigError);
        assert.equal(error.problems.length, 1);
        const [problem = ''] = error.problems;
        assert.ok(problem.includes(args.at(-1)?.replace(/=.*/, '') ?? ''), problem);
        assert.match(problem, /See metadataproxy --help\.$/);
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

test('--help names every setting, with its variables, its flags, its default and what it does', () => {
  const help = helpText('1.2.3');
  const words = help.replace(/\s+/g, ' ');
  for (const { env, flag, help: meaning, default: fallback, group } of settings) {
    for (const variable of env) assert.match(help, new RegExp(`\\b${variable}\\b`));
    if (flag) assert.match(help, new RegExp(` --${flag.name}\\b`));
    if (flag?.short) assert.match(help, new RegExp(` -${flag.short}\\b`));
    if (fallback) assert.ok(words.includes(`(default ${fallback})`), fallback);
    assert.ok(words.includes(meaning), meaning);
    assert.ok(help.includes(`\n${group}\n`));
  }
  assert.match(help, /1\.2\.3/);
  assert.match(help, /metadataproxy\.role, or in IAM_ROLE/);
});

test('no two settings share a variable or a flag', () => {
  const names = settings.flatMap(({ env, flag }) => [
    ...env,
    ...(flag ? [`--${flag.name}`] : []),
    ...(flag?.short ? [`-${flag.short}`] : []),
  ]);
  assert.equal(new Set(names).size, names.length);
});
