import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { ConfigError, readConfig, type Environment, type FlagValues } from '../../lib/config/config.ts';
import { SETTINGS, type Setting } from '../../lib/config/settings.ts';

const settings: Setting<unknown>[] = Object.values(SETTINGS);
const ROLE_FORMS = '"name", "name@123456789012", "path/name@123456789012" or a role ARN';

function problemsOf(env: Environment, flags: FlagValues = {}): readonly string[] {
  try {
    readConfig(flags, env);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.problems;
  }
  return [];
}

test('without settings every value is its default', () => {
  assert.deepEqual(readConfig({}, {}), {
    host: '0.0.0.0',
    port: 18_000,
    adminAddress: { host: '127.0.0.1', port: 18_001 },
    maxConnections: 4096,
    maxConnectionsPerAddress: 256,
    maxRequestsPerSecond: 200,
    readTimeout: 5_000,
    writeTimeout: 60_000,
    dockerSyncPeriod: 0,
    docker: { kind: 'unix', socketPath: '/var/run/docker.sock', url: 'unix:///var/run/docker.sock' },
    defaultRole: undefined,
    defaultAccountId: undefined,
    accountNames: new Map(),
    ignoreImageRoles: false,
    allowedRoles: undefined,
    roleRules: undefined,
    sessionNaming: { kind: 'container' },
    sessionKey: undefined,
    sessionTags: undefined,
    transitiveTags: false,
    sourceIdentity: undefined,
    roleDuration: undefined,
    defaultPolicy: undefined,
    hostNetwork: 'nobody',
    hostRole: undefined,
    roleMapping: undefined,
    reverseLookup: false,
    hostnamePattern: /^.*$/,
    mesosLookup: false,
    mesosUrl: new URL('http://localhost:5051/state'),
    mesosTimeout: 2,
    roleCacheOffset: 15 * 60_000,
    region: undefined,
    metadataUrl: new URL('http://169.254.169.254'),
    imdsv2Required: false,
    passThroughAllow: undefined,
    passThroughDeny: undefined,
    disableUpstream: false,
    logLevel: 'info',
    logFormat: 'text',
    prometheus: false,
    metricsLabels: [
      'handler_name',
      'request_path',
      'api_version',
      'role_name',
      'response_code',
      'error_description',
      'service',
    ],
    copyDockerLabels: [],
    copyDockerEnv: [],
    copyRequestHeaders: [],
    labelSeparator: '_',
    statsdAddress: undefined,
    statsiteAddress: undefined,
    datadogAddress: undefined,
    metricsInterval: 10_000,
    otlpEndpoint: undefined,
    otlpMetricsEndpoint: undefined,
    otlpProtocol: 'http/json',
    otlpHeaders: undefined,
    otlpTimeout: 10_000,
    otlpCompression: 'none',
    otlpInterval: 60_000,
    otlpServiceName: undefined,
    otlpResource: undefined,
    otlpDisabled: false,
    newRelicAppName: 'metadataproxy',
    newRelicLicense: undefined,
    given: new Map(),
    notices: [],
    mockApi: false,
    mockedInstanceId: 'i-0a1b2c3d4e5f67890',
    mockCredentials: false,
  });
});

test('the configuration is frozen', () => {
  assert.ok(Object.isFrozen(readConfig({}, {})));
});

