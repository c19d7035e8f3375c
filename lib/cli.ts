import { parseArgs, type ParseArgsConfig } from 'node:util';
import { ConfigError, type FlagValues } from './config.ts';
import { SETTINGS, type Setting, type SettingName } from './settings.ts';

export type Command = { kind: 'help' } | { kind: 'version' } | { kind: 'run'; flags: FlagValues };

const NAMES = Object.keys(SETTINGS) as SettingName[];
const settingOf = (name: SettingName): Setting<unknown> => SETTINGS[name];

/**
 * @param args what follows the program's name
 * @throws ConfigError for a flag that does not exist or lacks its value
 */
export function parseCommandLine(args: readonly string[]): Command {
  const options: NonNullable<ParseArgsConfig['options']> = {
    help: { type: 'boolean', short: 'h' },
    version: { type: 'boolean' },
  };
  for (const { flag } of NAMES.map(settingOf)) {
    if (!flag) continue;
    options[flag.name] = { type: flag.boolean ? 'boolean' : 'string', ...(flag.short ? { short: flag.short } : {}) };
  }

  const values = readFlags(args, options);
  if (values['help']) return { kind: 'help' };
  if (values['version']) return { kind: 'version' };
  const flags: Partial<Record<SettingName, string>> = {};
  for (const name of NAMES) {
    const value = values[settingOf(name).flag?.name ?? ''];
    if (value !== undefined) flags[name] = String(value);
  }
  return { kind: 'run', flags };
}

function readFlags(args: readonly string[], options: NonNullable<ParseArgsConfig['options']>) {
  try {
    return parseArgs({ args: [...args], options, strict: true, allowPositionals: false }).values;
  } catch (error) {
    const [reason = ''] = (error as Error).message.split('\n');
    throw new ConfigError([`${reason} See metadataproxy --help.`]);
  }
}

const HELP_WIDTH = 79;

/** What `--help` prints: every setting, by group, at most 80 columns wide. */
export function helpText(version: string): string {
  const lines = [
    `metadataproxy ${version}: gives every container its own IAM role`,
    '',
    'Usage: metadataproxy [flags]',
    '',
    'Every setting is an environment variable; some are flags as well, and a flag',
    'counts before a variable.',
    '',
    '  -h, --help               Print this.',
    '      --version            Print the version.',
  ];
  for (const group of new Set(NAMES.map((name) => SETTINGS[name].group))) {
    lines.push('', group);
    for (const setting of NAMES.map(settingOf).filter((candidate) => candidate.group === group)) {
      const fallback = setting.default === undefined ? '' : ` (default ${setting.default})`;
      lines.push(`  ${spellings(setting)}${fallback}`, ...wrap(setting.help, HELP_WIDTH - 6).map((line) => `      ${line}`));
    }
  }
  lines.push('', 'A container names its role in its own environment: IAM_ROLE, IAM_EXTERNAL_ID.');
  return `${lines.join('\n')}\n`;
}

/** `DOCKER_URL, DOCKER_HOST, --docker-endpoint` */
export function spellings({ env, flag }: Setting<unknown>): string {
  const short = flag?.short ? [`-${flag.short}`] : [];
  return [...env, ...(flag ? [`--${flag.name}`] : []), ...short].join(', ');
}

function wrap(text: string, width: number): string[] {
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
