import assert from 'node:assert/strict';
import { networkInterfaces } from 'node:os';
import { test } from 'node:test';
import { ConfigError, readConfig, type Environment, type FlagValues } from '../../lib/config/config.ts';

function problemsOf(env: Environment, flags: FlagValues = {}): readonly string[] {
  try {
    readConfig(flags, env);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.problems;
  }
  return [];
}

const LISTENERS: readonly (readonly [env: Environment, problem: string | undefined])[] = [
  [{ PORT: '18001' }, 'PORT and ADMIN_ADDR: 0.0.0.0:18001 and 127.0.0.1:18001 cannot both listen; change one of the ports'],
  [
    { ADMIN_ADDR: '127.0.0.1:18000' },
    'PORT and ADMIN_ADDR: 0.0.0.0:18000 and 127.0.0.1:18000 cannot both listen; change one of the ports',
  ],
  [
    { HOST: '::', PORT: '80', ADMIN_ADDR: '127.0.0.1:80' },
    'PORT and ADMIN_ADDR: [::]:80 and 127.0.0.1:80 cannot both listen; change one of the ports',
  ],
  [
    { HOST: '10.0.0.1', ADMIN_ADDR: ':18000' },
    'PORT and ADMIN_ADDR: 10.0.0.1:18000 and :18000 cannot both listen; change one of the ports',
  ],
  [
    { HOST: '127.0.0.1', PORT: '80', ADMIN_ADDR: '[::ffff:127.0.0.1]:80' },
    'PORT and ADMIN_ADDR: 127.0.0.1:80 and [::ffff:127.0.0.1]:80 cannot both listen; change one of the ports',
  ],
  [
    { HOST: 'localhost', PORT: '18001' },
    'PORT and ADMIN_ADDR: localhost:18001 and 127.0.0.1:18001 cannot both listen; change one of the ports',
  ],
  [
    { ADMIN_ADDR: 'this-host.example:18000' },
    'PORT and ADMIN_ADDR: 0.0.0.0:18000 and this-host.example:18000 cannot both listen; change one of the ports',
  ],
  [{ HOST: '10.0.0.1', PORT: '18001' }, undefined],
  [{ HOST: '0.0.0.0', PORT: '18001', ADMIN_ADDR: '[::1]:18001' }, undefined],
  [{ PORT: '18001', ADMIN_ADDR: 'off' }, undefined],
  [{ PORT: '0', ADMIN_ADDR: '127.0.0.1:0' }, undefined],
];

for (const [env, problem] of LISTENERS) {
  test(`${JSON.stringify(env)} ${problem ? 'is one error that names both listeners' : 'is valid'}`, () => {
    assert.deepEqual(problemsOf(env), problem ? [problem] : []);
  });
}

test('the error about two listeners names the flag that one of them comes from', () => {
  assert.deepEqual(problemsOf({ PORT: '1' }, { server: ':18001' }), [
    '--server and ADMIN_ADDR: 0.0.0.0:18001 and 127.0.0.1:18001 cannot both listen; change one of the ports',
  ]);
});

