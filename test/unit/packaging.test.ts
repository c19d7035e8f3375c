import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { flagSpellings, OWN_FLAGS, USAGES } from '../../lib/config/cli.ts';
import { readConfig } from '../../lib/config/config.ts';
import { SETTINGS, type Setting } from '../../lib/config/settings.ts';
import { latestRelease, rpmChangelog } from '../../packaging/generate/changelog.ts';
import { bashCompletion, zshCompletion } from '../../packaging/generate/completion.ts';
import { copyrightFile } from '../../packaging/generate/copyright.ts';
import { environmentFile } from '../../packaging/generate/environment-file.ts';
import { flagsOf, parseHelp } from '../../packaging/generate/firewall-help.ts';
import { firewallPage, metadataproxyPage } from '../../packaging/generate/man-pages.ts';

const settings: Setting<unknown>[] = Object.values(SETTINGS);
const HELP = execFileSync('sh', ['-c', '. iptables/setup', 'metadataproxy-firewall', '--help'], { encoding: 'utf8' });
const FIREWALL = parseHelp(HELP);
const CHANGELOG = readFileSync('packaging/changelog', 'utf8');
const RELEASE = latestRelease(CHANGELOG);
const PAGE = metadataproxyPage(readFileSync('packaging/man/metadataproxy.8', 'utf8'), RELEASE);