test('every setting can be set by each of its environment variables', () => {
  const given: readonly (readonly [variable: string, text: string, name: string, value: unknown])[] = [
    ['HOST', '::', 'host', '::'],
    ['HOST', 'localhost', 'host', 'localhost'],
    ['PORT', '0', 'port', 0],
    ['PORT', '65535', 'port', 65_535],
    ['ADMIN_ADDR', 'off', 'adminAddress', 'off'],
    ['ADMIN_ADDR', '[::1]:9', 'adminAddress', { host: '::1', port: 9 }],
    ['MAX_CONNECTIONS', '1', 'maxConnections', 1],
    ['MAX_CONNECTIONS', '1000000', 'maxConnections', 1_000_000],
    ['MAX_CONNECTIONS_PER_ADDRESS', '7', 'maxConnectionsPerAddress', 7],
    ['DOCKER_URL', 'tcp://h:1', 'docker', { kind: 'tcp', host: 'h', port: 1, url: 'tcp://h:1' }],
    ['DOCKER_HOST', 'tcp://h:2', 'docker', { kind: 'tcp', host: 'h', port: 2, url: 'tcp://h:2' }],
    ['DEFAULT_ROLE', 'app', 'defaultRole', { kind: 'name', text: 'app', name: 'app', path: '/' }],
    ['DEFAULT_ACCOUNT_ID', '012345678901', 'defaultAccountId', '012345678901'],
    ['ROLE_CACHE_OFFSET', '5m30s', 'roleCacheOffset', 330_000],
    ['ROLE_CACHE_OFFSET', '0', 'roleCacheOffset', 0],
    ['AWS_REGION', 'us-gov-west-1', 'region', 'us-gov-west-1'],
    ['AWS_DEFAULT_REGION', 'us-isob-east-1', 'region', 'us-isob-east-1'],
    ['AWS_REGION', 'eusc-de-east-1', 'region', 'eusc-de-east-1'],
    ['METADATA_URL', 'http://127.0.0.1:8080', 'metadataUrl', new URL('http://127.0.0.1:8080')],
    ['METADATA_URL', 'http://[fd00:ec2::254]/', 'metadataUrl', new URL('http://[fd00:ec2::254]')],
    ['IMDSV2_REQUIRED', 'true', 'imdsv2Required', true],
    ['LOG_LEVEL', 'WARNING', 'logLevel', 'warning'],
    ['LOG_LEVEL', 'warn', 'logLevel', 'warning'],
    ['LOG_LEVEL', 'trace', 'logLevel', 'debug'],
    ['DEBUG', 'True', 'logLevel', 'debug'],
    ['MAX_REQUESTS_PER_SECOND', '0', 'maxRequestsPerSecond', 0],
    ['READ_TIMEOUT', '1m', 'readTimeout', 60_000],
    ['WRITE_TIMEOUT', '1m30s', 'writeTimeout', 90_000],
    ['DOCKER_SYNC_PERIOD', '30s', 'dockerSyncPeriod', 30_000],
    ['AWS_ACCOUNT_MAP', '{"prod":"012345678901"}', 'accountNames', new Map([['prod', '012345678901']])],
    ['IGNORE_IMAGE_ROLES', 'on', 'ignoreImageRoles', true],
    ['ROLE_RULES', '/r.json', 'roleRules', '/r.json'],
    ['SESSION_NAME', 'shared', 'sessionNaming', { kind: 'shared' }],
    ['ROLE_SESSION_KEY', 'Labels:owner', 'sessionKey', { kind: 'label', name: 'owner' }],
    ['SESSION_TAGS', 'Labels:a,b Env:C', 'sessionTags', { labels: ['a', 'b'], env: ['C'] }],
    ['SESSION_TAGS_TRANSITIVE', 'true', 'transitiveTags', true],
    ['ROLE_DURATION', '12h', 'roleDuration', 43_200],
    ['DEFAULT_IAM_POLICY', '{ "Statement": [] }', 'defaultPolicy', '{"Statement":[]}'],
    ['ROLE_EXPIRATION_THRESHOLD', '20', 'roleCacheOffset', 1_200_000],
    ['HOST_NETWORK', 'true', 'hostNetwork', 'users'],
    ['HOST_NETWORK', 'off', 'hostNetwork', 'nobody'],
    ['HOST_NETWORK', 'Root', 'hostNetwork', 'users and root'],
    ['HOST_ROLE', 'agent', 'hostRole', { kind: 'name', text: 'agent', name: 'agent', path: '/' }],
    ['ROLE_MAPPING_FILE', '/m.json', 'roleMapping', '/m.json'],
    ['ROLE_REVERSE_LOOKUP', 'true', 'reverseLookup', true],
    ['HOSTNAME_MATCH_REGEX', 'web-(\\d+)', 'hostnamePattern', /web-(\d+)/],
    ['MESOS_STATE_LOOKUP', 'true', 'mesosLookup', true],
    ['MESOS_STATE_URL', 'http://m/state', 'mesosUrl', new URL('http://m/state')],
    ['MESOS_STATE_TIMEOUT', '5', 'mesosTimeout', 5],
    ['PASSTHROUGH_ALLOW', '^/latest', 'passThroughAllow', /^\/latest/],
    ['PASSTHROUGH_DENY', 'user-data', 'passThroughDeny', /user-data/i],
    ['DISABLE_UPSTREAM', 'true', 'disableUpstream', true],
    ['ENABLE_PROMETHEUS', 'true', 'prometheus', true],
    ['METRICS_LABELS', 'service, role_name', 'metricsLabels', ['role_name', 'service']],
    ['COPY_DOCKER_LABELS', 'a,b', 'copyDockerLabels', ['a', 'b']],
    ['COPY_DOCKER_ENV', 'A', 'copyDockerEnv', ['A']],
    ['COPY_REQUEST_HEADERS', 'X-A, X-B', 'copyRequestHeaders', ['X-A', 'X-B']],
    ['LABEL_SEPARATOR', '.', 'labelSeparator', '.'],
    ['STATSD_ADDR', 'h:8125', 'statsdAddress', { host: 'h', port: 8125 }],
    ['STATSITE_ADDR', '[::1]:8125', 'statsiteAddress', { host: '::1', port: 8125 }],
    ['DATADOG_ADDR', 'h:8125', 'datadogAddress', { host: 'h', port: 8125 }],
    ['METRICS_INTERVAL', '1s', 'metricsInterval', 1_000],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'http://h:4318', 'otlpEndpoint', new URL('http://h:4318')],
    ['OTEL_EXPORTER_OTLP_METRICS_ENDPOINT', 'https://h/m', 'otlpMetricsEndpoint', new URL('https://h/m')],
    ['OTEL_EXPORTER_OTLP_PROTOCOL', 'http/protobuf', 'otlpProtocol', 'http/protobuf'],
    ['OTEL_EXPORTER_OTLP_METRICS_PROTOCOL', 'HTTP/JSON', 'otlpProtocol', 'http/json'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'a=b', 'otlpHeaders', new Map([['a', 'b']])],
    ['OTEL_EXPORTER_OTLP_METRICS_HEADERS', 'a=%20', 'otlpHeaders', new Map([['a', ' ']])],
    ['OTEL_EXPORTER_OTLP_TIMEOUT', '1', 'otlpTimeout', 1],
    ['OTEL_EXPORTER_OTLP_METRICS_TIMEOUT', '600000', 'otlpTimeout', 600_000],
    ['OTEL_EXPORTER_OTLP_COMPRESSION', 'gzip', 'otlpCompression', 'gzip'],
    ['OTEL_EXPORTER_OTLP_METRICS_COMPRESSION', 'none', 'otlpCompression', 'none'],
    ['OTEL_METRIC_EXPORT_INTERVAL', '100', 'otlpInterval', 100],
    ['OTEL_SERVICE_NAME', 'proxy', 'otlpServiceName', 'proxy'],
    ['OTEL_RESOURCE_ATTRIBUTES', 'a=b', 'otlpResource', new Map([['a', 'b']])],
    ['OTEL_SDK_DISABLED', 'TRUE', 'otlpDisabled', true],
    ['NEWRELIC_APP_NAME', 'proxy', 'newRelicAppName', 'proxy'],
    ['NEWRELIC_LICENSE', 'k'.repeat(40), 'newRelicLicense', 'k'.repeat(40)],
    ['VERBOSE', '1', 'logLevel', 'debug'],
    ['LOG_FORMAT', 'json', 'logFormat', 'json'],
    ['MOCK_API', 'true', 'mockApi', true],
    ['MOCKED_INSTANCE_ID', 'i-1', 'mockedInstanceId', 'i-1'],
    ['MOCK_CREDENTIALS', 'yes', 'mockCredentials', true],
  ];
  for (const [variable, text, name, value] of given) {
    const config = readConfig({}, { [variable]: text });
    assert.deepEqual(Object.entries(config).find(([key]) => key === name)?.[1], value, `${variable}=${text}`);
  }
  const variables = new Set(given.map(([variable]) => variable));
  const untested = settings.flatMap(({ env }) => env).filter((variable) => !variables.has(variable));
  assert.deepEqual(
    untested,
    ['DOCKER_TLS_VERIFY', 'DOCKER_CERT_PATH', 'ALLOWED_ROLES', 'SOURCE_IDENTITY'],
    'these need files, or are no plain values, and have tests of their own',
  );
});

