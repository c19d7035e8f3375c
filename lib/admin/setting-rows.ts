import type { Config } from '../config/config.ts';
import { hostAndPort } from '../util/ip-address.ts';
import { SETTINGS, type Setting, type SettingName } from '../config/settings.ts';
import type { LogLevel } from '../log/log.ts';

/** A setting on the status page. Contains no secrets. */
export interface SettingRow {
  /** The setting's first variable, or its flag if it has no variable. */
  readonly name: string;
  /** As a user would write it; null if it is not set and has no default. */
  readonly value: string | null;
  /** The variable or flag that sets it; null for the default. */
  readonly source: string | null;
}

const HIDDEN = '(secret)';
/** `user:password@` in a URL. */
const USER_INFO = /(?<=\/\/)[^/?#\s]*@/g;

/** @param level the current one, which SIGUSR2 changes */
export function settingRows(config: Config, level: LogLevel): SettingRow[] {
  const effective = effectiveValues(config, level);
  return (Object.keys(SETTINGS) as SettingName[]).map((name) => {
    const setting: Setting<unknown> = SETTINGS[name];
    const given = config.given.get(name);
    const value = effective[name] ?? given?.text ?? setting.default;
    return {
      name: setting.env[0] ?? `--${setting.flag?.name}`,
      value: value === undefined ? null : setting.secret && given ? HIDDEN : value.replace(USER_INFO, `${HIDDEN}@`),
      source: given?.source ?? null,
    };
  });
}

/** The values of settings that other settings change, too. */
function effectiveValues(config: Config, logLevel: LogLevel): Partial<Record<SettingName, string>> {
  const { adminAddress, defaultRole, given } = config;
  const offsetInMinutes = given.has('roleExpirationThreshold') && !given.has('roleCacheOffset');
  return {
    host: config.host,
    port: String(config.port),
    logLevel,
    docker: config.docker.url,
    adminAddress: adminAddress === 'off' ? 'off' : hostAndPort(adminAddress.host, adminAddress.port),
    ...(offsetInMinutes ? { roleCacheOffset: `${config.roleCacheOffset / 60_000}m` } : {}),
    ...(defaultRole ? { defaultRole: defaultRole.text } : {}),
  };
}