const SELF: readonly (readonly [env: Environment, problem: string | undefined])[] = [
  [{ METADATA_URL: 'http://127.0.0.1:18000' }, "METADATA_URL and PORT: http://127.0.0.1:18000/ is the proxy's own listener"],
  [{ METADATA_URL: 'http://localhost:18001' }, "METADATA_URL and ADMIN_ADDR: http://localhost:18001/ is the proxy's own listener"],
  [{ METADATA_URL: 'http://0.0.0.0', PORT: '80' }, "METADATA_URL and PORT: http://0.0.0.0/ is the proxy's own listener"],
  [{ HOST: '::', METADATA_URL: 'http://[::1]:18000' }, "METADATA_URL and PORT: http://[::1]:18000/ is the proxy's own listener"],
  // The proxy itself has IMDS's address, so the default leads to it.
  [{ HOST: '169.254.169.254', PORT: '80' }, "METADATA_URL and PORT: http://169.254.169.254/ is the proxy's own listener"],
  [{ DOCKER_HOST: 'tcp://127.0.0.1:18000' }, "DOCKER_HOST and PORT: tcp://127.0.0.1:18000 is the proxy's own listener"],
  [
    { MESOS_STATE_LOOKUP: 'true', MESOS_STATE_URL: 'http://u:hush@127.0.0.1:18001/state' },
    "MESOS_STATE_URL and ADMIN_ADDR: http://u:***@127.0.0.1:18001/state is the proxy's own listener",
  ],
  [{ PORT: '5051', MESOS_STATE_LOOKUP: 'true' }, "MESOS_STATE_URL and PORT: http://localhost:5051/state is the proxy's own listener"],
  [
    { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:18000' },
    "OTEL_EXPORTER_OTLP_ENDPOINT and PORT: http://127.0.0.1:18000/ is the proxy's own listener",
  ],
  [{ STATSITE_ADDR: 'localhost:18000' }, "STATSITE_ADDR and PORT: localhost:18000 is the proxy's own listener"],
  [{ METADATA_URL: 'http://127.0.0.1:18000', HOST: '10.0.0.1' }, undefined],
  [{ METADATA_URL: 'http://10.9.8.7:18000' }, undefined],
  [{ METADATA_URL: 'http://127.0.0.1:18000', MOCK_API: 'true' }, undefined],
  [{ PORT: '5051' }, undefined],
  // UDP's ports are others.
  [{ STATSD_ADDR: '127.0.0.1:18000', DATADOG_ADDR: '127.0.0.1:18001' }, undefined],
];

for (const [env, problem] of SELF) {
  test(`${JSON.stringify(env)} ${problem ? 'is one error that names both settings' : 'is valid'}`, () => {
    assert.deepEqual(problemsOf(env), problem ? [problem] : []);
  });
}

test('METADATA_URL must not name the proxy by any address of this host', () => {
  for (const { address, family } of Object.values(networkInterfaces()).flatMap((entries = []) => entries)) {
    if (family === 'IPv6' && address.startsWith('fe80:')) continue;
    const url = `http://${family === 'IPv6' ? `[${address}]` : address}:18000`;
    assert.deepEqual(problemsOf({ HOST: '::', METADATA_URL: url }), [
      `METADATA_URL and PORT: ${new URL(url).href} is the proxy's own listener`,
    ]);
  }
});

test('credentials cannot keep a longer minimum lifetime than they live', () => {
  assert.deepEqual(problemsOf({ ROLE_DURATION: '1h', ROLE_CACHE_OFFSET: '2h' }), [
    'ROLE_CACHE_OFFSET and ROLE_DURATION: credentials that live 3600 seconds never have 7200 seconds left',
  ]);
  assert.deepEqual(problemsOf({ ROLE_DURATION: '15m', ROLE_EXPIRATION_THRESHOLD: '15' }), [
    'ROLE_EXPIRATION_THRESHOLD and ROLE_DURATION: credentials that live 900 seconds never have 900 seconds left',
  ]);
  assert.deepEqual(problemsOf({ ROLE_DURATION: '15m' }), [], 'the default offset gives way');
  assert.deepEqual(problemsOf({ ROLE_DURATION: '1h', ROLE_CACHE_OFFSET: '59m' }), []);
});

test('a setting that another one leaves without effect is a notice', () => {
  const noticesOf = (env: Environment): readonly string[] => readConfig({}, env).notices;
  assert.deepEqual(noticesOf({ ROLE_CACHE_OFFSET: '2h' }), [
    'ROLE_CACHE_OFFSET is longer than credentials live without ROLE_DURATION (1 hour); they are renewed at half of their lifetime',
  ]);
  assert.deepEqual(noticesOf({ MOCK_API: 'true', METADATA_URL: 'http://h' }), ['METADATA_URL has no effect with MOCK_API']);
  assert.deepEqual(noticesOf({ DISABLE_UPSTREAM: 'true', PASSTHROUGH_ALLOW: 'a', PASSTHROUGH_DENY: 'b' }), [
    'PASSTHROUGH_ALLOW has no effect with DISABLE_UPSTREAM',
    'PASSTHROUGH_DENY has no effect with DISABLE_UPSTREAM',
  ]);
});

test('conflicts are reported once every setting is valid', () => {
  assert.deepEqual(problemsOf({ PORT: '18001', LOG_LEVEL: 'loud' }).map((problem) => problem.split(':')[0]), ['LOG_LEVEL']);
});