const BAD: readonly (readonly [variable: string, text: string, reason: string])[] = [
  ['HOST', 'not a host', 'expected an IP address or "localhost"'],
  ['HOST', '300.1.1.1', 'expected an IP address or "localhost"'],
  ['PORT', '65536', 'expected a whole number from 0 to 65535 (0: any free port)'],
  ['PORT', '-1', 'expected a whole number from 0 to 65535 (0: any free port)'],
  ['PORT', '80.5', 'expected a whole number from 0 to 65535 (0: any free port)'],
  ['PORT', '0x50', 'expected a whole number from 0 to 65535 (0: any free port)'],
  ['PORT', '1e3', 'expected a whole number from 0 to 65535 (0: any free port)'],
  ['PORT', '80 81', 'expected a whole number from 0 to 65535 (0: any free port)'],
  ['ADMIN_ADDR', '127.0.0.1', 'expected "host:port" or "off"'],
  ['ADMIN_ADDR', '::1:80', 'expected "host:port" or "off"'],
  ['ADMIN_ADDR', 'h:65536', 'expected "host:port" or "off"'],
  ['MAX_CONNECTIONS', '0', 'expected a whole number from 1 to 1000000'],
  ['MAX_CONNECTIONS', '1000001', 'expected a whole number from 1 to 1000000'],
  ['MAX_CONNECTIONS_PER_ADDRESS', 'many', 'expected a whole number from 1 to 1000000'],
  [
    'DOCKER_URL',
    'ssh://host',
    'expected unix:///path, tcp://host:port, http://host:port or https://host:port',
  ],
  [
    'DOCKER_HOST',
    'host:2375',
    'expected unix:///path, tcp://host:port, http://host:port or https://host:port',
  ],
  ['DOCKER_TLS_VERIFY', 'maybe', 'expected "true" or "false"'],
  ['DEFAULT_ROLE', 'a b', `"a b" is not a role; expected ${ROLE_FORMS}`],
  ['DEFAULT_ROLE', 'app@12', '"app@12" names the account "12"; expected 12 digits after the "@"'],
  [
    'DEFAULT_ROLE',
    'arn:aws:iam::1:role/app',
    '"arn:aws:iam::1:role/app" is not a role ARN; expected arn:aws:iam::123456789012:role/name',
  ],
  ['DEFAULT_ACCOUNT_ID', '12345678901', 'expected 12 digits'],
  ['DEFAULT_ACCOUNT_ID', '1234567890123', 'expected 12 digits'],
  ['ROLE_CACHE_OFFSET', '15', 'expected a duration such as "15m" or "5m30s"'],
  ['ROLE_CACHE_OFFSET', '-15m', 'expected a duration such as "15m" or "5m30s"'],
  ['AWS_REGION', 'Ireland', 'expected a region such as "eu-west-1"'],
  ['AWS_DEFAULT_REGION', 'eu-west-1a', 'expected a region such as "eu-west-1"'],
  ['METADATA_URL', 'https://169.254.169.254', 'expected http://host or http://host:port'],
  ['METADATA_URL', 'http://h/latest', 'expected http://host or http://host:port'],
  ['METADATA_URL', 'http://h?x', 'expected http://host or http://host:port'],
  ['METADATA_URL', 'http://user@h', 'expected http://host or http://host:port'],
  ['METADATA_URL', '169.254.169.254', 'expected http://host or http://host:port'],
  ['METADATA_URL', 'http://h:99999', 'expected http://host or http://host:port'],
  ['IMDSV2_REQUIRED', '2', 'expected "true" or "false"'],
  ['LOG_LEVEL', 'loud', 'expected "debug", "info", "warning", "error", "fatal" or "panic"'],
  ['VERBOSE', 'very', 'expected "true" or "false"'],
  ['LOG_FORMAT', 'xml', 'expected "text", "json" or "gelf"'],
  ['MOCK_API', 'tru', 'expected "true" or "false"'],
  ['MOCKED_INSTANCE_ID', 'i 1', 'expected an instance ID such as "i-0a1b2c3d4e5f67890"'],
  ['MOCK_CREDENTIALS', 'y', 'expected "true" or "false"'],
];

