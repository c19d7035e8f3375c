import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigError, readConfig, type Environment, type FlagValues } from '../../lib/config/config.ts';
import { readSettingFile } from '../../lib/config/watched-file.ts';
import { SETTINGS, type Setting, type SettingName } from '../../lib/config/settings.ts';
import { REQUEST_LABELS } from '../../lib/telemetry/metrics/request-labels.ts';

const DURATION = 'a duration such as "15m" or "5m30s"';
const YES_OR_NO = '"true" or "false"';
const ROLE = '"name", "name@123456789012", "path/name@123456789012" or a role ARN';
const LISTEN = '"host:port" or ":port"';
const CONNECTIONS = 'a whole number from 1 to 1000000';
const REGULAR = 'a regular expression';
const TEMPLATE_PLACES = 'expected one of {container.name}, {container.id}, {image}, {host}, {label:X}, {env:X}';
const SESSION_NAME = '"container", "classic", "shared" or a template such as "{container.name}@{host}"';
const TAGS = '"Labels:a,b", "Env:X,Y", or both with a space between';
const POLICY = 'an IAM policy as JSON';
const UP_TO_A_DAY = 'a duration from 1s to 24h';
const RECEIVER = 'an http:// or https:// URL without a user name and password';
const PAIRS = '"name=value,name=value", percent-encoded where necessary';
const DOCKER = 'unix:///path, tcp://host:port, http://host:port or https://host:port';
const METADATA_URL = 'http://host or http://host:port';
const ACCOUNTS = 'JSON such as {"prod": "123456789012"}';
const JSON_POLICY = 'the session policy is not a JSON object with a "Statement"';

