// Completion of both programs for bash and zsh: their commands, flags, and the values of flags with a fixed choice. For
// every other value it completes file names, which is the shells' default.
import { OWN_FLAGS, USAGES } from '../../lib/config/cli.ts';
import { SETTINGS, type Setting } from '../../lib/config/settings.ts';
import { flagsOf, type FirewallHelp } from './firewall-help.ts';

interface Word {
  readonly name: string;
  readonly help: string;
}

interface FlagWord extends Word {
  /** The accepted values; undefined if the flag takes no value, empty if it takes any. */
  readonly values: readonly string[] | undefined;
  /** The value is optional, so it must follow a "=". */
  readonly isOptional?: true;
}

interface Program {
  readonly name: string;
  readonly commands: readonly Word[];
  readonly flags: readonly FlagWord[];
}

const BOOLEAN_VALUES = ['true', 'false'];

function metadataproxy(): Program {
  const settings: Setting<unknown>[] = Object.values(SETTINGS);
  const settingFlags = settings.flatMap(({ flag, help }): FlagWord[] => {
    if (!flag) return [];
    const kind = flag.boolean ? ({ values: BOOLEAN_VALUES, isOptional: true } as const) : { values: [] };
    return [flag.name, ...(flag.aliases ?? [])].map((name) => ({ name: `--${name}`, help, ...kind }));
  });
  const commandFlags = new Set(USAGES.flatMap(({ flag }) => (flag === undefined ? [] : [flag])));
  const own = [...OWN_FLAGS, ...[...commandFlags].map((name) => ({ name, help: `For ${commandsWith(name)}.` }))];
  return {
    name: 'metadataproxy',
    commands: [...new Set(USAGES.flatMap(({ word }) => (word === undefined ? [] : [word])))].map((name) => ({
      name,
      help: USAGES.find(({ word }) => word === name)?.help ?? '',
    })),
    flags: [...own.map(({ name, help }) => ({ name: `--${name}`, help, values: undefined })), ...settingFlags],
  };
}

function commandsWith(name: string): string {
  return USAGES.filter(({ flag }) => flag === name).map(({ word }) => word).join(' and ');
}

function firewall({ commands, options }: FirewallHelp): Program {
  return {
    name: 'metadataproxy-firewall',
    commands: commands.map(({ term, text }) => ({ name: term, help: text })),
    flags: options.flatMap((entry) =>
      flagsOf(entry).map(({ name, takesValue }) => ({ name, help: entry.text, values: takesValue ? [] : undefined })),
    ).filter(({ name }) => name.startsWith('--')),
  };
}

export function bashCompletion(help: FirewallHelp): string {
  const functions = [metadataproxy(), firewall(help)].map(bashFunction);
  return `# bash completion for metadataproxy and metadataproxy-firewall\n\n${functions.join('\n')}`;
}

/** Readline splits words at "=", so the function gets `--flag=val` as three words. */
function bashFunction({ name, commands, flags }: Program): string {
  const choices = new Map<string, string[]>();
  for (const { name: flag, values } of flags) {
    if (values === undefined || values.length === 0) continue;
    choices.set(values.join(' '), [...(choices.get(values.join(' ')) ?? []), flag]);
  }
  const free = flags.filter(({ values }) => values?.length === 0).map((flag) => flag.name);
  const cases = [...choices].map(([values, names]) =>
    `    ${names.join('=|')}=) mapfile -t COMPREPLY < <(compgen -W '${values}' -- "$current"); return ;;`);
  return `_${name.replace('-', '_')}() {
  local current=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD - 1]}
  COMPREPLY=()
  if [[ $current == = ]]; then before+='=' current=''
  elif [[ $before == = ]]; then before="\${COMP_WORDS[COMP_CWORD - 2]}="
  fi
  case $before in
${cases.length > 0 ? `${cases.join('\n')}\n` : ''}    ${free.flatMap((flag) => [flag, `${flag}=`]).join('|')})
      mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W '${[...commands, ...flags].map((word) => word.name).join(' ')}' -- "$current")
}
complete -F _${name.replace('-', '_')} ${name}
`;
}

export function zshCompletion(help: FirewallHelp): string {
  const programs = [metadataproxy(), firewall(help)];
  const cases = programs.map((program) => `  ${program.name})\n${zshArguments(program)}\n    ;;`);
  return `#compdef ${programs.map(({ name }) => name).join(' ')}\n\ncase $service in\n${cases.join('\n')}\nesac\n`;
}

function zshArguments({ commands, flags }: Program): string {
  const specs = flags.map(({ name, help, values, isOptional }) => {
    // After "=-" the value must be in the same word; after "=" it may also be the next word.
    const separator = values === undefined ? '' : isOptional ? '=-' : '=';
    const value = values === undefined ? '' : `${isOptional ? '::' : ':'}value:${values.length > 0 ? `(${values.join(' ')})` : '_files'}`;
    return `    ${shellQuoted(`*${name}${separator}[${zshText(help)}]${value}`)} \\`;
  });
  const words = commands.map((word) => `${word.name}\\:${shellQuoted(zshText(word.help))}`);
  return `  _arguments \\\n${specs.join('\n')}\n    ${doubleQuoted(`1:command:((${words.join(' ')}))`)}`;
}

/** The first sentence, so that the description fits one line. Brackets and colons would end a description. */
function zshText(help: string): string {
  const [sentence = ''] = help.split(/(?<=[.;])\s/);
  return sentence.replace(/[.;]$/, '').replace(/[[\]:\\]/g, '\\$&');
}

const shellQuoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
const doubleQuoted = (text: string): string => `"${text.replace(/[\\$`"]/g, '\\$&')}"`;
