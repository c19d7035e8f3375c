import { callOf, flagSpellings, OWN_FLAGS, USAGES } from '../../lib/config/cli.ts';
import type { Setting } from '../../lib/config/settings.ts';
import type { Release } from './changelog.ts';
import type { FirewallHelp, HelpEntry } from './firewall-help.ts';
import { settingGroups } from './groups.ts';
import { bold, italic, plain, tagged } from './roff.ts';

/**
 * @param source packaging/man/metadataproxy.8, with placeholder lines of the form `.\" @NAME@`
 * @throws Error for an unknown placeholder
 */
export function metadataproxyPage(source: string, release: Release): string {
  const parts: Readonly<Record<string, () => string>> = {
    TITLE: () => title('METADATAPROXY', release),
    SYNOPSIS: () => USAGES.map((usage) => call(callOf(usage))).join('\n.br\n'),
    COMMANDS: () => USAGES.map((usage) => tagged(call(callOf(usage)), sentence(usage.help))).join('\n'),
    FLAGS: () =>
      OWN_FLAGS.map(({ name, short, help }) =>
        tagged([...(short ? [`-${short}`] : []), `--${name}`].map(bold).join(', '), plain(help))).join('\n'),
    SETTINGS: settings,
  };
  return source.replace(/^\.\\" @(\w+)@$/gm, (_line, name: string) => {
    const make = parts[name];
    if (!make) throw new Error(`packaging/man/metadataproxy.8: unknown placeholder ${name}`);
    return make();
  });
}

/** metadataproxy-firewall(8), from the script's --help. */
export function firewallPage({ usage, summary, commands, options, notes }: FirewallHelp, release: Release): string {
  const name = 'metadataproxy-firewall';
  return `${[
    title(name.toUpperCase(), release),
    '.SH NAME',
    `${plain(name)} \\- firewall rules that redirect containers to metadataproxy`,
    '.SH SYNOPSIS',
    call(usage),
    '.SH DESCRIPTION',
    plain(summary),
    '.SH COMMANDS',
    ...commands.map(helpEntry),
    '.SH OPTIONS',
    ...options.map(helpEntry),
    '.SH NOTES',
    notes.map(plain).join('\n.PP\n'),
    '.SH SEE ALSO',
    '.BR metadataproxy (8),\n.BR iptables (8)',
  ].join('\n')}\n`;
}

function title(name: string, { version, date }: Release): string {
  return `.TH ${plain(name)} 8 ${date.toISOString().slice(0, 10)} "metadataproxy ${version}" "System Administration"`;
}

function helpEntry({ term, text }: HelpEntry): string {
  const words = term.split(' ').map((word) => (/^[A-Z]+$/.test(word) ? italic(word) : bold(word)));
  return tagged(words.join(' ').replaceAll(',\\fR', '\\fR,'), plain(text));
}

/** A command line, with the program's name in bold. */
function call(text: string): string {
  const [program = '', ...words] = text.split(' ');
  return [bold(program), ...words.map(plain)].join(' ');
}

function settings(): string {
  const groups = settingGroups().map(({ name, settings: ofGroup }) => [`.SS ${plain(name)}`, ...ofGroup.map(setting)]);
  return groups.flat().join('\n');
}

function setting(definition: Setting<unknown>): string {
  const { env, default: fallback, help, takes } = definition;
  const tag = [...env, ...flagSpellings(definition)].map(bold).join(', ');
  const without = fallback ? ` Default: ${fallback}` : '';
  return tagged(tag, plain(`${help}\nAccepts ${takes.expects}.${without}`));
}

function sentence(text: string): string {
  return plain(`${text.charAt(0).toUpperCase()}${text.slice(1)}.`);
}
