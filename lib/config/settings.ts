/**
 * Every setting: its environment variables, flags, default, accepted values and meaning. The configuration, `--help`,
 * the manual page, the environment file and README's table are made from this.
 */

import { isIP } from 'node:net';
import { parseDockerEndpoint } from '../docker/endpoint.ts';
import { isAccountId } from '../roles/role-arn.ts';
import { parseArnPattern, type ArnPattern } from '../roles/arn-pattern.ts';
import { parseRoleDuration, ROLE_DURATION_FORM } from '../roles/role-duration.ts';
import { ROLE_STRING_FORMS } from '../roles/role-reference.ts';
import { parseSessionNaming } from '../roles/session-name.ts';
import { parseSessionPolicy } from '../roles/session-policy.ts';
import { parseTagSources } from '../roles/session-tags.ts';
import { parseTemplate } from '../roles/template.ts';
import { LOG_FORMATS, LOG_LEVELS } from '../log/log.ts';
import { DATADOG_FORM, parseDatadogAddress, parseReceiverAddress, RECEIVER_FORM } from '../telemetry/export/receiver-address.ts';
import { REQUEST_LABELS } from '../telemetry/metrics/request-labels.ts';
import {
  boolean, duration, headers, hostNetworkReach, integer, keyValues, kind, matching, names, oneOf, parseListenAddress, port,
  regex, someOf, text, trueOrFalse, url, type Kind, type ListenAddress,
} from './kinds.ts';

export interface Flag {
  readonly name: string;
  readonly short?: string;
  /** Its names in other programs. */
  readonly aliases?: readonly string[];
  /** Needs no value. */
  readonly boolean?: true;
}

/** `T` includes undefined if the setting has no default. */
export interface Setting<T> {
  /** The section of `--help` that shows it. */
  readonly group: string;
  /** The first one that is set applies; a flag takes precedence over all of them. */
  readonly env: readonly string[];
  readonly flag?: Flag;
  /** The older programs that have this setting. */
  readonly from: string;
  /** As a user would write it. */
  readonly default: string | undefined;
  readonly takes: Kind<T>;
  readonly help: string;
  /** No output shows its value. */
  readonly secret?: true;
}

type Definition = Pick<Setting<unknown>, 'from' | 'takes' | 'help'> &
  Partial<Pick<Setting<unknown>, 'env' | 'flag' | 'default' | 'secret'>>;
type HasDefault = { readonly default: string } | { readonly takes: { readonly default: string } };
type ValueOf<D> = D extends { readonly takes: Kind<infer T> } ? (D extends HasDefault ? T : T | undefined) : never;
type Section<S> = { readonly [Name in keyof S]: Setting<ValueOf<S[Name]>> };

function section<const S extends Readonly<Record<string, Definition>>>(group: string, settings: S): Section<S> {
  const complete = Object.entries(settings).map(([name, definition]) => {
    return [name, { group, env: [], default: definition.takes.default, ...definition }];
  });
  // Each entry keeps the kind of its definition.
  return Object.fromEntries(complete) as Section<S>;
}

function parseAccountNames(value: string): ReadonlyMap<string, string> | undefined {
  const parsed: unknown = JSON.parse(value);
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return undefined;
  const entries = Object.entries(parsed);
  const isMap = entries.every(([, account]) => typeof account === 'string' && isAccountId(account));
  return isMap ? new Map(entries as [string, string][]) : undefined;
}

function parseAllowedRoles(value: string): readonly ArnPattern[] {
  return value.split(/[\s,]+/).filter((pattern) => pattern !== '').map(parseArnPattern);
}

function parseSessionKey(value: string): { readonly kind: 'env' | 'label'; readonly name: string } | undefined {
  const [, source, name] = /^(Env|Labels):(\S+)$/.exec(value) ?? [];
  return name === undefined ? undefined : { kind: source === 'Env' ? 'env' : 'label', name };
}

/** A flag that older unit files may still contain. */
const ignoredFlag = (name: string, why: string) =>
  ({ flag: { name }, from: 'iam-docker', takes: text(), help: `Deprecated and ignored. ${why}` }) as const;

