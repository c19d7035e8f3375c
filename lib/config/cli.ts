import { parseArgs, type ParseArgsConfig } from 'node:util';
import { ConfigError, type FlagValues } from './config.ts';
import { SETTINGS, type Flag, type Setting, type SettingName } from './settings.ts';

export type Command =
  | { kind: 'help' }
  | { kind: 'version' }
  | { kind: 'run'; flags: FlagValues }
  | { kind: 'health'; flags: FlagValues }
  | { kind: 'check' | 'roles' | 'status'; flags: FlagValues; json: boolean };

/** One way to call the program. `--help`, the manual page and the shell completion are made from these. */
export interface Usage {
  /** The command; undefined for the proxy itself. */
  readonly word?: string;
  /** A flag of this command only. */
  readonly flag?: string;
  /** Without the flag it is another command. */
  readonly isFlagNeeded?: true;
  readonly help: string;
}

export const USAGES: readonly Usage[] = [
  { help: 'run the proxy' },
  { word: 'check', flag: 'json', help: 'check the setup of this host' },
  { word: 'check', flag: 'health', isFlagNeeded: true, help: 'check that the running proxy is alive' },
  { word: 'roles', flag: 'json', help: 'list the containers and their roles' },
  { word: 'status', flag: 'json', help: 'show the state of the running proxy' },
];

/** Flags that are not settings. */
export const OWN_FLAGS: readonly { readonly name: string; readonly short?: string; readonly help: string }[] = [
  { name: 'help', short: 'h', help: 'Print this help.' },
  { name: 'version', help: 'Print the version.' },
];

const NAMES = Object.keys(SETTINGS) as SettingName[];
const settingOf = (name: SettingName): Setting<unknown> => SETTINGS[name];
type Options = NonNullable<ParseArgsConfig['options']>;

const spellingsOf = (flag: Flag): string[] => [flag.name, ...(flag.aliases ?? [])];
const FLAGS = NAMES.map((name) => settingOf(name).flag).filter((flag) => flag !== undefined);
const LONG_FLAGS = new Set(FLAGS.flatMap(spellingsOf));
const BOOLEAN_FLAGS = new Set(FLAGS.filter((flag) => flag.boolean).flatMap(spellingsOf));

/**
 * @param args without the program's name
 * @throws ConfigError for an unknown flag or command, or a flag without its value
 */
export function parseCommandLine(args: readonly string[]): Command {
  const options: Options = { json: { type: 'boolean' }, health: { type: 'boolean' } };
  for (const { name, short } of OWN_FLAGS) options[name] = { type: 'boolean', ...(short ? { short } : {}) };
  for (const flag of FLAGS) {
    for (const spelling of spellingsOf(flag)) options[spelling] = { type: 'string' };
    if (flag.short) options[flag.name] = { type: 'string', short: flag.short };
  }

  const { values, positionals } = readArguments(args, options);
  if (values['help']) return { kind: 'help' };
  if (values['version']) return { kind: 'version' };
  const flags: Partial<Record<SettingName, string>> = {};
  for (const name of NAMES) {
    const { flag } = settingOf(name);
    const value = flag && spellingsOf(flag).map((spelling) => values[spelling]).find((given) => given !== undefined);
    if (value !== undefined) flags[name] = String(value);
  }
  return command(positionals, flags, { json: values['json'] === true, health: values['health'] === true });
}

function command(words: readonly string[], flags: FlagValues, options: { json: boolean; health: boolean }): Command {
  const [word, ...more] = words;
  const { json, health } = options;
  if (more.length > 0) throw new ConfigError([`"${words.join(' ')}" is more than one command; ${SEE_HELP}`]);
  if (health) {
    if (word !== 'check' || json) throw new ConfigError([`--health is a flag of "check" only, without --json; ${SEE_HELP}`]);
    return { kind: 'health', flags };
  }
  switch (word) {
    case undefined:
    case 'docker': // ec2metaproxy's command for its Docker platform.
      return { kind: 'run', flags };
    case 'check':
    case 'roles':
    case 'status':
      return { kind: word, flags, json };
    default:
      throw new ConfigError([`unknown command "${word}"; ${SEE_HELP}`]);
  }
}

function readArguments(args: readonly string[], options: Options) {
  try {
    return parseArgs({ args: args.map(normalArgument), options, strict: true, allowPositionals: true });
  } catch (error) {
    // The first sentence, in the form of the other errors.
    const [reason = ''] = (error as Error).message.split(/\.?\n|\. |\.$/);
    throw new ConfigError([`${reason.charAt(0).toLowerCase()}${reason.slice(1)}; ${SEE_HELP}`]);
  }
}

/**
 * Accepts the flags of Go programs: a single dash, a value for a boolean flag, and kingpin's "no-" prefix. Every flag of
 * a setting gets a value, so that `--verbose=false` overrides VERBOSE=true.
 */
function normalArgument(argument: string): string {
  const [, name = '', value] = /^--?([a-z][a-z-]+)(?:=(.*))?$/s.exec(argument) ?? [];
  if (BOOLEAN_FLAGS.has(name)) return `--${name}=${value ?? 'true'}`;
  if (name.startsWith('no-') && BOOLEAN_FLAGS.has(name.slice(3))) return `--${name.slice(3)}=false`;
  if (!LONG_FLAGS.has(name)) return argument;
  return value === undefined ? `--${name}` : `--${name}=${value}`;
}

const SEE_HELP = 'see metadataproxy --help';
const HELP_WIDTH = 79;

/** The output of `--help`: every setting, by group, at most 80 columns wide. */
export function helpText(version: string): string {
  const lines = [
    `metadataproxy ${version}: gives every container its own IAM role`,
    '',
    ...USAGES.map((usage, index) => `${index === 0 ? 'Usage:' : '      '} ${callOf(usage).padEnd(29)}  ${usage.help}`),
    '',
    'Settings are environment variables. Some are flags as well, and a flag takes',
    'precedence over a variable.',
    '',
    ...OWN_FLAGS.map(({ name, short, help }) => `  ${short ? `-${short},` : '   '} ${`--${name}`.padEnd(20)} ${help}`),
  ];
  for (const group of new Set(NAMES.map((name) => SETTINGS[name].group))) {
    lines.push('', group);
    for (const setting of NAMES.map(settingOf).filter((candidate) => candidate.group === group)) {
      const fallback = setting.default ? ` (default ${setting.default})` : '';
      const names = [...setting.env, ...flagSpellings(setting)].join(', ');
      lines.push(...indented(names + fallback, 2), ...indented(setting.help, 6));
    }
  }
  lines.push('', 'A container declares its role in the label metadataproxy.role or in IAM_ROLE.');
  return `${lines.join('\n')}\n`;
}

/** `metadataproxy check [--json]` */
export function callOf({ word, flag, isFlagNeeded }: Usage): string {
  if (word === undefined) return 'metadataproxy [flags]';
  if (flag === undefined) return `metadataproxy ${word}`;
  return `metadataproxy ${word} ${isFlagNeeded ? `--${flag}` : `[--${flag}]`}`;
}

/** `--server`, `--listen-addr`, `-s` */
export function flagSpellings({ flag }: Setting<unknown>): string[] {
  if (!flag) return [];
  return [...spellingsOf(flag).map((name) => `--${name}`), ...(flag.short ? [`-${flag.short}`] : [])];
}

function indented(text: string, spaces: number): string[] {
  return wrap(text, HELP_WIDTH - spaces).map((line) => `${' '.repeat(spaces)}${line}`);
}

/** Wraps a text at `width` characters. Longer words are not split. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
