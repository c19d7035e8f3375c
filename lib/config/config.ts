/**
 * Reads flags and environment variables into one validated, frozen configuration. A flag takes precedence over a variable,
 * and a variable over the default. All invalid settings are reported together, and conflicts once every setting is valid.
 */

import { homedir } from 'node:os';
import { join } from 'node:path';
import { readTlsFiles } from '../docker/endpoint.ts';
import { parseRoleReference, type AccountNames, type RoleReference } from '../roles/role-reference.ts';
import { hostAndPort } from '../util/ip-address.ts';
import { withoutPassword } from '../util/printable.ts';
import { conflicts, overriddenSettings } from './conflicts.ts';
import type { ListenAddress } from './kinds.ts';
import { SETTINGS, type Setting, type SettingName, type SettingValues } from './settings.ts';

/** Settings that only change the value of others. */
type Combined =
  | 'server'
  | 'verbose'
  | 'debug'
  | 'dockerTlsVerify'
  | 'dockerCertPath'
  | 'roleExpirationThreshold'
  | 'credentialRefreshPeriod'
  | 'eventHandlers'
  | 'queueSize';

export type Config = Omit<SettingValues, Combined | 'defaultRole' | 'hostRole' | 'accountNames'> & {
  readonly defaultRole: RoleReference | undefined;
  readonly hostRole: RoleReference | undefined;
  readonly accountNames: AccountNames;
  /** The settings that were given, as they were written; every other one has its default. */
  readonly given: ReadonlyMap<SettingName, GivenSetting>;
  /** One line for the log for each setting that was given but has no effect. */
  readonly notices: readonly string[];
};

/** `source` is the variable or the flag that it came from. */
export interface GivenSetting {
  readonly source: string;
  readonly text: string;
}

export type Environment = Readonly<Record<string, string | undefined>>;
/** The flags of the command line; `true` for a flag without a value. */
export type FlagValues = Readonly<Partial<Record<SettingName, string>>>;

/** One line for each invalid setting. */
export class ConfigError extends Error {
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

/** The role of a demonstration without settings; 123456789012 is the account in AWS's own examples. */
const DEMO_ROLE = 'arn:aws:iam::123456789012:role/demo-role';

/** @throws ConfigError */
export function readConfig(flags: FlagValues, env: Environment): Config {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  const all = new Map<SettingName, GivenSetting>();
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const setting: Setting<unknown> = SETTINGS[name];
    const given = find(name, setting, flags, env);
    if (given) all.set(name, given);
    const { source, text } = given ?? { source: '', text: setting.default };
    values[name] = text === undefined ? undefined : parse(setting, source, text, problems);
  }
  // Each value comes from the parser of its own setting.
  const config = combine(values as SettingValues, all, problems);
  if (problems.length === 0) problems.push(...conflicts(config));
  if (problems.length > 0) throw new ConfigError(problems);
  return Object.freeze(config);
}

/** An empty value means "not set": environment files write it so, and older start scripts pass empty flags. */
function find(
  name: SettingName,
  setting: Setting<unknown>,
  flags: FlagValues,
  env: Environment,
): GivenSetting | undefined {
  const flag = flags[name]?.trim();
  if (flag && setting.flag) return { source: `--${setting.flag.name}`, text: flag };
  for (const variable of setting.env) {
    const text = env[variable]?.trim();
    if (text) return { source: variable, text };
  }
  return undefined;
}

function parse(setting: Setting<unknown>, source: string, text: string, problems: string[]): unknown {
  const { secret, takes } = setting;
  const expected = `expected ${takes.expects}`;
  let reason = expected;
  try {
    const value = takes.parse(text);
    if (value !== undefined) return value;
  } catch (error) {
    reason = `${(error as Error).message}; ${expected}`;
  }
  const shown = secret ? 'its value (secret)' : JSON.stringify(withoutPassword(text));
  problems.push(`${source}: ${shown} is invalid: ${reason}`);
  return undefined;
}

/** Combines the settings that depend on each other, and checks them together. */
function combine(values: SettingValues, given: Config['given'], problems: string[]): Config {
  const {
    server, verbose, debug, dockerTlsVerify, dockerCertPath, roleExpirationThreshold,
    credentialRefreshPeriod, eventHandlers, queueSize, ...config
  } = values;
  const accountNames = config.accountNames ?? new Map();
  const notices: string[] = [];
  for (const name of ['credentialRefreshPeriod', 'eventHandlers', 'queueSize'] as const) {
    if (given.has(name)) notices.push(`--${SETTINGS[name].flag?.name}: ${SETTINGS[name].help}`);
  }

  if ((config.otlpEndpoint ?? config.otlpMetricsEndpoint) && !config.otlpDisabled) {
    const protocol = given.get('otlpProtocol')?.source ?? '';
    if (config.otlpProtocol === 'grpc') {
      problems.push(`${protocol}: "grpc" is invalid: expected "http/json" and an OTLP/HTTP endpoint (port 4318)`);
    } else if (config.otlpProtocol === 'http/protobuf') {
      notices.push(`${protocol}: metrics are exported as http/json, which http/protobuf endpoints also accept`);
    }
  }
  if (given.has('newRelicAppName') && !config.newRelicLicense) {
    notices.push('NEWRELIC_APP_NAME has no effect without NEWRELIC_LICENSE');
  }
  const threshold = roleExpirationThreshold === undefined ? undefined : roleExpirationThreshold * 60_000;
  const offsetGiven = given.has('roleCacheOffset');
  if (offsetGiven && threshold !== undefined && threshold !== config.roleCacheOffset) {
    notices.push('ROLE_CACHE_OFFSET and ROLE_EXPIRATION_THRESHOLD differ; ROLE_CACHE_OFFSET takes precedence');
  }
  if (config.hostRole !== undefined && config.hostNetwork === 'nobody') {
    notices.push('HOST_ROLE has no effect without HOST_NETWORK');
  }
  const defaultRole = config.defaultRole ?? (config.mockCredentials ? DEMO_ROLE : undefined);
  const combined = {
    ...config,
    host: server?.host || config.host,
    port: server?.port ?? config.port,
    logLevel: verbose || debug ? 'debug' : config.logLevel,
    docker: withTls(config.docker, dockerTlsVerify, dockerCertPath, problems),
    roleCacheOffset: offsetGiven ? config.roleCacheOffset : (threshold ?? config.roleCacheOffset),
    accountNames,
    defaultRole: readRole(defaultRole, given.get('defaultRole')?.source ?? '', accountNames, problems),
    hostRole: readRole(config.hostRole, given.get('hostRole')?.source ?? '', accountNames, problems),
    given,
  };
  return { ...combined, notices: [...notices, ...overriddenSettings(combined)] };
}

/** Here and not in the setting's parser, because the account may be a name in AWS_ACCOUNT_MAP. */
function readRole(
  text: string | undefined,
  source: string,
  accounts: AccountNames,
  problems: string[],
): RoleReference | undefined {
  try {
    return text === undefined ? undefined : parseRoleReference(text, accounts);
  } catch (error) {
    problems.push(`${source}: ${JSON.stringify(text)} is invalid: ${(error as Error).message}`);
    return undefined;
  }
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

/** The URL of a listener on this host; for no host or every address it uses loopback. */
export function urlOf({ host, port }: ListenAddress, path: string): URL {
  const reachable = host === '' || host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
  return new URL(`http://${hostAndPort(reachable, port)}${path}`);
}
