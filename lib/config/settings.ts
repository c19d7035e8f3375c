/**
 * Every setting that exists: its environment variables, its flags, its default, what it takes and what it does. The
 * configuration, `--help` and the table in README are all made from this.
 */

import { isIP } from 'node:net';
import { parseDockerEndpoint } from '../docker/endpoint.ts';
import { parseExpression } from '../util/expression.ts';
import { parseGoDuration } from '../util/go-duration.ts';
import { isAccountId } from '../roles/role-arn.ts';
import { parseArnPattern, type ArnPattern } from '../roles/arn-pattern.ts';
import { parseRoleDuration, ROLE_DURATION_FORM } from '../roles/role-duration.ts';
import { ROLE_STRING_FORMS } from '../roles/role-reference.ts';
import { parseSessionNaming } from '../roles/session-name.ts';
import { parseSessionPolicy } from '../roles/session-policy.ts';
import { parseTagSources } from '../roles/session-tags.ts';
import { parseTemplate } from '../roles/template.ts';
import { LOG_FORMATS, LOG_LEVELS, type LogLevel } from '../log/log.ts';
import { DATADOG_FORM, parseDatadogAddress, parseReceiverAddress, RECEIVER_FORM } from '../telemetry/export/receiver-address.ts';
import { REQUEST_LABELS, type RequestLabel } from '../telemetry/metrics/request-labels.ts';

export type SettingGroup =
  | 'Listening'
  | 'Docker'
  | 'Roles'
  | 'Who may have which role'
  | 'Role sessions'
  | "Containers on the host's network"
  | 'Callers that Docker does not know'
  | 'Metadata service'
  | 'Logging and metrics'
  | 'Demonstration'
  | 'Accepted from older programs';

export interface Flag {
  readonly name: string;
  readonly short?: string;
  /** What other programs call it. */
  readonly aliases?: readonly string[];
  /** Takes no value. */
  readonly boolean?: true;
}

export interface Setting<T> {
  readonly group: SettingGroup;
  /** The first that is set counts; a flag counts before them all. */
  readonly env: readonly string[];
  readonly flag?: Flag;
  /** Where the setting comes from: which older programs know it. */
  readonly from: string;
  /** As the user would write it; undefined where unset has a meaning of its own. */
  readonly default: string | undefined;
  /** Ends the sentence "expected …". */
  readonly expects: string;
  readonly help: string;
  /** Its value is shown nowhere. */
  readonly secret?: true;
  /** @returns undefined for what does not mean anything; or throws an Error that says why */
  readonly parse: (text: string) => T | undefined;
}

const OTLP_FORM = 'an http:// or https:// URL without a name and password';
const KEY_VALUE_FORM = '"name=value,name=value", percent-encoded where need be';
const DURATION_FORM = 'a duration such as "15m" or "5m30s"';

const TRUE = new Set(['1', 'true', 'yes', 'on']);
const FALSE = new Set(['0', 'false', 'no', 'off']);

function flagValue(text: string): boolean | undefined {
  const word = text.toLowerCase();
  return TRUE.has(word) ? true : FALSE.has(word) ? false : undefined;
}

