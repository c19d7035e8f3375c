import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { readConfig, type Environment } from '../../lib/config/config.ts';
import { AssumeRoleDenied, ROLE_NOT_ALLOWED } from '../../lib/credentials/credentials.ts';
import { Refusal } from '../../lib/http/errors.ts';
import { sendText } from '../../lib/http/exchange.ts';
import type { Handlers } from '../../lib/http/routes.ts';
import { UpstreamUnreachable } from '../../lib/imds/client.ts';
import { Log } from '../../lib/log/log.ts';
import { BadRoleRequest } from '../../lib/roles/bad-request.ts';
import { Telemetry } from '../../lib/telemetry/telemetry.ts';
import { request } from '../support/client.ts';
import { aContainer } from './helpers/fixtures.ts';
import { ManualClock } from './helpers/manual-clock.ts';
import { startServer } from './helpers/metadata-server.ts';

const ID_PATH = '/latest/meta-data/instance-id';

function aTelemetry(env: Environment = {}) {
  const clock = new ManualClock();
  let logged = '';
  const log = new Log({ level: 'info', format: 'text', host: 'h', write: (lines) => void (logged += lines), now: clock.now });
  const telemetry = new Telemetry({
    config: readConfig({}, { ENABLE_PROMETHEUS: 'true', ...env }),
    log,
    clock,
    version: '1.2.3',
  });
  const lines = (): string[] => {
    log.flush();
    return logged.split('\n').slice(0, -1).map((line) => line.slice(line.indexOf(' ') + 1));
  };
  /** The series of a metric, as Prometheus gets them. */
  const series = (name: string): string[] =>
    (telemetry.expose?.('').text ?? '').split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  return { clock, telemetry, lines, series };
}

/** A server for the container at 127.0.0.2, which reports its requests to a Telemetry. */
async function setUp(t: TestContext, handlers: Partial<Handlers> = {}, env: Environment = {}, container = aContainer()) {
  const { telemetry, series } = aTelemetry(env);
  const { port } = await startServer(t, handlers, {
    resolver: { peek: () => container, ensureResolved: () => undefined },
    events: telemetry,
  });
  const ask = (path = ID_PATH) => request({ port, path, from: '127.0.0.2' });
  const hour = () => telemetry.requestHistory.hour(performance.now());
  return { container, telemetry, series, ask, hour };
}

test('every request of a container counts in its row of the status page', async (t) => {
  const { container, telemetry, ask, hour } = await setUp(t);
  for (const path of [ID_PATH, '/v2/credentials']) await ask(path);
  assert.equal(telemetry.requestHistory.of(container).requests, 2);
  assert.deepEqual([hour().requests, hour().refused, hour().failed], [2, 0, 0]);
  assert.equal(telemetry.upstream.report().state, 'ok');
});

test('a client that disconnects before the response says nothing about the upstream IMDS', async (t) => {
  const { telemetry, series, ask } = await setUp(t, { passThrough: ({ response }) => void response.destroy() });
  await assert.rejects(ask());
  assert.equal(telemetry.upstream.report().state, 'unknown');
  assert.match(series('metadataproxy_http_request')[0] ?? '', /request_path="other"/);
});

test('4xx is a refusal, and any other error a failure', async (t) => {
  const { container, telemetry, ask, hour } = await setUp(t, {
    containerCredentials: () => Promise.reject(new Refusal(404, 'other_role', 'no role')),
    iamInfo: () => Promise.reject(new Error('a bug')),
  });
  await ask('/v2/credentials');
  assert.equal(telemetry.requestHistory.of(container).lastError?.message, 'no role');
  await ask('/latest/meta-data/iam/info');
  assert.equal(telemetry.requestHistory.of(container).lastError?.message, 'a bug');
  assert.deepEqual([hour().requests, hour().refused, hour().failed], [2, 1, 1]);
});

test('an upstream IMDS that does not answer is one recent error, with a count', async (t) => {
  const { telemetry, series, ask, hour } = await setUp(t, {
    passThrough: () => Promise.reject(new UpstreamUnreachable('cannot connect')),
  });
  for (let times = 0; times < 3; times += 1) await ask();
  assert.equal(telemetry.upstream.report().state, 'failing');
  assert.deepEqual(
    telemetry.recentErrors.list.map(({ message, error, count }) => [message, error, count]),
    [['upstream IMDS does not answer', 'cannot connect', 3]],
  );
  assert.equal(hour().failed, 3);
  assert.deepEqual(series('metadataproxy_upstream_errors_total'), [
    'metadataproxy_upstream_errors_total{reason="upstream_unreachable"} 3',
  ]);
});

