/**
 * Every setting that exists: its environment variables, its flags, its default, what it takes and what it does. The
 * configuration, `--help` and the table in README are all made from this.
 */

import { isIP } from 'node:net';
import { parseDockerEndpoint } from './containers/docker-endpoint.ts';
import { parseGoDuration } from './go-duration.ts';
import { isAccountId } from './roles/role-arn.ts';
import { parseRoleReference, ROLE_STRING_FORMS } from './roles/role-reference.ts';
import { LOG_FORMATS, LOG_LEVELS } from './telemetry/log.ts';

export type SettingGroup = 'Listening' | 'Docker' | 'Roles and credentials' | 'Metadata service' | 'Logging' | 'Demonstration';

export interface Setting<T> {
  readonly group: SettingGroup;
  /** The first that is set counts; a flag counts before them all. */
  readonly env: readonly string[];
  readonly flag?: { readonly name: string; readonly short?: string; readonly boolean?: true };
  /** Where the setting comes from: which older programs know it. */
  readonly from: string;
  /** As the user would write it; undefined where unset has a meaning of its own. */
  readonly default: string | undefined;
  /** Ends the sentence "expected …". */
  readonly expects: string;
  readonly help: string;
  /** @returns undefined for what does not mean anything; or throws an Error that says why */
  readonly parse: (text: string) => T | undefined;
}

const TRUE = new Set(['1', 'true', 'yes', 'on']);
const FALSE = new Set(['0', 'false', 'no', 'off']);

function flagValue(text: string): boolean | undefined {
  const word = text.toLowerCase();
  return TRUE.has(word) ? true : FALSE.has(word) ? false : undefined;
}

function wholeNumber(least: number, most: number): (text: string) => number | undefined {
  return (text) => {
    const number = /^\d{1,9}$/.test(text) ? Number(text) : NaN;
    return number >= least && number <= most ? number : undefined;
  };
}

function oneOf<T extends string>(words: readonly T[]): (text: string) => T | undefined {
  return (text) => words.find((word) => word === text.toLowerCase());
}

function httpUrl(text: string): URL | undefined {
  if (!URL.canParse(text)) return undefined;
  const url = new URL(text);
  const isBare = url.pathname === '/' && url.search === '' && url.hash === '' && url.username === '';
  return url.protocol === 'http:' && isBare ? url : undefined;
}

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

const port = wholeNumber(0, 65_535);

/** `host:port`, `[v6]:port`, `:port`. */
export function parseListenAddress(text: string): ListenAddress | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d+)$/.exec(text);
  const number = port(match?.[3] ?? '');
  return match && number !== undefined ? { host: match[1] ?? match[2] ?? '', port: number } : undefined;
}

type WithDefault<T> = Setting<T> & { readonly default: string };
const setting = <T>(definition: WithDefault<T>): WithDefault<T> => definition;
const optional = <T>(definition: Omit<Setting<T>, 'default'>): Setting<T> => ({ ...definition, default: undefined });
const YES_OR_NO = '"true" or "false"';

