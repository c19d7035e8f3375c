import { flagSpellings } from '../../lib/config/cli.ts';
import { SETTINGS, type Setting } from '../../lib/config/settings.ts';

const MARKED = /(?<=<!-- settings -->\n)[^]*?(?=<!-- \/settings -->)/;

/** README with its settings table regenerated from the definitions. */
export function withSettingsTable(readme: string): string {
  return readme.replace(MARKED, () => settingsTables());
}

function settingsTables(): string {
  const settings: Setting<unknown>[] = Object.values(SETTINGS);
  const groups = [...new Set(settings.map(({ group }) => group))];
  const tables = groups.map((group) => {
    const rows = settings.filter((setting) => setting.group === group).map(row);
    const head = ['| variable | flag | default | meaning | takes | from |', '| --- | --- | --- | --- | --- | --- |'];
    return [`**${group}**`, '', ...head, ...rows].join('\n');
  });
  return `\n${tables.join('\n\n')}\n\n`;
}

function row(setting: Setting<unknown>): string {
  const cells = [
    code(setting.env),
    code(flagSpellings(setting)),
    code(setting.default ? [setting.default] : []),
    setting.help,
    setting.takes.expects,
    setting.from,
  ];
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}

function code(words: readonly string[]): string {
  return words.map((word) => `\`${word}\``).join(' ');
}