/** Node's own message, which differs between its versions. */
function reason(make: () => unknown): string {
  try {
    make();
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('nothing is wrong');
}

/** An invalid value, the reason if its parser gives one, and what is expected. */
interface Bad {
  readonly text: string;
  readonly because?: string;
  readonly expected: string;
}

const bad = (expected: string, ...texts: string[]): Bad[] => texts.map((text) => ({ text, expected }));
const because = (why: string, expected: string, text: string): Bad => ({ text, because: why, expected });

/** Every setting with invalid values. */
const BAD: Readonly<Record<SettingName, readonly Bad[] | 'another test' | 'any text'>> = {
  server: bad(LISTEN, 'somewhere', '127.0.0.1', ':65536', ':-1', ':', '::1:80', 'a:b:80'),
  host: bad('an IP address or "localhost"', 'example.com', '127.0.0', '[::]', '0.0.0.0:80'),
  port: bad('a whole number from 0 to 65535 (0: any free port)', '65536', '-1', '1.5', 'http', '0x10', '1e3'),
  adminAddress: bad('"host:port" or "off"', 'on', '18001', '127.0.0.1:65536'),
  maxConnections: bad(CONNECTIONS, '0', '1000001', 'many', '-5'),
  maxConnectionsPerAddress: bad(CONNECTIONS, '0', '1000001', 'many', '2.5'),
  maxRequestsPerSecond: bad('a whole number from 0 to 1000000 (0: no limit)', '-1', '1000001', 'all'),
  readTimeout: bad(UP_TO_A_DAY, '5', '0', '999ms', '25h', '-5s', '5 s', 'soon'),
  writeTimeout: bad(UP_TO_A_DAY, '5', '0s', '999ms', '25h', '1m-5s', 'soon'),
  docker: bad(
    DOCKER,
    'docker',
    'ssh://host',
    'unix://',
    'npipe:////./pipe/docker',
    'tcp://host:port',
    'http://h/path',
    'tcp://',
  ),
  dockerTlsVerify: bad(YES_OR_NO, 'maybe', '2'),
  dockerCertPath: 'another test',
  dockerSyncPeriod: bad(DURATION, '60', 'never', '-1m'),
  defaultRole: 'another test',
  accountNames: [
    ...bad(
      ACCOUNTS,
      '{"prod": "12345"}',
      '{"prod": 123456789012}',
      '{"prod": "123456789012", "stage": null}',
      '"prod"',
      '123456789012',
      '[]',
      '["123456789012"]',
      'null',
    ),
    because(
      reason(() => JSON.parse('{')),
      ACCOUNTS,
      '{',
    ),
    because(
      reason(() => JSON.parse("{'prod': '123456789012'}")),
      ACCOUNTS,
      "{'prod': '123456789012'}",
    ),
  ],
  ignoreImageRoles: bad(YES_OR_NO, 'image'),
  allowedRoles: [
    because(
      '"app-*" matches no role; expected an ARN such as arn:aws:iam::123456789012:role/app-*',
      'role ARNs with "*", separated by commas or spaces',
      'app-*',
    ),
    because(
      '"arn:aws:iam::123456789012:user/jo" matches no role; expected an ARN such as arn:aws:iam::123456789012:role/app-*',
      'role ARNs with "*", separated by commas or spaces',
      'arn:aws:iam::123456789012:role/a, arn:aws:iam::123456789012:user/jo',
    ),
  ],
  roleRules: 'another test',
  sessionNaming: [
    because(
      '"fixed" names every session alike; expected "shared", "classic" or a template with {…}',
      SESSION_NAME,
      'fixed',
    ),
    because(`"{name}" has the unknown placeholder {name}; ${TEMPLATE_PLACES}`, SESSION_NAME, '{name}'),
    because(`"{label:}" has the unknown placeholder {label:}; ${TEMPLATE_PLACES}`, SESSION_NAME, '{label:}'),
    because('"{host" has an unbalanced brace', SESSION_NAME, '{host'),
  ],
  sessionKey: bad('"Env:NAME" or "Labels:NAME"', 'NAME', 'env:NAME', 'Label:x', 'Env:', 'Labels:a b'),
  sessionTags: bad(
    TAGS,
    'team',
    'Labels:',
    'Labels:a b',
    'labels:a',
    'Labels:a{b',
    `Labels:${Array.from({ length: 51 }, (_, index) => index).join(',')}`,
  ),
  transitiveTags: bad(YES_OR_NO, 'some'),
  sourceIdentity: [
    because(
      `"{owner}" has the unknown placeholder {owner}; ${TEMPLATE_PLACES}`,
      'text or a template such as "{label:owner}"',
      '{owner}',
    ),
    because(
      '"owner}" has an unbalanced brace',
      'text or a template such as "{label:owner}"',
      'owner}',
    ),
  ],
  roleDuration: bad('a duration from 15m to 12h', '14m59s', '12h1s', '3600', 'long'),
  defaultPolicy: [
    because(`the session policy "{" is not JSON (${reason(() => JSON.parse('{'))})`, POLICY, '{'),
    because(JSON_POLICY, POLICY, '[]'),
    because(JSON_POLICY, POLICY, '{"Version":"2012-10-17"}'),
    because(JSON_POLICY, POLICY, '"Statement"'),
    because(
      'the session policy has 2049 characters; STS accepts 2048',
      POLICY,
      JSON.stringify({ Statement: 'x'.repeat(2033) }),
    ),
  ],
  defaultAccountId: bad('12 digits', '12345', '1234567890123', 'prod', '12345678901a'),
  roleCacheOffset: bad(DURATION, '15', '-1m', '1d', 'm', '5m30'),
  roleExpirationThreshold: bad('a whole number of minutes from 0 to 720', '15m', '721', '-1', '1.5'),
  region: bad(
    'a region such as "eu-west-1"',
    'europe',
    'eu-west',
    'EU-WEST-1',
    'eu-west-1/../x',
    'eu_west_1',
  ),
  hostNetwork: bad('"true", "false" or "root"', 'users', 'host', '2'),
  hostRole: 'another test',
  roleMapping: 'another test',
  reverseLookup: bad(YES_OR_NO, 'dns'),
  hostnamePattern: [
    because(
      reason(() => new RegExp('(')),
      REGULAR,
      '(',
    ),
    because(
      reason(() => new RegExp('[')),
      REGULAR,
      '[',
    ),
  ],
  mesosLookup: bad(YES_OR_NO, 'agent'),
  mesosUrl: bad('an http:// URL', 'localhost:5051', 'https://localhost/state', 'http://', '/state'),
  mesosTimeout: bad('a whole number of seconds from 1 to 60', '0', '61', '2s', '1.5'),
  metadataUrl: bad(
    METADATA_URL,
    '169.254.169.254',
    'https://169.254.169.254',
    'http://h/path',
    'http://h/?q',
    'http://user@h',
    'http://',
  ),
  imdsv2Required: bad(YES_OR_NO, 'required'),
  passThroughAllow: [
    because(
      reason(() => new RegExp('(')),
      REGULAR,
      '(',
    ),
  ],
  passThroughDeny: [
    because(
      reason(() => new RegExp('*', 'i')),
      REGULAR,
      '*',
    ),
  ],
  disableUpstream: bad(YES_OR_NO, 'all'),
  logLevel: bad('"debug", "info", "warning", "error", "fatal" or "panic"', 'loud', 'info,debug', '3'),
  verbose: bad(YES_OR_NO, 'very'),
  debug: bad(YES_OR_NO, 'please'),
  prometheus: bad(YES_OR_NO, 'on the moon'),
  metricsLabels: bad(`some of ${REQUEST_LABELS.join(', ')}, separated by commas`, 'role', 'role_name,code'),
  copyDockerLabels: 'any text',
  copyDockerEnv: 'any text',
  copyRequestHeaders: 'any text',
  labelSeparator: bad('1 to 8 characters without spaces', 'a b', 'x'.repeat(9)),
  logFormat: bad('"text", "json" or "gelf"', 'xml', 'json,text'),
  statsdAddress: bad('host:port', 'statsd', ':8125', '127.0.0.1', 'h:0', 'h:65536', '::1:8125', '[h]:1', 'udp://h:1'),
  statsiteAddress: bad('host:port', 'statsite', 'h:port', 'h:8125/', 'a b:1', '[::1]', 'h:-1'),
  datadogAddress: bad(
    'host:port or unix:///path',
    'agent',
    '/var/run/dsd.socket',
    'unix://relative',
    'unix://',
    'unixgram:///x',
    `unix:///${'x'.repeat(107)}`,
  ),
  metricsInterval: bad(UP_TO_A_DAY, '10', '999ms', '0', '25h', '-1s', 'often'),
  otlpEndpoint: bad(RECEIVER, 'localhost:4318', 'grpc://localhost:4317', 'http://', '/v1/metrics'),
  otlpMetricsEndpoint: bad(RECEIVER, 'localhost:4318', 'unix:///otlp'),
  otlpProtocol: bad('"http/json"', 'json', 'http/xml', 'https'),
  otlpHeaders: bad(PAIRS, 'key', '=value', 'a b=c', 'key=%zz', 'key=%0d%0aX: y', 'content-length=1', 'k=%c3%a9'),
  otlpTimeout: bad('a whole number of milliseconds from 1 to 600000', '0', '600001', '10s', '1.5'),
  otlpCompression: bad('"gzip" or "none"', 'zstd', 'true'),
  otlpInterval: bad('a whole number of milliseconds from 100 to 86400000', '0', '99', '86400001', '1m'),
  otlpServiceName: 'any text',
  otlpResource: bad(PAIRS, 'production', 'a=b,c', '=b', 'a=%'),
  otlpDisabled: bad(YES_OR_NO, '1', 'yes'),
  newRelicAppName: 'any text',
  newRelicLicense: bad('a license key, which is 40 letters and digits', 'short', 'a key with spaces in it', 'x'.repeat(101)),
  mockApi: bad(YES_OR_NO, 'mock'),
  mockedInstanceId: bad('an instance ID such as "i-0a1b2c3d4e5f67890"', 'an id', 'i/../x', 'i'.repeat(65)),
  mockCredentials: bad(YES_OR_NO, 'fake'),
  credentialRefreshPeriod: 'any text',
  eventHandlers: 'any text',
  queueSize: 'any text',
};

function problemsOf(env: Environment, flags: FlagValues = {}): readonly string[] {
  try {
    readConfig(flags, env);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.problems;
  }
  return [];
}

/** Every variable and flag of a setting: how the error names it, and how it is given. */
function ways(name: SettingName, text: string): { source: string; env: Environment; flags: FlagValues }[] {
  const { env, flag }: Setting<unknown> = SETTINGS[name];
  return [
    ...env.map((variable) => ({ source: variable, env: { [variable]: text }, flags: {} })),
    ...(flag ? [{ source: `--${flag.name}`, env: {}, flags: { [name]: text } }] : []),
  ];
}

/** How an error shows the value: it does not repeat a secret. */
function given(name: SettingName, text: string): string {
  const { secret }: Setting<unknown> = SETTINGS[name];
  return secret ? 'its value (secret)' : JSON.stringify(text);
}

test('every setting is in this table', () => {
  assert.deepEqual(Object.keys(BAD).sort(), Object.keys(SETTINGS).sort());
  for (const values of Object.values(BAD)) assert.ok(typeof values === 'string' || values.length > 0);
});

for (const [name, values] of Object.entries(BAD) as [SettingName, readonly Bad[] | string][]) {
  if (typeof values === 'string') continue;
  for (const { text, because: why, expected } of values) {
    test(`${SETTINGS[name].env[0] ?? name}: ${JSON.stringify(text.slice(0, 60))} is refused with the expected form`, () => {
      for (const { source, env, flags } of ways(name, text)) {
        assert.deepEqual(problemsOf(env, flags), [
          `${source}: ${given(name, text)} is invalid: ${why === undefined ? '' : `${why}; `}expected ${expected}`,
        ]);
      }
    });
  }
}

for (const [name, values] of Object.entries(BAD) as [SettingName, readonly Bad[] | string][]) {
  if (values !== 'any text') continue;
  test(`${SETTINGS[name].env[0] ?? name} accepts any text, and says so`, () => {
    for (const { env, flags } of ways(name, 'any, thing/at:all'))
      assert.deepEqual(problemsOf(env, flags), []);
    assert.match(SETTINGS[name].takes.expects, /^(?:any text|names, separated by commas)$/);
  });
}

// Bounds

/** The outermost values that a setting accepts, and their neighbours that it refuses. */
const BOUNDS: Partial<Readonly<Record<SettingName, { readonly accepted: readonly string[]; readonly refused: readonly string[] }>>> = {
  port: { accepted: ['0', '65535'], refused: ['-1', '65536'] },
  server: { accepted: [':0', ':65535'], refused: [':-1', ':65536'] },
  adminAddress: { accepted: ['h:0', 'h:65535'], refused: ['h:-1', 'h:65536'] },
  maxConnections: { accepted: ['1', '1000000'], refused: ['0', '1000001'] },
  maxConnectionsPerAddress: { accepted: ['1', '1000000'], refused: ['0', '1000001'] },
  maxRequestsPerSecond: { accepted: ['0', '1000000'], refused: ['-1', '1000001'] },
  readTimeout: { accepted: ['1s', '24h'], refused: ['999ms', '24h1ms'] },
  writeTimeout: { accepted: ['1s', '24h'], refused: ['999ms', '24h1ms'] },
  dockerSyncPeriod: { accepted: ['0', '0s'], refused: ['-1ms'] },
  roleDuration: { accepted: ['15m', '12h'], refused: ['14m59s', '12h1s'] },
  roleCacheOffset: { accepted: ['0', '0s'], refused: ['-1ms'] },
  roleExpirationThreshold: { accepted: ['0', '720'], refused: ['-1', '721'] },
  mesosTimeout: { accepted: ['1', '60'], refused: ['0', '61'] },
  labelSeparator: { accepted: ['x', 'x'.repeat(8)], refused: ['x'.repeat(9)] },
  statsdAddress: { accepted: ['h:1', 'h:65535'], refused: ['h:0', 'h:65536'] },
  metricsInterval: { accepted: ['1s', '24h'], refused: ['999ms', '24h1ms'] },
  otlpTimeout: { accepted: ['1', '600000'], refused: ['0', '600001'] },
  otlpInterval: { accepted: ['100', '86400000'], refused: ['99', '86400001'] },
  newRelicLicense: { accepted: ['k'.repeat(16), 'k'.repeat(100)], refused: ['k'.repeat(15), 'k'.repeat(101)] },
  mockedInstanceId: { accepted: ['i', 'i'.repeat(64)], refused: ['i'.repeat(65)] },
};

for (const [name, { accepted, refused }] of Object.entries(BOUNDS) as [SettingName, { accepted: string[]; refused: string[] }][]) {
  test(`${SETTINGS[name].env[0] ?? name} accepts its bounds and refuses their neighbours`, () => {
    for (const text of accepted) for (const { env, flags } of ways(name, text)) assert.deepEqual(problemsOf(env, flags), [], text);
    for (const text of refused) for (const { env, flags } of ways(name, text)) assert.equal(problemsOf(env, flags).length, 1, text);
  });
}

test('every range that a setting states is tested at both ends', () => {
  for (const [name, { takes }] of Object.entries(SETTINGS) as [SettingName, Setting<unknown>][]) {
    const [, min, max] = / from (\w+) to (\w+)/.exec(takes.expects) ?? [];
    if (min !== undefined) assert.deepEqual(BOUNDS[name]?.accepted, [min, max], name);
  }
});

test('READ_TIMEOUT=500ms is answered with the accepted range', () => {
  assert.deepEqual(problemsOf({ READ_TIMEOUT: '500ms' }), ['READ_TIMEOUT: "500ms" is invalid: expected a duration from 1s to 24h']);
});

// Settings that are checked elsewhere

for (const [text, message] of [
  ['a role', `"a role" is not a role; expected ${ROLE}`],
  ['name@prod', '"name@prod" names the account "prod"; expected 12 digits after the "@"'],
  [
    'arn:aws:iam::1234:role/x',
    '"arn:aws:iam::1234:role/x" is not a role ARN; expected arn:aws:iam::123456789012:role/name',
  ],
  [
    'arn:aws:s3:::bucket',
    '"arn:aws:s3:::bucket" is not a role ARN; expected arn:aws:iam::123456789012:role/name',
  ],
] as const) {
  test(`DEFAULT_ROLE and HOST_ROLE: "${text}" is refused with the expected form`, () => {
    for (const { source, env, flags } of [...ways('defaultRole', text), ...ways('hostRole', text)])
      assert.deepEqual(problemsOf(env, flags), [`${source}: ${JSON.stringify(text)} is invalid: ${message}`]);
  });
}

test('DEFAULT_ROLE: an account unknown to AWS_ACCOUNT_MAP is refused with the known names', () => {
  const env = {
    DEFAULT_ROLE: 'name@prod',
    AWS_ACCOUNT_MAP: '{"stage": "123456789012", "test": "123456789012"}',
  };
  assert.deepEqual(problemsOf(env), [
    'DEFAULT_ROLE: "name@prod" is invalid: "name@prod" names the account "prod"; expected 12 digits or one of stage, test after the "@"',
  ]);
});

test('DOCKER_CERT_PATH: a directory without the files is refused with the name of the first missing file', () => {
  const env = { DOCKER_URL: 'tcp://127.0.0.1:2376', DOCKER_CERT_PATH: '/nonexistent' };
  assert.deepEqual(problemsOf(env), [
    "DOCKER_CERT_PATH: cannot read the TLS files (ENOENT: no such file or directory, open '/nonexistent/ca.pem')",
  ]);
});

for (const setting of ['ROLE_RULES', 'ROLE_MAPPING_FILE']) {
  test(`${setting}: a missing file is refused with its path`, () => {
    assert.throws(
      () => readSettingFile(setting, '/nonexistent/x.json', JSON.parse),
      (error) => {
        assert.ok(error instanceof ConfigError);
        assert.deepEqual(error.problems, [
          `${setting}: /nonexistent/x.json: ENOENT: no such file or directory, open '/nonexistent/x.json'`,
        ]);
        return true;
      },
    );
  });
}

test('all invalid settings are reported together', () => {
  assert.deepEqual(
    problemsOf({ PORT: 'x', LOG_LEVEL: 'loud', DEFAULT_ROLE: 'a role' }).map((line) => line.split(':')[0]),
    ['PORT', 'LOG_LEVEL', 'DEFAULT_ROLE'],
  );
});

test('secret settings are marked, and an error never repeats their value', () => {
  const secret = Object.values(SETTINGS).filter((setting: Setting<unknown>) => setting.secret);
  assert.deepEqual(secret.flatMap(({ env }) => env), [
    'OTEL_EXPORTER_OTLP_METRICS_HEADERS',
    'OTEL_EXPORTER_OTLP_HEADERS',
    'NEWRELIC_LICENSE',
  ]);
  for (const { env: [variable = ''] } of secret) {
    const [problem = ''] = problemsOf({ [variable]: 'hush=%hush hush' });
    assert.match(problem, new RegExp(`^${variable}: its value \\(secret\\) is invalid: expected `));
    assert.doesNotMatch(problem, /hush/);
  }
});

test('a URL with a password is refused, and the error hides the password', () => {
  assert.deepEqual(problemsOf({ OTEL_EXPORTER_OTLP_ENDPOINT: 'https://me:hush@collector:4318/x' }), [
    `OTEL_EXPORTER_OTLP_ENDPOINT: "https://me:***@collector:4318/x" is invalid: expected ${RECEIVER}`,
  ]);
});

test('OTEL_EXPORTER_OTLP_PROTOCOL: with an endpoint, grpc is refused and http/protobuf gives a notice', () => {
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4317' };
  assert.deepEqual(problemsOf({ OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc', ...endpoint }), [
    'OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" is invalid: expected "http/json" and an OTLP/HTTP endpoint (port 4318)',
  ]);
  assert.deepEqual(readConfig({}, { OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: 'http/protobuf', ...endpoint }).notices, [
    'OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: metrics are exported as http/json, which http/protobuf endpoints also accept',
  ]);
  for (const protocol of ['grpc', 'http/protobuf', 'http/json']) {
    assert.deepEqual(readConfig({}, { OTEL_EXPORTER_OTLP_PROTOCOL: protocol }).notices, []);
  }
});

test('NEWRELIC_APP_NAME without a license key gives a notice', () => {
  const env = { NEWRELIC_APP_NAME: 'proxy' };
  assert.deepEqual(readConfig({}, env).notices, ['NEWRELIC_APP_NAME has no effect without NEWRELIC_LICENSE']);
  assert.deepEqual(readConfig({}, { ...env, NEWRELIC_LICENSE: 'k'.repeat(40) }).notices, []);
});

test('OTEL_EXPORTER_OTLP_HEADERS and OTEL_RESOURCE_ATTRIBUTES are percent-encoded lists of pairs', () => {
  const { otlpHeaders, otlpResource } = readConfig({}, {
    OTEL_EXPORTER_OTLP_HEADERS: ' api-key = a%20key , x-scope=a=b,',
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment=pr%C3%BCfung,empty=',
  });
  assert.deepEqual([...otlpHeaders ?? []], [['api-key', 'a key'], ['x-scope', 'a=b']]);
  assert.deepEqual([...otlpResource ?? []], [['deployment.environment', 'prüfung'], ['empty', '']]);
});