export const SETTINGS = {
  server: optional({
    group: 'Listening',
    env: [],
    flag: { name: 'server', short: 's' },
    from: 'docker-ec2-metadata',
    expects: '"host:port" or ":port"',
    help: 'HOST and PORT in one.',
    parse: parseListenAddress,
  }),
  host: setting({
    group: 'Listening',
    env: ['HOST'],
    from: 'lyft, go',
    default: '0.0.0.0',
    expects: 'an IP address, or "localhost"',
    help: 'Address on which containers reach the proxy; "::" takes IPv6 as well.',
    parse: (text) => (isIP(text) > 0 || text === 'localhost' ? text : undefined),
  }),
  port: setting({
    group: 'Listening',
    env: ['PORT'],
    from: 'lyft, go',
    default: '18000',
    expects: 'a whole number from 0 to 65535 (0: any free port)',
    help: 'Port on which containers reach the proxy.',
    parse: port,
  }),
  adminAddress: setting<ListenAddress | 'off'>({
    group: 'Listening',
    env: ['ADMIN_ADDR'],
    from: 'new',
    default: '127.0.0.1:18001',
    expects: '"host:port" or "off"',
    help: "The operator's listener: /healthz, /readyz, /status.",
    parse: (text) => (text === 'off' ? text : parseListenAddress(text)),
  }),
  maxConnections: setting({
    group: 'Listening',
    env: ['MAX_CONNECTIONS'],
    from: 'new',
    default: '4096',
    expects: 'a whole number from 1 to 1000000',
    help: 'Connections open at once, in all.',
    parse: wholeNumber(1, 1_000_000),
  }),
  maxConnectionsPerAddress: setting({
    group: 'Listening',
    env: ['MAX_CONNECTIONS_PER_ADDRESS'],
    from: 'new',
    default: '256',
    expects: 'a whole number from 1 to 1000000',
    help: 'Connections open at once from one address; more are answered 503.',
    parse: wholeNumber(1, 1_000_000),
  }),

  docker: setting({
    group: 'Docker',
    env: ['DOCKER_URL', 'DOCKER_HOST'],
    flag: { name: 'docker-endpoint' },
    from: 'lyft, go, ec2metaproxy',
    default: 'unix:///var/run/docker.sock',
    expects: 'unix:///path, tcp://host:port, http://host:port or https://host:port',
    help: 'The Docker Engine API. unix://var/run/docker.sock means the absolute path, too.',
    parse: parseDockerEndpoint,
  }),
  dockerTlsVerify: setting({
    group: 'Docker',
    env: ['DOCKER_TLS_VERIFY'],
    from: 'Docker',
    default: 'false',
    expects: YES_OR_NO,
    help: 'Use TLS for a tcp:// engine, verified against ca.pem.',
    parse: flagValue,
  }),
  dockerCertPath: optional({
    group: 'Docker',
    env: ['DOCKER_CERT_PATH'],
    from: 'Docker',
    expects: 'a directory',
    help: 'Directory with ca.pem, cert.pem and key.pem; given, it means TLS. With DOCKER_TLS_VERIFY alone ~/.docker.',
    parse: (text) => text,
  }),

  defaultRole: optional({
    group: 'Roles and credentials',
    env: ['DEFAULT_ROLE'],
    flag: { name: 'default-iam-role', short: 'r' },
    from: 'lyft, go, docker-ec2-metadata',
    expects: ROLE_STRING_FORMS,
    help: 'The role of containers that name none. Without it they get 404.',
    parse: parseRoleReference,
  }),
  defaultAccountId: optional({
    group: 'Roles and credentials',
    env: ['DEFAULT_ACCOUNT_ID'],
    from: 'lyft, go',
    expects: '12 digits',
    help: 'The account of roles named without one. Without it IAM is asked (iam:GetRole).',
    parse: (text) => (isAccountId(text) ? text : undefined),
  }),
  roleCacheOffset: setting({
    group: 'Roles and credentials',
    env: ['ROLE_CACHE_OFFSET'],
    from: 'go',
    default: '15m',
    expects: 'a duration such as "15m" or "5m30s"',
    help: 'Time that credentials have left, at the least, when they are handed out.',
    parse: parseGoDuration,
  }),
  region: optional({
    group: 'Roles and credentials',
    env: ['AWS_REGION', 'AWS_DEFAULT_REGION'],
    from: 'lyft, AWS',
    expects: 'a region such as "eu-west-1"',
    help: "The region whose STS is used. Without it the AWS config file's, the instance's own, us-east-1.",
    parse: (text) => (/^[a-z]{2,4}(-[a-z]+)+-\d+$/.test(text) ? text : undefined),
  }),

  metadataUrl: setting({
    group: 'Metadata service',
    env: ['METADATA_URL'],
    flag: { name: 'metadata-url' },
    from: 'lyft, go, ec2metaproxy',
    default: 'http://169.254.169.254',
    expects: 'http://host or http://host:port',
    help: 'The real metadata service, to which everything else is passed.',
    parse: httpUrl,
  }),
  imdsv2Required: setting({
    group: 'Metadata service',
    env: ['IMDSV2_REQUIRED'],
    from: 'new',
    default: 'false',
    expects: YES_OR_NO,
    help: 'Refuse reads without an IMDSv2 session token with 401.',
    parse: flagValue,
  }),

  logLevel: setting({
    group: 'Logging',
    env: ['LOG_LEVEL'],
    from: 'go',
    default: 'info',
    expects: LOG_LEVELS.join(', '),
    help: 'What is logged: debug has a line for each request.',
    parse: oneOf(LOG_LEVELS),
  }),
  verbose: setting({
    group: 'Logging',
    env: ['VERBOSE'],
    flag: { name: 'verbose', boolean: true },
    from: 'docker-ec2-metadata',
    default: 'false',
    expects: YES_OR_NO,
    help: 'The same as LOG_LEVEL=debug.',
    parse: flagValue,
  }),
  logFormat: setting({
    group: 'Logging',
    env: ['LOG_FORMAT'],
    from: 'go',
    default: 'text',
    expects: LOG_FORMATS.join(', '),
    help: 'How it is logged, on standard error.',
    parse: oneOf(LOG_FORMATS),
  }),

  mockApi: setting({
    group: 'Demonstration',
    env: ['MOCK_API'],
    flag: { name: 'mock', boolean: true },
    from: 'lyft',
    default: 'false',
    expects: YES_OR_NO,
    help: 'A built-in metadata tree stands in for the real metadata service.',
    parse: flagValue,
  }),
  mockedInstanceId: setting({
    group: 'Demonstration',
    env: ['MOCKED_INSTANCE_ID'],
    from: 'lyft',
    default: 'i-0a1b2c3d4e5f67890',
    expects: 'an instance id such as "i-0a1b2c3d4e5f67890"',
    help: 'The instance id in that tree.',
    parse: (text) => (/^[\w-]{1,64}$/.test(text) ? text : undefined),
  }),
  mockCredentials: setting({
    group: 'Demonstration',
    env: ['MOCK_CREDENTIALS'],
    flag: { name: 'mock-credentials', boolean: true },
    from: 'new',
    default: 'false',
    expects: YES_OR_NO,
    help: 'Fake credentials instead of STS; callers on loopback count as a container.',
    parse: flagValue,
  }),
} as const;

export type SettingName = keyof typeof SETTINGS;
type Parsed<S> = S extends Setting<infer T> ? T : never;

/** The value of every setting; undefined only where a setting has no default. */
export type SettingValues = {
  readonly [Name in SettingName]: Parsed<(typeof SETTINGS)[Name]> | Missing<(typeof SETTINGS)[Name]>;
};
type Missing<S> = S extends { default: string } ? never : undefined;

