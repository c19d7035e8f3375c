/**
 * Flags and environment become one validated, frozen configuration; flag over environment over default. Every problem
 * is found before any is reported.
 */

import { homedir } from 'node:os';
import { join } from 'node:path';
import { readTlsFiles } from './containers/docker-endpoint.ts';
import { parseRoleReference } from './roles/role-reference.ts';
import { SETTINGS, type Setting, type SettingName, type SettingValues } from './settings.ts';

export type Config = Omit<SettingValues, 'server' | 'verbose' | 'dockerTlsVerify' | 'dockerCertPath'>;

export type Environment = Readonly<Record<string, string | undefined>>;
/** What was given on the command line; `true` for a flag without a value. */
export type FlagValues = Readonly<Partial<Record<SettingName, string>>>;

/** One line for each thing that is wrong with the settings. */
export class ConfigError extends Error {
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

/** What a demonstration without settings is about; 123456789012 is the account of AWS's own examples. */
const DEMO_ROLE = 'arn:aws:iam::123456789012:role/demo-role';

/** @throws ConfigError */
export function readConfig(flags: FlagValues, env: Environment): Config {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const setting: Setting<unknown> = SETTINGS[name];
    const { source, text } = given(name, setting, flags, env);
    values[name] = text === undefined ? undefined : parse(setting, source, text, problems);
  }
  // Each value was made by the parser of its own setting.
  const config = combine(values as SettingValues, problems);
  if (problems.length > 0) throw new ConfigError(problems);
  return Object.freeze(config);
}

function given(name: SettingName, setting: Setting<unknown>, flags: FlagValues, env: Environment) {
  const flag = flags[name];
  if (flag !== undefined && setting.flag) return { source: `--${setting.flag.name}`, text: flag };
  // An empty variable is how environment files say "not set".
  const variable = setting.env.find((candidate) => env[candidate]);
  return variable ? { source: variable, text: env[variable]?.trim() } : { source: '', text: setting.default };
}

function parse(setting: Setting<unknown>, source: string, text: string, problems: string[]): unknown {
  let reason = `expected ${setting.expects}`;
  try {
    const value = setting.parse(text);
    if (value !== undefined) return value;
  } catch (error) {
    reason = (error as Error).message;
  }
  problems.push(`${source}: ${JSON.stringify(text)} is not valid: ${reason}`);
  return undefined;
}

/** What follows from settings together. */
function combine(values: SettingValues, problems: string[]): Config {
  const { server, verbose, dockerTlsVerify, dockerCertPath, ...config } = values;
  return {
    ...config,
    host: server?.host || config.host,
    port: server?.port ?? config.port,
    logLevel: verbose ? 'debug' : config.logLevel,
    docker: withTls(config.docker, dockerTlsVerify, dockerCertPath, problems),
    defaultRole: config.defaultRole ?? (config.mockCredentials ? parseRoleReference(DEMO_ROLE) : undefined),
  };
}

function withTls(
  docker: SettingValues['docker'],
  verify: boolean,
  certPath: string | undefined,
  problems: string[],
): SettingValues['docker'] {
  if (docker?.kind !== 'tcp' || !(verify || certPath)) return docker;
  try {
    return { ...docker, tls: readTlsFiles(certPath ?? join(homedir(), '.docker')) };
  } catch (error) {
    problems.push(`DOCKER_CERT_PATH: cannot read the TLS files (${(error as Error).message})`);
    return docker;
  }
}