function integer(min: number, max: number): (text: string) => number | undefined {
  return (text) => {
    const number = /^\d{1,9}$/.test(text) ? Number(text) : NaN;
    return number >= min && number <= max ? number : undefined;
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

/** Where metrics are sent; a name and password in it could be seen, headers are not. */
function receiverUrl(text: string): URL | undefined {
  if (!URL.canParse(text)) return undefined;
  const url = new URL(text);
  return /^https?:$/.test(url.protocol) && url.username === '' && url.password === '' ? url : undefined;
}

/** As OpenTelemetry's variables have it: true is one word alone. */
function trueOrFalse(text: string): boolean | undefined {
  const word = text.toLowerCase();
  return word === 'true' ? true : word === 'false' ? false : undefined;
}

/** `name=value,name=value`, both percent-encoded where need be, as OpenTelemetry took it from W3C Baggage. */
function keyValueList(text: string): ReadonlyMap<string, string> | undefined {
  const pairs = new Map<string, string>();
  for (const pair of text.split(',')) {
    if (pair.trim() === '') continue;
    const [, name, value] = /^\s*([^=\s]+)\s*=\s*(.*?)\s*$/s.exec(pair) ?? [];
    if (name === undefined || value === undefined) return undefined;
    try {
      pairs.set(decodeURIComponent(name), decodeURIComponent(value));
    } catch {
      return undefined;
    }
  }
  return pairs;
}

/** They are about the request itself, which is not the user's. */
const HEADERS_OF_THE_REQUEST = /^(?:connection|content-(?:encoding|length|type)|expect|transfer-encoding|upgrade)$/i;

function headerList(text: string): ReadonlyMap<string, string> | undefined {
  const headers = keyValueList(text);
  for (const [name, value] of headers ?? []) {
    const isHeader = /^[\w!#$%&'*+.^`|~-]+$/.test(name) && /^[\t\x20-\x7e]*$/.test(value);
    if (!isHeader || HEADERS_OF_THE_REQUEST.test(name)) return undefined;
  }
  return headers;
}

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** Below a second nobody could ask anything; the longest that a Node timer takes is about 24 days. */
function parseTimeout(text: string): number | undefined {
  const milliseconds = parseGoDuration(text);
  return milliseconds !== undefined && milliseconds >= 1000 && milliseconds <= 24 * 3_600_000 ? milliseconds : undefined;
}

/** The levels of logrus, and its other names for two of them. */
function parseLogLevel(text: string): LogLevel | undefined {
  const word = text.toLowerCase();
  if (word === 'warn') return 'warning';
  return word === 'trace' ? 'debug' : oneOf(LOG_LEVELS)(word);
}

/** Whose connections the firewall redirects on the host itself. */
export type HostNetworkReach = 'nobody' | 'users' | 'users and root';

function parseHostNetwork(text: string): HostNetworkReach | undefined {
  if (text.toLowerCase() === 'root') return 'users and root';
  const on = flagValue(text);
  return on === undefined ? undefined : on ? 'users' : 'nobody';
}

function nameList(text: string): readonly string[] {
  return text.split(',').map((name) => name.trim()).filter((name) => name !== '');
}

function parseAccountNames(text: string): ReadonlyMap<string, string> | undefined {
  const parsed: unknown = JSON.parse(text);
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return undefined;
  const entries = Object.entries(parsed);
  const isMap = entries.every(([, account]) => typeof account === 'string' && isAccountId(account));
  return isMap ? new Map(entries as [string, string][]) : undefined;
}

function parseAllowedRoles(text: string): readonly ArnPattern[] {
  return text.split(/[\s,]+/).filter((pattern) => pattern !== '').map(parseArnPattern);
}

function parseSessionKey(text: string): { readonly kind: 'env' | 'label'; readonly name: string } | undefined {
  const [, kind, name] = /^(Env|Labels):(\S+)$/.exec(text) ?? [];
  return name === undefined ? undefined : { kind: kind === 'Env' ? 'env' : 'label', name };
}

function parseRequestLabels(text: string): RequestLabel[] | undefined {
  const named = new Set(nameList(text));
  const labels = REQUEST_LABELS.filter((label) => named.has(label));
  return labels.length === named.size ? labels : undefined;
}

const port = integer(0, 65_535);

/** `host:port`, `[v6]:port`, `:port`. */
export function parseListenAddress(text: string): ListenAddress | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d+)$/.exec(text);
  const number = port(match?.[3] ?? '');
  return match && number !== undefined ? { host: match[1] ?? match[2] ?? '', port: number } : undefined;
}

type WithDefault<T> = Setting<T> & { readonly default: string };
const setting = <T>(definition: WithDefault<T>): WithDefault<T> => definition;
const optional = <T>(definition: Omit<Setting<T>, 'default'>): Setting<T> => ({ ...definition, default: undefined });
/** A flag that older units may still have. */
const withoutMeaning = (name: string, why: string): Setting<string> =>
  optional({
    group: 'Accepted from older programs',
    env: [],
    flag: { name },
    from: 'iam-docker',
    expects: 'anything',
    help: `Has no meaning any more. ${why}`,
    parse: (text) => text,
  });
const YES_OR_NO = '"true" or "false"';

export const SETTINGS = {
  server: optional({
    group: 'Listening',
    env: [],
    flag: { name: 'server', short: 's', aliases: ['listen-addr'] },
    from: 'docker-ec2-metadata, ec2metaproxy, iam-docker',
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
    help: "The operator's listener: a page at /, and /healthz, /readyz, /status.",
    parse: (text) => (text === 'off' ? text : parseListenAddress(text)),
  }),
  maxConnections: setting({
    group: 'Listening',
    env: ['MAX_CONNECTIONS'],
    from: 'new',
    default: '4096',
    expects: 'a whole number from 1 to 1000000',
    help: 'Connections open at once, in all.',
    parse: integer(1, 1_000_000),
  }),
  maxConnectionsPerAddress: setting({
    group: 'Listening',
    env: ['MAX_CONNECTIONS_PER_ADDRESS'],
    from: 'new',
    default: '256',
    expects: 'a whole number from 1 to 1000000',
    help: 'Connections open at once from one address; more are answered 503.',
    parse: integer(1, 1_000_000),
  }),
  /**
   * The real service takes 1,024 packets a second from the whole instance (EC2 user guide, "IMDS limits"), and a request
   * on a connection of its own is five: one container gets what it could get there, and no more.
   */
  maxRequestsPerSecond: setting({
    group: 'Listening',
    env: ['MAX_REQUESTS_PER_SECOND'],
    from: 'new',
    default: '200',
    expects: 'a whole number from 0 to 1000000 (0: no limit)',
    help: 'Requests from one address; more of them wait, and after a second of waiting are answered 429.',
    parse: integer(0, 1_000_000),
  }),
  readTimeout: setting({
    group: 'Listening',
    env: ['READ_TIMEOUT'],
    flag: { name: 'read-timeout' },
    from: 'iam-docker',
    default: '5s',
    expects: DURATION_FORM,
    help: 'How long a request may take to arrive.',
    parse: parseTimeout,
  }),
  writeTimeout: setting({
    group: 'Listening',
    env: ['WRITE_TIMEOUT'],
    flag: { name: 'write-timeout' },
    from: 'iam-docker',
    default: '60s',
    expects: DURATION_FORM,
    help: 'How long a connection may be silent while an answer is sent.',
    parse: parseTimeout,
  }),

  docker: setting({
    group: 'Docker',
    env: ['DOCKER_URL', 'DOCKER_HOST'],
    flag: { name: 'docker-endpoint' },
    from: 'lyft, go, ec2metaproxy, iam-docker',
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
  dockerSyncPeriod: setting({
    group: 'Docker',
    env: ['DOCKER_SYNC_PERIOD'],
    flag: { name: 'docker-sync-period' },
    from: 'iam-docker',
    default: '0s',
    expects: DURATION_FORM,
    help: 'How often the containers are listed in addition to following the events; 0 is never.',
    parse: parseGoDuration,
  }),

  defaultRole: optional({
    group: 'Roles',
    env: ['DEFAULT_ROLE'],
    flag: { name: 'default-iam-role', short: 'r', aliases: ['role'] },
    from: 'lyft, go, docker-ec2-metadata, ec2metaproxy',
    expects: ROLE_STRING_FORMS,
    help: 'The role of containers that name none. Without it they get 404.',
    parse: (text) => text,
  }),
  accountNames: optional({
    group: 'Roles',
    env: ['AWS_ACCOUNT_MAP'],
    from: 'lyft',
    expects: 'JSON such as {"prod": "123456789012"}',
    help: 'Names for accounts, so that a role can be written "role@prod".',
    parse: parseAccountNames,
  }),
  ignoreImageRoles: setting({
    group: 'Roles',
    env: ['IGNORE_IMAGE_ROLES'],
    from: 'new',
    default: 'false',
    expects: YES_OR_NO,
    help: "What stands in the image's own ENV or LABEL does not count, for roles and all that belongs to them.",
    parse: flagValue,
  }),

  allowedRoles: optional({
    group: 'Who may have which role',
    env: ['ALLOWED_ROLES'],
    from: 'new',
    expects: 'role ARNs with "*", separated by commas or spaces',
    help: 'The only roles that any container may have. Without it: every role that STS gives.',
    parse: parseAllowedRoles,
  }),
  roleRules: optional({
    group: 'Who may have which role',
    env: ['ROLE_RULES'],
    from: 'new',
    expects: 'the path of a JSON file',
    help: 'Rules by image, name, network or label; read again on SIGHUP and when the file changes.',
    parse: (text) => text,
  }),

  sessionNaming: setting({
    group: 'Role sessions',
    env: ['SESSION_NAME'],
    from: 'new',
    default: 'container',
    expects: '"container", "classic", "shared", or a template such as "{container.name}@{host}"',
    help:
      'The name of role sessions: container is {name}-{short id}, classic is as docker-ec2-metadata cut it, shared is ' +
      'one for the host. A template has {container.name}, {container.id}, {image}, {host}, {label:X}, {env:X}.',
    parse: parseSessionNaming,
  }),
  sessionKey: optional({
    group: 'Role sessions',
    env: ['ROLE_SESSION_KEY'],
    from: 'lyft',
    expects: '"Env:NAME" or "Labels:NAME"',
    help: "The container's variable or label that holds its session name; 2 characters at least.",
    parse: parseSessionKey,
  }),
  sessionTags: optional({
    group: 'Role sessions',
    env: ['SESSION_TAGS'],
    from: 'new',
    expects: '"Labels:a,b", "Env:X,Y", or both with a space between',
    help: "The container's labels and variables that become session tags.",
    parse: parseTagSources,
  }),
  transitiveTags: setting({
    group: 'Role sessions',
    env: ['SESSION_TAGS_TRANSITIVE'],
    from: 'new',
    default: 'false',
    expects: YES_OR_NO,
    help: 'The session tags go on to roles that the role itself assumes.',
    parse: flagValue,
  }),
  sourceIdentity: optional({
    group: 'Role sessions',
    env: ['SOURCE_IDENTITY'],
    from: 'new',
    expects: 'a text or a template such as "{label:owner}"',
    help: 'The source identity of role sessions, with the places of SESSION_NAME.',
    parse: parseTemplate,
  }),
  roleDuration: optional({
    group: 'Role sessions',
    env: ['ROLE_DURATION'],
    from: 'new',
    expects: ROLE_DURATION_FORM,
    help: 'How long credentials are good for. Where a role allows less, and without it: 1 hour.',
    parse: parseRoleDuration,
  }),
  defaultPolicy: optional({
    group: 'Role sessions',
    env: ['DEFAULT_IAM_POLICY'],
    flag: { name: 'default-iam-policy' },
    from: 'ec2metaproxy',
    expects: 'an IAM policy as JSON',
    help: 'The session policy of containers that name neither a role nor a policy (IAM_POLICY).',
    parse: parseSessionPolicy,
  }),
  defaultAccountId: optional({
    group: 'Roles',
    env: ['DEFAULT_ACCOUNT_ID'],
    from: 'lyft, go',
    expects: '12 digits',
    help: 'The account of roles named without one. Without it IAM is asked (iam:GetRole).',
    parse: (text) => (isAccountId(text) ? text : undefined),
  }),
  roleCacheOffset: setting({
    group: 'Role sessions',
    env: ['ROLE_CACHE_OFFSET'],
    from: 'go',
    default: '15m',
    expects: DURATION_FORM,
    help: 'Time that credentials have left, at the least, when they are handed out.',
    parse: parseGoDuration,
  }),
  roleExpirationThreshold: optional({
    group: 'Role sessions',
    env: ['ROLE_EXPIRATION_THRESHOLD'],
    from: 'lyft',
    expects: 'a whole number of minutes from 0 to 720',
    help: 'The same in minutes; ROLE_CACHE_OFFSET counts first.',
    parse: integer(0, 720),
  }),
  region: optional({
    group: 'Role sessions',
    env: ['AWS_REGION', 'AWS_DEFAULT_REGION'],
    from: 'lyft, AWS',
    expects: 'a region such as "eu-west-1"',
    help: "The region whose STS is used. Without it the AWS config file's, the instance's own, us-east-1.",
    parse: (text) => (/^[a-z]{2,4}(-[a-z]+)+-\d+$/.test(text) ? text : undefined),
  }),

  hostNetwork: setting({
    group: "Containers on the host's network",
    env: ['HOST_NETWORK'],
    from: 'new',
    default: 'false',
    expects: '"true", "false", or "root"',
    help:
      'Tell who is asking from an address of the host by its process: true goes with --host-network of the firewall ' +
      'script, root with its --host-network-root.',
    parse: parseHostNetwork,
  }),
  hostRole: optional({
    group: "Containers on the host's network",
    env: ['HOST_ROLE'],
    from: 'new',
    expects: ROLE_STRING_FORMS,
    help: 'With HOST_NETWORK, the role of processes that are in no container. Without it they get 404.',
    parse: (text) => text,
  }),

  roleMapping: optional({
    group: 'Callers that Docker does not know',
    env: ['ROLE_MAPPING_FILE'],
    from: 'lyft',
    expects: 'the path of a JSON file',
    help: 'Roles by address; read again on SIGHUP and when the file changes.',
    parse: (text) => text,
  }),
  reverseLookup: setting({
    group: 'Callers that Docker does not know',
    env: ['ROLE_REVERSE_LOOKUP'],
    from: 'lyft',
    default: 'false',
    expects: YES_OR_NO,
    help: "Match an address by reverse DNS to a container's hostname.domainname. Whoever answers that DNS decides.",
    parse: flagValue,
  }),
  hostnamePattern: setting({
    group: 'Callers that Docker does not know',
    env: ['HOSTNAME_MATCH_REGEX'],
    from: 'lyft',
    default: '^.*$',
    expects: 'a regular expression',
    help: 'What of both names is compared, from their start: the first group, or without one the whole match.',
    parse: (text) => parseExpression(text),
  }),
  mesosLookup: setting({
    group: 'Callers that Docker does not know',
    env: ['MESOS_STATE_LOOKUP'],
    from: 'lyft',
    default: 'false',
    expects: YES_OR_NO,
    help: "Match an address to a running task of the Mesos agent, whose labels stand for a container's.",
    parse: flagValue,
  }),
  mesosUrl: setting({
    group: 'Callers that Docker does not know',
    env: ['MESOS_STATE_URL'],
    from: 'lyft',
    default: 'http://localhost:5051/state',
    expects: 'an http:// URL',
    help: "The Mesos agent's state.",
    parse: (text) => (/^http:/.test(text) && URL.canParse(text) ? new URL(text) : undefined),
  }),
  mesosTimeout: setting({
    group: 'Callers that Docker does not know',
    env: ['MESOS_STATE_TIMEOUT'],
    from: 'lyft',
    default: '2',
    expects: 'a whole number of seconds from 1 to 60',
    help: 'How long the Mesos agent may take.',
    parse: integer(1, 60),
  }),

  metadataUrl: setting({
    group: 'Metadata service',
    env: ['METADATA_URL'],
    flag: { name: 'metadata-url', aliases: ['meta-data-api'] },
    from: 'lyft, ec2metaproxy, iam-docker',
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
  passThroughAllow: optional({
    group: 'Metadata service',
    env: ['PASSTHROUGH_ALLOW'],
    from: 'kiam, kube2iam',
    expects: 'a regular expression',
    help: 'Only paths in which this is found are passed through.',
    parse: (text) => parseExpression(text),
  }),
  passThroughDeny: optional({
    group: 'Metadata service',
    env: ['PASSTHROUGH_DENY'],
    from: 'kiam, kube2iam',
    expects: 'a regular expression',
    help: 'Paths in which this is found, in any case, are not passed through, allowed or not.',
    parse: (text) => parseExpression(text, 'i'),
  }),
  disableUpstream: setting({
    group: 'Metadata service',
    env: ['DISABLE_UPSTREAM'],
    flag: { name: 'disable-upstream', boolean: true },
    from: 'iam-docker',
    default: 'false',
    expects: YES_OR_NO,
    help: 'Nothing at all is passed through.',
    parse: flagValue,
  }),

  logLevel: setting({
    group: 'Logging and metrics',
    env: ['LOG_LEVEL'],
    from: 'go',
    default: 'info',
    expects: LOG_LEVELS.join(', '),
    help: 'What is logged: debug has a line for each request.',
    parse: parseLogLevel,
  }),
  verbose: setting({
    group: 'Logging and metrics',
    env: ['VERBOSE'],
    flag: { name: 'verbose', boolean: true },
    from: 'docker-ec2-metadata, ec2metaproxy, iam-docker',
    default: 'false',
    expects: YES_OR_NO,
    help: 'The same as LOG_LEVEL=debug.',
    parse: flagValue,
  }),
  debug: setting({
    group: 'Logging and metrics',
    env: ['DEBUG'],
    from: 'lyft',
    default: 'false',
    expects: YES_OR_NO,
    help: 'The same as LOG_LEVEL=debug; no secrets either.',
    parse: flagValue,
  }),
  prometheus: setting({
    group: 'Logging and metrics',
    env: ['ENABLE_PROMETHEUS'],
    from: 'go',
    default: 'false',
    expects: YES_OR_NO,
    help: 'Serve /metrics on the ADMIN_ADDR listener, and on PORT for callers on this host that are no containers.',
    parse: flagValue,
  }),
  metricsLabels: setting({
    group: 'Logging and metrics',
    env: ['METRICS_LABELS'],
    from: 'new',
    default: REQUEST_LABELS.filter((label) => label !== 'remote_addr').join(', '),
    expects: `some of ${REQUEST_LABELS.join(', ')}, separated by commas`,
    help: "The labels of go-metadataproxy's metrics that there are; remote_addr has a value for each container.",
    parse: parseRequestLabels,
  }),
  copyDockerLabels: setting({
    group: 'Logging and metrics',
    env: ['COPY_DOCKER_LABELS'],
    from: 'go',
    default: '',
    expects: 'names, separated by commas',
    help: "The container's labels that go into metrics.",
    parse: nameList,
  }),
  copyDockerEnv: setting({
    group: 'Logging and metrics',
    env: ['COPY_DOCKER_ENV'],
    from: 'go',
    default: '',
    expects: 'names, separated by commas',
    help: "The container's variables that go into metrics.",
    parse: nameList,
  }),
  copyRequestHeaders: setting({
    group: 'Logging and metrics',
    env: ['COPY_REQUEST_HEADERS'],
    from: 'go',
    default: '',
    expects: 'names, separated by commas',
    help: "The request's headers that go into metrics.",
    parse: nameList,
  }),
  labelSeparator: setting({
    group: 'Logging and metrics',
    env: ['LABEL_SEPARATOR'],
    from: 'go',
    default: '_',
    expects: 'a text without spaces',
    help: 'What stands between "container" or "header" and those names, in lower case, in metrics.',
    parse: (text) => (/^\S{1,8}$/.test(text) ? text : undefined),
  }),
  logFormat: setting({
    group: 'Logging and metrics',
    env: ['LOG_FORMAT'],
    from: 'go',
    default: 'text',
    expects: LOG_FORMATS.join(', '),
    help: 'How it is logged, on standard error.',
    parse: oneOf(LOG_FORMATS),
  }),
  statsdAddress: optional({
    group: 'Logging and metrics',
    env: ['STATSD_ADDR'],
    from: 'go',
    expects: RECEIVER_FORM,
    help: 'statsd, to which metrics are sent over UDP.',
    parse: parseReceiverAddress,
  }),
  statsiteAddress: optional({
    group: 'Logging and metrics',
    env: ['STATSITE_ADDR'],
    from: 'go',
    expects: RECEIVER_FORM,
    help: 'statsite, to which metrics are sent over TCP.',
    parse: parseReceiverAddress,
  }),
  datadogAddress: optional({
    group: 'Logging and metrics',
    env: ['DATADOG_ADDR'],
    from: 'go',
    expects: DATADOG_FORM,
    help: "Datadog's agent, to which metrics are sent over UDP, or over its stream socket (dogstatsd_stream_socket).",
    parse: parseDatadogAddress,
  }),
  metricsInterval: setting({
    group: 'Logging and metrics',
    env: ['METRICS_INTERVAL'],
    from: 'new',
    default: '10s',
    expects: 'a duration from "1s" to "24h"',
    help: 'How often metrics are sent.',
    parse: parseTimeout,
  }),
  otlpEndpoint: optional({
    group: 'Logging and metrics',
    env: ['OTEL_EXPORTER_OTLP_ENDPOINT'],
    from: 'OpenTelemetry',
    expects: OTLP_FORM,
    help: 'The OTLP/HTTP receiver that metrics are sent to, as JSON; /v1/metrics is added.',
    parse: receiverUrl,
  }),
  otlpMetricsEndpoint: optional({
    group: 'Logging and metrics',
    env: ['OTEL_EXPORTER_OTLP_METRICS_ENDPOINT'],
    from: 'OpenTelemetry',
    expects: OTLP_FORM,
    help: 'The same with nothing added; counts first.',
    parse: receiverUrl,
  }),
  otlpProtocol: setting({
    group: 'Logging and metrics',
    env: ['OTEL_EXPORTER_OTLP_METRICS_PROTOCOL', 'OTEL_EXPORTER_OTLP_PROTOCOL'],
    from: 'OpenTelemetry',
    default: 'http/json',
    expects: '"http/json"',
    help: 'How it is sent. What takes http/protobuf takes http/json at the same address; what takes grpc does not.',
    parse: oneOf(['http/json', 'http/protobuf', 'grpc']),
  }),
  otlpHeaders: optional({
    group: 'Logging and metrics',
    env: ['OTEL_EXPORTER_OTLP_METRICS_HEADERS', 'OTEL_EXPORTER_OTLP_HEADERS'],
    from: 'OpenTelemetry',
    expects: KEY_VALUE_FORM,
    help: 'Headers of each request, such as those with a key.',
    secret: true,
    parse: headerList,
  }),
  otlpTimeout: setting({
    group: 'Logging and metrics',
    env: ['OTEL_EXPORTER_OTLP_METRICS_TIMEOUT', 'OTEL_EXPORTER_OTLP_TIMEOUT'],
    from: 'OpenTelemetry',
    default: '10000',
    expects: 'a whole number of milliseconds from 1 to 600000',
    help: 'How long each request may take.',
    parse: integer(1, 600_000),
  }),
  otlpCompression: setting({
    group: 'Logging and metrics',
    env: ['OTEL_EXPORTER_OTLP_METRICS_COMPRESSION', 'OTEL_EXPORTER_OTLP_COMPRESSION'],
    from: 'OpenTelemetry',
    default: 'none',
    expects: '"gzip" or "none"',
    help: 'How the requests are compressed.',
    parse: oneOf(['gzip', 'none']),
  }),
  otlpInterval: setting({
    group: 'Logging and metrics',
    env: ['OTEL_METRIC_EXPORT_INTERVAL'],
    from: 'OpenTelemetry',
    default: '60000',
    expects: 'a whole number of milliseconds from 100 to 86400000',
    help: 'How often metrics are sent.',
    parse: integer(100, 86_400_000),
  }),
  otlpServiceName: optional({
    group: 'Logging and metrics',
    env: ['OTEL_SERVICE_NAME'],
    from: 'OpenTelemetry',
    expects: 'anything',
    help: 'service.name of the metrics. Without it that of OTEL_RESOURCE_ATTRIBUTES, metadataproxy.',
    parse: (text) => text,
  }),
  otlpResource: optional({
    group: 'Logging and metrics',
    env: ['OTEL_RESOURCE_ATTRIBUTES'],
    from: 'OpenTelemetry',
    expects: KEY_VALUE_FORM,
    help: "More attributes of the metrics' resource; service.instance.id and host.name are the host's name.",
    parse: keyValueList,
  }),
  otlpDisabled: setting({
    group: 'Logging and metrics',
    env: ['OTEL_SDK_DISABLED'],
    from: 'OpenTelemetry',
    default: 'false',
    expects: YES_OR_NO,
    help: 'Nothing is sent over OTLP.',
    parse: trueOrFalse,
  }),
  newRelicAppName: setting({
    group: 'Logging and metrics',
    env: ['NEWRELIC_APP_NAME'],
    from: 'go',
    default: 'metadataproxy',
    expects: 'anything',
    help: 'service.name at New Relic.',
    parse: (text) => text,
  }),
  newRelicLicense: optional({
    group: 'Logging and metrics',
    env: ['NEWRELIC_LICENSE'],
    from: 'go',
    expects: 'a license key, which is 40 letters and digits',
    help: "Export metrics to New Relic's OTLP endpoint. The key's prefix selects the European region.",
    secret: true,
    // Insert keys have dashes and another length; the form is there for what can't be one.
    parse: (text) => (/^[\w-]{16,100}$/.test(text) ? text : undefined),
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

  credentialRefreshPeriod: withoutMeaning('credential-refresh-period', 'Credentials are renewed when they need to be.'),
  eventHandlers: withoutMeaning('event-handlers', 'Events need no workers.'),
  queueSize: withoutMeaning('queue-size', 'Events need no queue.'),
} as const;

export type SettingName = keyof typeof SETTINGS;
type Parsed<S> = S extends Setting<infer T> ? T : never;

/** The value of every setting; undefined only where a setting has no default. */
export type SettingValues = {
  readonly [Name in SettingName]: Parsed<(typeof SETTINGS)[Name]> | Missing<(typeof SETTINGS)[Name]>;
};
type Missing<S> = S extends { default: string } ? never : undefined;