/** A manual page as plain text. */
const words = (page: string): string =>
  page.replace(/\\f[BIR]|\\&/g, '').replace(/\\\(aq/g, "'").replace(/\\\(dq/g, '"').replace(/\\\(ha/g, '^').replace(/\\\(ti/g, '~')
    .replace(/\\-/g, '-').replace(/\s+/g, ' ');

/** A shell script in a file that is removed after the test. */
function scriptFile(t: TestContext, text: string): string {
  const directory = mkdtempSync(join(tmpdir(), 'metadataproxy-unit-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'script');
  writeFileSync(path, text);
  return path;
}

// The settings file

test('the settings file has every variable once, commented out, with its default', () => {
  const lines = environmentFile().split('\n');
  for (const { env: [name], default: fallback } of settings) {
    if (name === undefined) continue;
    const found = lines.filter((line) => line.startsWith(`#${name}=`));
    assert.equal(found.length, 1, name);
    assert.equal(found[0]?.slice(name.length + 2).replace(/^'|'$/g, ''), fallback ?? '', name);
  }
  assert.deepEqual(lines.filter((line) => line !== '' && !line.startsWith('#')), []);
});

test('the settings file explains each setting, under the heading of its group', () => {
  const text = environmentFile();
  for (const { group, env: [name], help } of settings) {
    if (name === undefined) continue;
    const place = text.indexOf(`\n#${name}=`);
    const heading = text.lastIndexOf('\n# --- ', place);
    assert.ok(text.startsWith(`\n# --- ${group} ---\n`, heading), name);
    assert.ok(text.slice(heading, place).replace(/\n# /g, ' ').includes(help), name);
  }
});

test('with every line of the settings file enabled, a shell reads the default values', (t) => {
  // Settings without a default are empty, and empty means not set.
  const path = scriptFile(t, environmentFile().replace(/^#(?=[A-Z_]+=)/gm, ''));
  const printed = execFileSync('env', ['-i', 'sh', '-c', `set -a; . ${path}; exec /usr/bin/env -0`], { encoding: 'utf8' });
  const environment = Object.fromEntries(printed.split('\0').filter((line) => line !== '').map((line) => {
    const at = line.indexOf('=');
    return [line.slice(0, at), line.slice(at + 1)];
  }));
  assert.equal(environment['HOSTNAME_MATCH_REGEX'], '^.*$');
  const { notices: _ofWhatIsSet, given: _set, ...config } = readConfig({}, environment);
  const { notices: _ofNothing, given: _unset, ...defaults } = readConfig({}, {});
  assert.deepEqual(config, defaults);
});

// The manual pages

test('metadataproxy(8) explains every setting, flag and command', () => {
  const text = words(PAGE);
  for (const setting of settings) {
    for (const name of [...setting.env, ...flagSpellings(setting)]) assert.ok(text.includes(name), name);
    assert.ok(text.includes(setting.help.replace(/\s+/g, ' ')), setting.help);
  }
  for (const { help } of OWN_FLAGS) assert.ok(text.includes(help));
  for (const { help } of USAGES) assert.ok(text.toLowerCase().includes(help.toLowerCase()), help);
  assert.match(PAGE, new RegExp(`^\\.TH METADATAPROXY 8 \\d{4}-\\d\\d-\\d\\d "metadataproxy ${RELEASE.version}"`, 'm'));
});

test('an unknown placeholder in the manual page is an error', () => {
  assert.throws(() => metadataproxyPage('.\\" @NONSENSE@\n', RELEASE), /NONSENSE/);
});

test('metadataproxy-firewall(8) has every command, option and note of --help', () => {
  const text = words(firewallPage(FIREWALL, RELEASE));
  const options = HELP.match(/(?<=^ {2})(?:-h, )?--[a-z0-9-]+/gm) ?? [];
  assert.ok(options.length >= 12);
  for (const option of options) assert.ok(text.includes(option), option);
  for (const { term, text: explained } of [...FIREWALL.commands, ...FIREWALL.options]) {
    assert.ok(text.includes(`${term} ${explained.replace(/\s+/g, ' ')}`), term);
  }
  for (const line of HELP.split('\n').slice(2)) {
    const told = line.trim().replace(/^\S.*? {2,}/, '');
    if (!/^ {0,2}\S/.test(line) || line === '') assert.ok(text.includes(told.replace(/\s+/g, ' ')), line);
  }
});

test('an --help of another format is an error', () => {
  assert.throws(() => parseHelp('Usage: x\n\nSummary.\n\nOptions:\n  --a  b\n'), /expected the paragraphs/);
});

// Completion

/** The completions of bash after these words. */
function completions(t: TestContext, line: readonly string[]): string[] {
  const script = scriptFile(t, bashCompletion(FIREWALL));
  const program = line[0] ?? '';
  const ask = `source ${script}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); "_\${1//-/_}"; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { status, stdout, stderr } = spawnSync('bash', ['-c', ask, program, ...line], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  return stdout.trim().split('\n').filter((word) => word !== '');
}

test('bash completes commands and flags of both programs', (t) => {
  assert.deepEqual(completions(t, ['metadataproxy', 'ch']), ['check']);
  const flags = completions(t, ['metadataproxy', '--']);
  for (const setting of settings) {
    for (const flag of flagSpellings(setting)) if (flag.startsWith('--')) assert.ok(flags.includes(flag), flag);
  }
  assert.deepEqual(completions(t, ['metadataproxy-firewall', 'st']), ['status']);
  const options = FIREWALL.options.flatMap(flagsOf).map(({ name }) => name).filter((name) => name.startsWith('--'));
  assert.deepEqual(completions(t, ['metadataproxy-firewall', '--']), options);
});

test('bash completes values of flags with a fixed choice, and file names for the others', (t) => {
  assert.deepEqual(completions(t, ['metadataproxy', '--verbose', '=', '']), ['true', 'false']);
  assert.deepEqual(completions(t, ['metadataproxy', '--verbose', '=', 'f']), ['false']);
  assert.deepEqual(completions(t, ['metadataproxy', '--verbose', '=']), ['true', 'false']);
  assert.deepEqual(completions(t, ['metadataproxy', '--docker-endpoint', 'package.j']), ['package.json']);
});

test('zsh has the same flags and commands', () => {
  const text = zshCompletion(FIREWALL);
  for (const setting of settings) {
    for (const flag of flagSpellings(setting)) if (flag.startsWith('--')) assert.ok(text.includes(`'*${flag}=`), flag);
  }
  for (const { word } of USAGES) assert.ok(word === undefined || text.includes(`${word}\\\\:`), word);
  assert.match(text, /^#compdef metadataproxy metadataproxy-firewall\n/);
});

// The rest

test('the changelog is at the version of package.json', () => {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { readonly version: string };
  assert.equal(RELEASE.version, version);
  assert.match(rpmChangelog(CHANGELOG), new RegExp(`^\\* (Mon|Tue|Wed|Thu|Fri|Sat|Sun) \\w{3} \\d\\d \\d{4} .* <\\S+> - ${version}-1\\n- `));
});

test('the firewall\'s unit uses the proxy\'s default port', () => {
  const unit = readFileSync('packaging/systemd/metadataproxy-firewall.service', 'utf8');
  assert.match(unit, new RegExp(`^Environment=PORT=${SETTINGS.port.default}$`, 'm'));
});

test('the copyright file lists each bundled package once, under its licence', () => {
  const ours = readFileSync('LICENSE', 'utf8');
  const text = copyrightFile(ours, [
    { directory: 'node_modules/a', spdx: 'Apache-2.0', holder: '2020 A', text: undefined },
    { directory: 'node_modules/b', spdx: 'MIT', holder: '2015 B', text: undefined },
    { directory: 'node_modules/c', spdx: 'Apache-2.0', holder: '2020 A', text: undefined },
  ]);
  assert.match(text, /^Files: node_modules\/a\/\*\n node_modules\/c\/\*\nCopyright: 2020 A\nLicense: Apache-2\.0$/m);
  assert.match(text, /^Files: node_modules\/b\/\*\nCopyright: 2015 B\nLicense: Expat$/m);
  assert.equal(text.match(/Permission is hereby granted/g)?.length, 1);
  assert.throws(() => copyrightFile(ours, [{ directory: 'x', spdx: 'GPL-3.0', holder: 'X', text: undefined }]), /GPL-3\.0/);
});

// Files for containers

for (const file of ['compose.yaml', 'swarm.yaml', 'ecs-task-definition.json']) {
  test(`${file} limits the size of the log`, () => {
    const text = readFileSync(join('packaging', 'image', file), 'utf8');
    assert.match(text, /json-file/);
    assert.match(text, /"?max-size"?: "?10m"?, "?max-file"?: "5"/);
  });
}