for (const [variable, text, reason] of BAD) {
  test(`${variable}=${text} is one error with the setting, the value and the expected form`, () => {
    assert.deepEqual(problemsOf({ [variable]: text }), [
      `${variable}: ${JSON.stringify(text)} is invalid: ${reason}`,
    ]);
  });
}

test('the error for an invalid flag names the flag', () => {
  const expected = 'is invalid: expected';
  assert.deepEqual(problemsOf({}, { server: 'here' }), [
    `--server: "here" ${expected} "host:port" or ":port"`,
  ]);
  assert.deepEqual(problemsOf({ METADATA_URL: 'http://fine' }, { metadataUrl: 'no' }), [
    `--metadata-url: "no" ${expected} http://host or http://host:port`,
  ]);
  assert.deepEqual(problemsOf({}, { defaultRole: '' }), [], 'an empty one is not set');
  assert.match(
    problemsOf({}, { docker: 'ftp://x' })[0] ?? '',
    /^--docker-endpoint: "ftp:\/\/x" is invalid: expected unix/,
  );
});

test('several invalid settings are reported together', () => {
  const env = {
    PORT: 'x',
    LOG_LEVEL: 'y',
    DEFAULT_ROLE: 'z z',
    DOCKER_URL: 'tcp://h:1',
    DOCKER_CERT_PATH: '/nowhere',
  };
  const problems = problemsOf(env, { metadataUrl: 'w' });
  assert.deepEqual(problems.map((problem) => problem.split(':')[0]).toSorted(), [
    '--metadata-url',
    'DEFAULT_ROLE',
    'DOCKER_CERT_PATH',
    'LOG_LEVEL',
    'PORT',
  ]);
});