test("a path is a label after its first success; the caller's labels come from the exchange", async (t) => {
  const env = { METRICS_LABELS: 'request_path,api_version,remote_addr,response_code', COPY_DOCKER_LABELS: 'team' };
  const { series, ask } = await setUp(t, {
    passThrough: (exchange) => {
      if (exchange.path !== ID_PATH) throw new Refusal(404, 'not_passed_through', 'no such path');
      sendText(exchange, 'i-1');
    },
  }, env, aContainer({ labels: new Map([['team', 'shop']]) }));
  for (const path of ['/2020-10-27/made-up', ID_PATH, ID_PATH, '/latest/meta-data/made-up']) await ask(path);
  const fixed = 'remote_addr="127.0.0.2",';
  assert.deepEqual(series('metadataproxy_http_request'), [
    `metadataproxy_http_request{request_path="other",${fixed}response_code="404",container_team="shop"} 1`,
    `metadataproxy_http_request{request_path="${ID_PATH}",api_version="latest",${fixed}response_code="200",container_team="shop"} 2`,
    `metadataproxy_http_request{request_path="other",api_version="latest",${fixed}response_code="404",container_team="shop"} 1`,
  ]);
});

test('an unknown caller has neither an address nor labels of a container', async (t) => {
  const { series, telemetry } = await setUp(t, {}, { METRICS_LABELS: 'remote_addr' });
  const { port } = await startServer(t, {}, { events: telemetry });
  await request({ port, path: ID_PATH, from: '127.0.0.3' });
  assert.deepEqual(series('metadataproxy_http_request'), ['metadataproxy_http_request{remote_addr="other"} 1']);
});

const ROLE = { role: { text: 'app' }, sessionName: 'web' } as Parameters<Telemetry['credentialsFailed']>[0];

test('a denied role does not make STS failing, any other failure does', () => {
  const { telemetry, lines } = aTelemetry();
  telemetry.credentialsFailed(ROLE, new AssumeRoleDenied('AccessDenied', 'not authorized'), 1_000, 1);
  assert.equal(telemetry.sts.report().state, 'ok');
  telemetry.credentialsFailed(ROLE, new Error('timeout'), 1_000, 1);
  assert.equal(telemetry.sts.report().state, 'failing');
  assert.deepEqual(lines(), [
    'ERROR role not assumed role=app session_name=web code=AccessDenied error="not authorized" retry_in_ms=1000',
    'ERROR role not assumed role=app session_name=web error=timeout retry_in_ms=1000',
  ]);
});

test('a role that ALLOWED_ROLES excludes is a warning at its first failure only, and says nothing about STS', () => {
  const { telemetry, lines } = aTelemetry();
  for (const failures of [1, 2]) {
    telemetry.credentialsFailed(ROLE, new AssumeRoleDenied(ROLE_NOT_ALLOWED, 'not allowed'), 1_000, failures);
  }
  assert.equal(telemetry.sts.report().state, 'unknown');
  assert.equal(lines().length, 1);
  assert.match(lines()[0] ?? '', /^WARN {2}role not allowed role=app /);
});

test('the directory is synced or failing, and a lost event stream is a recent error', () => {
  const { telemetry, lines, series, clock } = aTelemetry();
  telemetry.directoryStateChanged('synced', { count: 3 });
  assert.equal(telemetry.docker.report().state, 'ok');
  assert.deepEqual(series('metadataproxy_directory_last_sync_timestamp_seconds'), [
    `metadataproxy_directory_last_sync_timestamp_seconds ${clock.now() / 1000}`,
  ]);
  telemetry.directoryStateChanged('disconnected', { count: 3, error: new Error('ECONNREFUSED') });
  assert.equal(telemetry.docker.report().state, 'failing');
  assert.deepEqual(lines(), [
    'INFO  containers known count=3',
    'WARN  cannot follow Docker events; retrying state=disconnected count=3 error=ECONNREFUSED',
  ]);
});

test('every other failure is a line of the log, and all but that of the host network are recent errors', () => {
  const { telemetry, lines } = aTelemetry();
  telemetry.sourceCredentialsFailed(new Error('expired'));
  telemetry.roleRequestInvalid(aContainer({ name: 'web' }), new BadRoleRequest('bad ARN'));
  telemetry.hostNetworkFailed('no access to /proc');
  telemetry.upstreamTokenFailed('timeout');
  telemetry.fileReloadFailed('ROLE_RULES', '/rules', new Error('line 3'));
  telemetry.fileReloaded('ROLE_RULES', '/rules');
  const { shortId } = aContainer({ name: 'web' });
  assert.deepEqual(lines(), [
    'WARN  source credentials unavailable error=expired',
    `ERROR invalid role request container=web container_id=${shortId} error="bad ARN"`,
    'ERROR cannot identify host-network caller setting=HOST_NETWORK error="no access to /proc"',
    'INFO  no session token from upstream IMDS; continuing without one reason=timeout',
    'ERROR cannot reload file; keeping the previous version setting=ROLE_RULES path=/rules error="line 3"',
    'INFO  file reloaded setting=ROLE_RULES path=/rules',
  ]);
  assert.equal(telemetry.recentErrors.list.length, 4);
});
