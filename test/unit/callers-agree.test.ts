// The resolver, the server and telemetry together: log, metrics, status rows, session tokens and /metrics on PORT have one
// answer to the question who is calling.
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { parseCgroups } from '../../lib/callers/host/cgroup.ts';
import { HostAddresses } from '../../lib/callers/host/addresses.ts';
import { HostNetwork } from '../../lib/callers/host/network.ts';
import { CallerResolver } from '../../lib/callers/resolver.ts';
import { readConfig } from '../../lib/config/config.ts';
import type { Container } from '../../lib/docker/container.ts';
import { metrics } from '../../lib/http/handlers/metrics.ts';
import { sendText } from '../../lib/http/exchange.ts';
import { Log } from '../../lib/log/log.ts';
import { Telemetry } from '../../lib/telemetry/telemetry.ts';
import { systemClock } from '../../lib/util/clock.ts';
import { request } from '../support/client.ts';
import { aContainer } from './helpers/fixtures.ts';
import { startServer } from './helpers/metadata-server.ts';

const ADDRESS = '127.0.0.1';
const ID_PATH = '/latest/meta-data/instance-id';
const TOKEN_PATH = '/latest/api/token';
const TOKEN = 'x-aws-ec2-metadata-token';
const TTL = 'x-aws-ec2-metadata-token-ttl-seconds';

const ON_HOST = aContainer({ id: 'a1'.repeat(32), name: 'on-host', network: 'host', labels: new Map([['team', 'host-team']]) });

/** A proxy with HOST_NETWORK where each connection from the host belongs to ON_HOST. */
async function setUp(t: TestContext, peeked?: Container) {
  const cgroup = parseCgroups(`0::/docker/${ON_HOST.id}\n`);
  const log = new Log({ level: 'error', format: 'json', host: 'host', write: () => {}, now: Date.now });
  const config = readConfig({}, { ENABLE_PROMETHEUS: 'true', HOST_NETWORK: 'true', COPY_DOCKER_LABELS: 'team' });
  const telemetry = new Telemetry({ config, log, clock: systemClock, version: '1.2.3' });
  const resolver = new CallerResolver({
    directory: { resolve: () => peeked, peek: () => peeked },
    mapping: () => undefined,
    others: [],
    hostAddresses: new HostAddresses(systemClock, () => []),
    hostNetwork: new HostNetwork({
      processes: { processesOf: async () => [{ cgroup, ownPids: true }], cgroupOf: async () => cgroup },
      containerById: async (id) => (id === ON_HOST.id ? ON_HOST : undefined),
      firstProcessOf: async () => 1,
      hostProcess: undefined,
      events: telemetry,
    }),
  });
  const { port } = await startServer(
    t,
    {
      passThrough: (exchange) => sendText(exchange, 'i-1'),
      metrics: metrics(telemetry.expose, (address) => resolver.isHost(address)),
    },
    { resolver, events: telemetry },
  );
  const ask = (path: string, headers: Record<string, string> = {}, method = 'GET') =>
    request({ port, from: ADDRESS, path, headers, method });
  /** How many requests go-metadataproxy's counter has for a container's label. */
  const counted = (team: string): number => {
    const lines = telemetry.expose?.('').text.split('\n') ?? [];
    const series = lines.filter((line) => line.startsWith('metadataproxy_http_request{') && line.includes(`container_team="${team}"`));
    return series.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
  };
  const requests = (container: Container): number => telemetry.requestHistory.of(container).requests;
  return { ask, counted, requests };
}

test("a host-network container's pass-through and token requests count in its own status row and metric labels", async (t) => {
  const { ask, counted, requests } = await setUp(t);
  assert.equal((await ask(ID_PATH)).status, 200);
  assert.deepEqual([requests(ON_HOST), counted('host-team')], [1, 1], 'without a session token');
  const { body: token } = await ask(TOKEN_PATH, { [TTL]: '60' }, 'PUT');
  assert.deepEqual([requests(ON_HOST), counted('host-team')], [2, 2], 'the request for a token');
  assert.equal((await ask(ID_PATH, { [TOKEN]: token })).status, 200);
  assert.deepEqual([requests(ON_HOST), counted('host-team')], [3, 3], 'with the token');
});

test("a label that claims the host's address is believed neither by metrics and status rows nor by /metrics on PORT", async (t) => {
  const claims = aContainer({ id: 'b2'.repeat(32), labelledAddress: ADDRESS, labels: new Map([['team', 'claiming-team']]) });
  const { ask, counted, requests } = await setUp(t, claims);
  assert.equal((await ask(ID_PATH)).status, 200);
  const { status, body } = await ask('/metrics');
  assert.equal(status, 200, 'the host may read its metrics');
  assert.match(body, /^metadataproxy_http_request\{/m);
  assert.deepEqual([requests(claims), counted('claiming-team')], [0, 0]);
  assert.deepEqual([requests(ON_HOST), counted('host-team')], [1, 1]);
});

test("an address that Docker assigned to a container is the container's for all of them, even if the host has it", async (t) => {
  const web = aContainer({ id: 'c3'.repeat(32), labels: new Map([['team', 'web-team']]) });
  const { ask, counted, requests } = await setUp(t, web);
  assert.equal((await ask(ID_PATH)).status, 200);
  assert.equal((await ask('/metrics')).status, 404);
  assert.deepEqual([requests(web), counted('web-team')], [2, 2]);
  assert.deepEqual([requests(ON_HOST), counted('host-team')], [0, 0]);
});
