import { SETTINGS, type Setting } from '../../lib/config/settings.ts';

export interface Group {
  readonly name: string;
  readonly settings: readonly Setting<unknown>[];
}

/** All settings by group, in the order of their definitions. */
export function settingGroups(): readonly Group[] {
  const settings: Setting<unknown>[] = Object.values(SETTINGS);
  const names = [...new Set(settings.map(({ group }) => group))];
  return names.map((name) => ({ name, settings: settings.filter(({ group }) => group === name) }));
}