test('a flag takes precedence over a variable, and a variable over the default', () => {
  const env = { DEFAULT_ROLE: 'from-environment', METADATA_URL: 'http://environment' };
  assert.equal(readConfig({ defaultRole: 'from-flag' }, env).defaultRole?.text, 'from-flag');
  assert.equal(readConfig({}, env).defaultRole?.text, 'from-environment');
  assert.equal(readConfig({ metadataUrl: 'http://flag' }, env).metadataUrl.host, 'flag');
  assert.equal(readConfig({}, {}).metadataUrl.host, '169.254.169.254');
});

test('a flag takes precedence over an invalid variable', () => {
  assert.equal(readConfig({ metadataUrl: 'http://flag' }, { METADATA_URL: 'x' }).metadataUrl.host, 'flag');
});

test('of two variables for one setting the first non-empty one applies', () => {
  assert.equal(readConfig({}, { DOCKER_URL: '/a', DOCKER_HOST: '/b' }).docker.url, 'unix:///a');
  assert.equal(readConfig({}, { DOCKER_URL: '', DOCKER_HOST: '/b' }).docker.url, 'unix:///b');
  assert.equal(
    readConfig({}, { AWS_REGION: 'eu-west-1', AWS_DEFAULT_REGION: 'eu-west-2' }).region,
    'eu-west-1',
  );
  assert.equal(readConfig({}, { AWS_REGION: '', AWS_DEFAULT_REGION: 'eu-west-2' }).region, 'eu-west-2');
});

test('an empty variable is not set', () => {
  const empty = Object.fromEntries(settings.flatMap(({ env }) => env).map((variable) => [variable, '']));
  assert.deepEqual(readConfig({}, empty), readConfig({}, {}));
});

