import { spellings } from '../../lib/cli.ts';
import { SETTINGS, type Setting } from '../../lib/settings.ts';

const MARKED = /(?<=<!-- settings -->\n)[^]*?(?=<!-- \/settings -->)/;

/** README with its table of settings made anew from the definitions. */
export function withSettingsTable(readme: string): string {
  return readme.replace(MARKED, settingsTables().replaceAll('$', '$$$$'));
}

function settingsTables(): string {
  const settings: Setting<unknown>[] = Object.values(SETTINGS);
  const groups = [...new Set(settings.map(({ group }) => group))];
  const tables = groups.map((group) => {
    const rows = settings.filter((setting) => setting.group === group).map(row);
    return [`**${group}**`, '', '| setting | default | meaning | from |', '| --- | --- | --- | --- |', ...rows].join('\n');
  });
  return `\n${tables.join('\n\n')}\n\n`;
}

function row(setting: Setting<unknown>): string {
  const names = spellings(setting)
    .split(', ')
    .map((name) => `\`${name}\``)
    .join(' ');
  const fallback = setting.default === undefined ? '' : `\`${setting.default}\``;
  const meaning = `${setting.help} (${setting.expects})`.replaceAll('|', '\\|');
  return `| ${names} | ${fallback} | ${meaning} | ${setting.from} |`;
}