/** A container chooses the text that is matched; see regex() in kinds.ts. */
const REGEX_RISK = 'Avoid nested repetition such as (a+)+: a container can choose a text that makes it block the proxy.';

export const SETTINGS = {
  ...section('Listening', {
    server: {
      flag: { name: 'server', short: 's', aliases: ['listen-addr'] },
      from: 'docker-ec2-metadata, ec2metaproxy, iam-docker',
      takes: kind('"host:port" or ":port"', parseListenAddress),
      help: 'HOST and PORT in one setting.',
    },
    host: {
      env: ['HOST'], from: 'lyft, go', default: '0.0.0.0',
      takes: kind('an IP address or "localhost"', (value) => (isIP(value) > 0 || value === 'localhost' ? value : undefined)),
      help: 'The address that containers connect to; "::" accepts IPv6 as well.',
    },
    port: {
      env: ['PORT'], from: 'lyft, go', default: '18000',
      takes: port(),
      help: 'The port that containers connect to.',
    },
    adminAddress: {
      env: ['ADMIN_ADDR'], from: 'new', default: '127.0.0.1:18001',
      takes: kind<ListenAddress | 'off'>('"host:port" or "off"', (value) => value === 'off' ? value : parseListenAddress(value)),
      help: "The operator's endpoint: a page at /, and /healthz, /readyz and /status.",
    },
    maxConnections: {
      env: ['MAX_CONNECTIONS'], from: 'new', default: '4096',
      takes: integer(1, 1_000_000),
      help: 'Maximum number of open connections.',
    },
    maxConnectionsPerAddress: {
      env: ['MAX_CONNECTIONS_PER_ADDRESS'], from: 'new', default: '256',
      takes: integer(1, 1_000_000),
      help: 'Maximum number of open connections from one address; further ones get 503.',
    },
    /**
     * IMDS accepts 1,024 packets a second from the whole instance (EC2 user guide, "IMDS limits"). A request on its own
     * connection takes five packets, so one container gets the rate that IMDS would give it, and no more.
     */
    maxRequestsPerSecond: {
      env: ['MAX_REQUESTS_PER_SECOND'], from: 'new', default: '200',
      takes: integer(0, 1_000_000, { zero: 'no limit' }),
      help: 'Rate limit for each address. Requests above it wait; a request that has waited for a second gets 429.',
    },
    readTimeout: {
      env: ['READ_TIMEOUT'], flag: { name: 'read-timeout' }, from: 'iam-docker', default: '5s',
      takes: duration('1s', '24h'),
      help: 'Timeout for receiving a request.',
    },
    writeTimeout: {
      env: ['WRITE_TIMEOUT'], flag: { name: 'write-timeout' }, from: 'iam-docker', default: '60s',
      takes: duration('1s', '24h'),
      help: 'Idle timeout of a connection while a response is sent.',
    },
  }),

  ...section('Docker', {
    docker: {
      env: ['DOCKER_URL', 'DOCKER_HOST'], flag: { name: 'docker-endpoint' }, from: 'lyft, go, ec2metaproxy, iam-docker',
      default: 'unix:///var/run/docker.sock',
      takes: kind('unix:///path, tcp://host:port, http://host:port or https://host:port', parseDockerEndpoint),
      help: 'The Docker Engine API. unix://var/run/docker.sock also means the absolute path.',
    },
    dockerTlsVerify: {
      env: ['DOCKER_TLS_VERIFY'], from: 'Docker',
      takes: boolean(false),
      help: 'Use TLS for a tcp:// engine, and verify the engine against ca.pem.',
    },
    dockerCertPath: {
      env: ['DOCKER_CERT_PATH'], from: 'Docker',
      takes: text('a directory'),
      help:
        'Directory with ca.pem, cert.pem and key.pem. Setting it enables TLS; DOCKER_TLS_VERIFY alone uses ~/.docker.',
    },
    dockerSyncPeriod: {
      env: ['DOCKER_SYNC_PERIOD'], flag: { name: 'docker-sync-period' }, from: 'iam-docker', default: '0s',
      takes: duration(),
      help: 'Interval of full resyncs with the engine, in addition to its event stream; 0 disables them.',
    },
  }),

  ...section('Roles', {
    defaultRole: {
      env: ['DEFAULT_ROLE'], flag: { name: 'default-iam-role', short: 'r', aliases: ['role'] },
      from: 'lyft, go, docker-ec2-metadata, ec2metaproxy',
      takes: text(ROLE_STRING_FORMS),
      help: 'The role of containers that declare none. Without it they get 404.',
    },
    defaultAccountId: {
      env: ['DEFAULT_ACCOUNT_ID'], from: 'lyft, go',
      takes: kind('12 digits', (value) => (isAccountId(value) ? value : undefined)),
      help: 'The account of roles that are declared without one. Without it the proxy asks IAM (iam:GetRole).',
    },
    accountNames: {
      env: ['AWS_ACCOUNT_MAP'], from: 'lyft',
      takes: kind('JSON such as {"prod": "123456789012"}', parseAccountNames),
      help: 'Names for accounts, so that a role can be written "role@prod".',
    },
    ignoreImageRoles: {
      env: ['IGNORE_IMAGE_ROLES'], from: 'new',
      takes: boolean(false),
      help: 'Ignore roles and role options that come from the ENV or LABEL of an image.',
    },
  }),

  ...section('Allowed roles', {
    allowedRoles: {
      env: ['ALLOWED_ROLES'], from: 'new',
      takes: kind('role ARNs with "*", separated by commas or spaces', parseAllowedRoles),
      help: 'The only roles that containers may have. Without it: every role that STS lets the proxy assume.',
    },
    roleRules: {
      env: ['ROLE_RULES'], from: 'new',
      takes: text('the path of a JSON file'),
      help: 'Rules by image, name, network or label. The file is reloaded on SIGHUP and when it changes.',
    },
  }),

  ...section('Role sessions', {
    sessionNaming: {
      env: ['SESSION_NAME'], from: 'new', default: 'container',
      takes: kind('"container", "classic", "shared" or a template such as "{container.name}@{host}"', parseSessionNaming),
      help:
        'The name of role sessions: container is {name}-{short id}, classic is the name that docker-ec2-metadata used, ' +
        'shared is one name for the host. A template has the placeholders {container.name}, {container.id}, {image}, ' +
        '{host}, {label:X} and {env:X}.',
    },
    sessionKey: {
      env: ['ROLE_SESSION_KEY'], from: 'lyft',
      takes: kind('"Env:NAME" or "Labels:NAME"', parseSessionKey),
      help: "The container's variable or label that holds its session name, which needs at least 2 characters.",
    },
    sessionTags: {
      env: ['SESSION_TAGS'], from: 'new',
      takes: kind('"Labels:a,b", "Env:X,Y", or both with a space between', parseTagSources),
      help: "The container's labels and variables that become session tags.",
    },
    transitiveTags: {
      env: ['SESSION_TAGS_TRANSITIVE'], from: 'new',
      takes: boolean(false),
      help: 'Make the session tags transitive: they apply to roles that the role session itself assumes.',
    },
    sourceIdentity: {
      env: ['SOURCE_IDENTITY'], from: 'new',
      takes: kind('text or a template such as "{label:owner}"', parseTemplate),
      help: 'The source identity of role sessions, with the placeholders of SESSION_NAME.',
    },
    roleDuration: {
      env: ['ROLE_DURATION'], from: 'new',
      takes: kind(ROLE_DURATION_FORM, parseRoleDuration),
      help: 'Lifetime of credentials. Without it, and for roles that allow less: 1 hour.',
    },
    defaultPolicy: {
      env: ['DEFAULT_IAM_POLICY'], flag: { name: 'default-iam-policy' }, from: 'ec2metaproxy',
      takes: kind('an IAM policy as JSON', parseSessionPolicy),
      help: 'The session policy of containers that declare neither a role nor a policy (IAM_POLICY).',
    },
    roleCacheOffset: {
      env: ['ROLE_CACHE_OFFSET'], from: 'go', default: '15m',
      takes: duration(),
      help: 'Minimum remaining lifetime of the credentials that containers get.',
    },
    roleExpirationThreshold: {
      env: ['ROLE_EXPIRATION_THRESHOLD'], from: 'lyft',
      takes: integer(0, 720, { unit: 'minutes' }),
      help: 'The same in minutes. ROLE_CACHE_OFFSET takes precedence.',
    },
    region: {
      env: ['AWS_REGION', 'AWS_DEFAULT_REGION'], from: 'lyft, AWS',
      takes: matching('a region such as "eu-west-1"', /^[a-z]{2,4}(-[a-z]+)+-\d+$/),
      help:
        "The region of the STS endpoint. Without it: the AWS config file's region, then the instance's, then us-east-1.",
    },
  }),

  ...section('Host network', {
    hostNetwork: {
      env: ['HOST_NETWORK'], from: 'new', default: 'false',
      takes: hostNetworkReach(),
      help:
        "Identify callers that use an address of the host by their process: true goes with the firewall script's " +
        '--host-network, root with its --host-network-root.',
    },
    hostRole: {
      env: ['HOST_ROLE'], from: 'new',
      takes: text(ROLE_STRING_FORMS),
      help: 'With HOST_NETWORK: the role of processes that run in no container. Without it they get 404.',
    },
  }),

  ...section('Callers unknown to Docker', {
    roleMapping: {
      env: ['ROLE_MAPPING_FILE'], from: 'lyft',
      takes: text('the path of a JSON file'),
      help: 'Roles by address. The file is reloaded on SIGHUP and when it changes.',
    },
    reverseLookup: {
      env: ['ROLE_REVERSE_LOOKUP'], from: 'lyft',
      takes: boolean(false),
      help:
        "Match an address by reverse DNS to a container's hostname.domainname. Whoever controls that DNS zone controls " +
        'the roles.',
    },
    hostnamePattern: {
      env: ['HOSTNAME_MATCH_REGEX'], from: 'lyft', default: '^.*$',
      takes: regex(),
      help:
        "The part of both names to compare: the first group, or else the whole match; it must start at the name's start. " +
        `${REGEX_RISK}`,
    },
    mesosLookup: {
      env: ['MESOS_STATE_LOOKUP'], from: 'lyft',
      takes: boolean(false),
      help: "Match an address to a running task of the Mesos agent, and use the task's labels as a container's.",
    },
    mesosUrl: {
      env: ['MESOS_STATE_URL'], from: 'lyft', default: 'http://localhost:5051/state',
      takes: url(['http'], { userInfo: true }),
      help: "The Mesos agent's state endpoint.",
    },
    mesosTimeout: {
      env: ['MESOS_STATE_TIMEOUT'], from: 'lyft', default: '2',
      takes: integer(1, 60, { unit: 'seconds' }),
      help: 'Timeout for the Mesos agent.',
    },
  }),

  ...section('Upstream IMDS', {
    metadataUrl: {
      env: ['METADATA_URL'], flag: { name: 'metadata-url', aliases: ['meta-data-api'] },
      from: 'lyft, ec2metaproxy, iam-docker', default: 'http://169.254.169.254',
      takes: url(['http'], { origin: true }),
      help: 'The upstream instance metadata service, which answers every request that is passed through.',
    },
    imdsv2Required: {
      env: ['IMDSV2_REQUIRED'], from: 'new',
      takes: boolean(false),
      help: 'Answer reads without an IMDSv2 session token with 401.',
    },
    passThroughAllow: {
      env: ['PASSTHROUGH_ALLOW'], from: 'kiam, kube2iam',
      takes: regex(),
      help: `Pass through only paths that contain a match. ${REGEX_RISK}`,
    },
    passThroughDeny: {
      env: ['PASSTHROUGH_DENY'], from: 'kiam, kube2iam',
      takes: regex('i'),
      help: `Do not pass through paths that contain a match, in any case, allowed or not. ${REGEX_RISK}`,
    },
    disableUpstream: {
      env: ['DISABLE_UPSTREAM'], flag: { name: 'disable-upstream', boolean: true }, from: 'iam-docker',
      takes: boolean(false),
      help: 'Pass nothing through.',
    },
  }),

  ...section('Logging', {
    logLevel: {
      env: ['LOG_LEVEL'], from: 'go', default: 'info',
      takes: oneOf(LOG_LEVELS, { warn: 'warning', trace: 'debug' }),
      help: 'The lowest level that is logged. debug logs every request.',
    },
    verbose: {
      env: ['VERBOSE'], flag: { name: 'verbose', boolean: true }, from: 'docker-ec2-metadata, ec2metaproxy, iam-docker',
      takes: boolean(false),
      help: 'The same as LOG_LEVEL=debug.',
    },
    debug: {
      env: ['DEBUG'], from: 'lyft',
      takes: boolean(false),
      help: 'The same as LOG_LEVEL=debug. It does not log secrets either.',
    },
    logFormat: {
      env: ['LOG_FORMAT'], from: 'go', default: 'text',
      takes: oneOf(LOG_FORMATS),
      help: 'The format of the log on standard error.',
    },
  }),

  ...section('Metrics', {
    prometheus: {
      env: ['ENABLE_PROMETHEUS'], from: 'go',
      takes: boolean(false),
      help: 'Serve /metrics on ADMIN_ADDR, and on PORT to callers on this host that are not containers.',
    },
    metricsLabels: {
      env: ['METRICS_LABELS'], from: 'new', default: REQUEST_LABELS.filter((label) => label !== 'remote_addr').join(', '),
      takes: someOf(REQUEST_LABELS),
      help: "The labels that go-metadataproxy's metrics have. remote_addr adds one series for each container.",
    },
    copyDockerLabels: {
      env: ['COPY_DOCKER_LABELS'], from: 'go',
      takes: names(),
      help: 'Container labels to copy into metric labels.',
    },
    copyDockerEnv: {
      env: ['COPY_DOCKER_ENV'], from: 'go',
      takes: names(),
      help: 'Container variables to copy into metric labels.',
    },
    copyRequestHeaders: {
      env: ['COPY_REQUEST_HEADERS'], from: 'go',
      takes: names(),
      help: 'Request headers to copy into metric labels.',
    },
    labelSeparator: {
      env: ['LABEL_SEPARATOR'], from: 'go', default: '_',
      takes: matching('1 to 8 characters without spaces', /^\S{1,8}$/),
      help: 'The separator between "container" or "header" and the lower-case name in such a metric label.',
    },
    statsdAddress: {
      env: ['STATSD_ADDR'], from: 'go',
      takes: kind(RECEIVER_FORM, parseReceiverAddress),
      help: 'The statsd server that metrics are exported to over UDP.',
    },
    statsiteAddress: {
      env: ['STATSITE_ADDR'], from: 'go',
      takes: kind(RECEIVER_FORM, parseReceiverAddress),
      help: 'The statsite server that metrics are exported to over TCP.',
    },
    datadogAddress: {
      env: ['DATADOG_ADDR'], from: 'go',
      takes: kind(DATADOG_FORM, parseDatadogAddress),
      help:
        'The Datadog agent that metrics are exported to over UDP, or over its stream socket (dogstatsd_stream_socket).',
    },
    metricsInterval: {
      env: ['METRICS_INTERVAL'], from: 'new', default: '10s',
      takes: duration('1s', '24h'),
      help: 'Export interval for statsd, statsite and Datadog.',
    },
    otlpEndpoint: {
      env: ['OTEL_EXPORTER_OTLP_ENDPOINT'], from: 'OpenTelemetry',
      takes: url(['http', 'https']),
      help: 'The OTLP/HTTP endpoint that metrics are exported to as JSON; the exporter appends /v1/metrics.',
    },
    otlpMetricsEndpoint: {
      env: ['OTEL_EXPORTER_OTLP_METRICS_ENDPOINT'], from: 'OpenTelemetry',
      takes: url(['http', 'https']),
      help: 'The same without an appended path. It takes precedence.',
    },
    otlpProtocol: {
      env: ['OTEL_EXPORTER_OTLP_METRICS_PROTOCOL', 'OTEL_EXPORTER_OTLP_PROTOCOL'], from: 'OpenTelemetry',
      default: 'http/json',
      takes: { ...oneOf(['http/json', 'http/protobuf', 'grpc']), expects: '"http/json"' },
      help:
        'The OTLP protocol. http/protobuf is exported as http/json, which the same endpoint accepts; grpc is unsupported.',
    },
    otlpHeaders: {
      env: ['OTEL_EXPORTER_OTLP_METRICS_HEADERS', 'OTEL_EXPORTER_OTLP_HEADERS'], from: 'OpenTelemetry', secret: true,
      takes: headers(),
      help: 'Headers of each export request, such as an API key.',
    },
    otlpTimeout: {
      env: ['OTEL_EXPORTER_OTLP_METRICS_TIMEOUT', 'OTEL_EXPORTER_OTLP_TIMEOUT'], from: 'OpenTelemetry', default: '10000',
      takes: integer(1, 600_000, { unit: 'milliseconds' }),
      help: 'Timeout of each export request.',
    },
    otlpCompression: {
      env: ['OTEL_EXPORTER_OTLP_METRICS_COMPRESSION', 'OTEL_EXPORTER_OTLP_COMPRESSION'], from: 'OpenTelemetry',
      default: 'none',
      takes: oneOf(['gzip', 'none']),
      help: 'Compression of the export requests.',
    },
    otlpInterval: {
      env: ['OTEL_METRIC_EXPORT_INTERVAL'], from: 'OpenTelemetry', default: '60000',
      takes: integer(100, 86_400_000, { unit: 'milliseconds' }),
      help: 'Export interval for OTLP.',
    },
    otlpServiceName: {
      env: ['OTEL_SERVICE_NAME'], from: 'OpenTelemetry',
      takes: text(),
      help: "The resource's service.name. Without it: that of OTEL_RESOURCE_ATTRIBUTES, then metadataproxy.",
    },
    otlpResource: {
      env: ['OTEL_RESOURCE_ATTRIBUTES'], from: 'OpenTelemetry',
      takes: keyValues(),
      help: "Additional resource attributes. service.instance.id and host.name are the host's name.",
    },
    otlpDisabled: {
      env: ['OTEL_SDK_DISABLED'], from: 'OpenTelemetry',
      takes: trueOrFalse(false),
      help: 'Disable the OTLP exporter.',
    },
    newRelicAppName: {
      env: ['NEWRELIC_APP_NAME'], from: 'go', default: 'metadataproxy',
      takes: text(),
      help: 'service.name at New Relic.',
    },
    // Insert keys contain dashes and have another length; the pattern only rejects what cannot be a key.
    newRelicLicense: {
      env: ['NEWRELIC_LICENSE'], from: 'go', secret: true,
      takes: matching('a license key, which is 40 letters and digits', /^[\w-]{16,100}$/),
      help: "Export metrics to New Relic's OTLP endpoint. The key's prefix selects the European region.",
    },
  }),

  ...section('Demonstration', {
    mockApi: {
      env: ['MOCK_API'], flag: { name: 'mock', boolean: true }, from: 'lyft',
      takes: boolean(false),
      help: 'Replace the upstream IMDS with a built-in mock.',
    },
    mockedInstanceId: {
      env: ['MOCKED_INSTANCE_ID'], from: 'lyft', default: 'i-0a1b2c3d4e5f67890',
      takes: matching('an instance ID such as "i-0a1b2c3d4e5f67890"', /^[\w-]{1,64}$/),
      help: "The mock's instance ID.",
    },
    mockCredentials: {
      env: ['MOCK_CREDENTIALS'], flag: { name: 'mock-credentials', boolean: true }, from: 'new',
      takes: boolean(false),
      help: 'Answer with fake credentials instead of calling STS, and treat callers on loopback as a container.',
    },
  }),

  ...section('Deprecated', {
    credentialRefreshPeriod: ignoredFlag('credential-refresh-period', 'The proxy refreshes credentials before they expire.'),
    eventHandlers: ignoredFlag('event-handlers', 'The proxy needs no event workers.'),
    queueSize: ignoredFlag('queue-size', 'The proxy needs no event queue.'),
  }),
} as const;

export type SettingName = keyof typeof SETTINGS;

/** The value of every setting; undefined only where a setting has no default. */
export type SettingValues = {
  readonly [Name in SettingName]: (typeof SETTINGS)[Name] extends Setting<infer T> ? T : never;
};