test('white space around a variable is ignored', () => {
  assert.equal(readConfig({}, { PORT: ' 80\r\n', DEFAULT_ROLE: '\tapp ' }).port, 80);
});

test('words are case-insensitive', () => {
  for (const [text, value] of [
    ['TRUE', true],
    ['On', true],
    ['YES', true],
    ['1', true],
    ['Off', false],
    ['0', false],
  ] as const) {
    assert.equal(readConfig({}, { IMDSV2_REQUIRED: text }).imdsv2Required, value, text);
  }
  assert.equal(readConfig({}, { LOG_FORMAT: 'JSON' }).logFormat, 'json');
});

test('--server overrides PORT, and HOST if it names a host', () => {
  const env = { HOST: '10.0.0.1', PORT: '1' };
  const at = (server: string): [string, number] => {
    const { host, port } = readConfig({ server }, env);
    return [host, port];
  };
  assert.deepEqual(at('127.0.0.1:80'), ['127.0.0.1', 80]);
  assert.deepEqual(at(':80'), ['10.0.0.1', 80]);
  assert.deepEqual(at('[::]:0'), ['::', 0]);
});

test('--verbose is LOG_LEVEL=debug', () => {
  assert.equal(readConfig({ verbose: 'true' }, { LOG_LEVEL: 'error' }).logLevel, 'debug');
  assert.equal(readConfig({}, { LOG_LEVEL: 'error', VERBOSE: 'false' }).logLevel, 'error');
});

test('only mock credentials give a default role without a setting', () => {
  assert.equal(readConfig({}, { MOCK_CREDENTIALS: 'true' }).defaultRole?.kind, 'arn');
  assert.equal(readConfig({}, { MOCK_CREDENTIALS: 'true', DEFAULT_ROLE: 'mine' }).defaultRole?.text, 'mine');
  assert.equal(readConfig({}, { MOCK_API: 'true' }).defaultRole, undefined);
});

function certificates(t: TestContext, ...names: string[]): string {
  const directory = mkdtempSync(join(tmpdir(), 'certificates-'));
  t.after(() => rmSync(directory, { recursive: true }));
  for (const name of names) writeFileSync(join(directory, name), name);
  return directory;
}

test('DOCKER_CERT_PATH enables TLS with its files', (t) => {
  const DOCKER_CERT_PATH = certificates(t, 'ca.pem', 'cert.pem', 'key.pem');
  const { docker } = readConfig({}, { DOCKER_HOST: 'tcp://h:2376', DOCKER_CERT_PATH });
  assert.deepEqual(docker, {
    kind: 'tcp',
    host: 'h',
    port: 2376,
    url: 'tcp://h:2376',
    tls: { ca: Buffer.from('ca.pem'), cert: Buffer.from('cert.pem'), key: Buffer.from('key.pem') },
  });
});

test('a missing TLS file is reported as an invalid setting', (t) => {
  const DOCKER_CERT_PATH = certificates(t, 'ca.pem', 'cert.pem');
  const [problem = '', ...others] = problemsOf({
    DOCKER_HOST: 'tcp://h:2376',
    DOCKER_TLS_VERIFY: '1',
    DOCKER_CERT_PATH,
  });
  assert.match(problem, /^DOCKER_CERT_PATH: cannot read the TLS files \(ENOENT.*key\.pem/);
  assert.deepEqual(others, []);
});

test('TLS settings are ignored for an engine on a Unix socket', () => {
  assert.equal(readConfig({}, { DOCKER_TLS_VERIFY: '1', DOCKER_CERT_PATH: '/nowhere' }).docker.kind, 'unix');
});

test('HOST_ROLE without HOST_NETWORK gives a notice', () => {
  assert.deepEqual(readConfig({}, { HOST_ROLE: 'agent' }).notices, ['HOST_ROLE has no effect without HOST_NETWORK']);
  assert.deepEqual(readConfig({}, { HOST_ROLE: 'agent', HOST_NETWORK: 'true' }).notices, []);
});
