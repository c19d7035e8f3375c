// Operators' tools: a real Prometheus that scrapes the built program and evaluates the alerts and the dashboard, and OTLP's
// messages as an independent parser of exported batches. Only on loopback, with the fakes.
import assert from 'node:assert/strict';
import { execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { host, INSTANCE_ID_PATH, SECURITY_CREDENTIALS, until, type Host } from '../integration/host.ts';
import { request } from '../support/client.ts';
import { freePort } from '../support/free-port.ts';
import { Receiver } from '../support/receiver.ts';

const ALERTS = 'packaging/prometheus/alerts.yml';
const DASHBOARD = 'packaging/grafana/dashboard.json';
const PYTHON = 'build/e2e-venv/bin/python';
const ACCOUNT = '123456789012';

/** All metrics by their Prometheus names, which README, the alerts and the dashboard may use. */
const FAMILIES = [
  'metadataproxy_http_request', 'metadataproxy_aws_response_time', 'metadataproxy_aws_request_time',
  'metadataproxy_aws_connection_time', 'metadataproxy_request_duration_seconds', 'metadataproxy_sts_calls_total',
  'metadataproxy_sts_call_duration_seconds', 'metadataproxy_credentials_age_seconds',
  'metadataproxy_credentials_time_to_expiry_seconds', 'metadataproxy_credential_requests_total',
  'metadataproxy_credential_refreshes_total', 'metadataproxy_prefetch_lead_seconds', 'metadataproxy_containers',
  'metadataproxy_directory_synced', 'metadataproxy_directory_last_sync_timestamp_seconds',
  'metadataproxy_docker_event_lag_seconds', 'metadataproxy_upstream_errors_total',
  'metadataproxy_session_tokens_issued_total', 'metadataproxy_session_tokens_refused_total',
  'metadataproxy_refusals_total', 'metadataproxy_event_loop_delay_seconds', 'metadataproxy_ready',
  'metadataproxy_build_info', 'metadataproxy_telemetry_dropped_total', 'process_resident_memory_bytes',
  'process_cpu_seconds_total', 'process_start_time_seconds',
] as const;

/** Absent here, because nothing verifies the firewall. */
const FIREWALL_FAMILY = 'metadataproxy_firewall_ok';

/** promtool's complaint about go-metadataproxy's names, which stay. */
const OLD_NAMES = 'metadataproxy_http_request counter metrics should have "_total" suffix';

const scratch = mkdtempSync(join(tmpdir(), 'metadataproxy-prometheus-'));
const hooks: (() => Promise<void>)[] = [];
const t = { after: (end: () => Promise<void>) => void hooks.push(end) };

/** Runs a command. @returns its output, also after an error */
function run(command: string, args: readonly string[], input = ''): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(command, args, { input, encoding: 'utf8', timeout: 60_000 });
  return { status, output: `${stdout}${stderr}` };
}

/** Starts a Prometheus that scrapes the operator's port twice a second. Resolves when it is ready. */
async function startPrometheus(adminPort: number): Promise<number> {
  const port = await freePort();
  const config = join(scratch, 'prometheus.yml');
  writeFileSync(config, JSON.stringify({
    global: { scrape_interval: '500ms', scrape_timeout: '500ms', evaluation_interval: '500ms' },
    rule_files: [resolve(ALERTS)],
    scrape_configs: [{ job_name: 'metadataproxy', static_configs: [{ targets: [`127.0.0.1:${adminPort}`] }] }],
  }));
  const child = spawn('/usr/bin/setpriv', ['--pdeathsig', 'KILL', 'prometheus', `--config.file=${config}`,
    `--storage.tsdb.path=${join(scratch, 'data')}`, '--storage.tsdb.retention.time=1h',
    `--web.listen-address=127.0.0.1:${port}`], { stdio: ['ignore', 'ignore', 'pipe'] });
  t.after(async () => {
    if (child.exitCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  });
  let output = '';
  await new Promise<void>((done, reject) => {
    createInterface({ input: child.stderr }).on('line', (line) => {
      output += `${line}\n`;
      if (line.includes('Server is ready')) done();
    });
    child.once('exit', (status) => reject(new Error(`Prometheus ended with status ${status}: ${output}`)));
  });
  return port;
}

interface Answer {
  readonly status: string;
  readonly error?: string;
  readonly data: {
    readonly result: readonly { readonly metric: Readonly<Record<string, string>> }[];
    readonly groups?: readonly { readonly rules: readonly { name: string; health: string; lastError?: string }[] }[];
  };
}

/** Causes every event that a metric counts. */
async function provoke(at: Host, dropped: () => Promise<unknown>): Promise<void> {
  const role = (name: string): Record<string, string> => ({ IAM_ROLE: `${name}@${ACCOUNT}` });
  const ready = at.docker.host.run({ address: '127.0.0.61', env: role('ready') });
  at.sts.fault({ kind: 'deny' }, `arn:aws:iam::${ACCOUNT}:role/denied`);
  at.sts.fault({ kind: 'throttle' }, `arn:aws:iam::${ACCOUNT}:role/throttled`);
  at.sts.fault({ kind: 'error', status: 503, code: 'ServiceUnavailable' }, `arn:aws:iam::${ACCOUNT}:role/failing`);
  const pending = at.sts.fault({ kind: 'hold' }, `arn:aws:iam::${ACCOUNT}:role/slow`);
  await ready;
  for (const [address, name] of [['127.0.0.62', 'denied'], ['127.0.0.63', 'throttled'], ['127.0.0.64', 'failing'],
    ['127.0.0.65', 'slow']] as const) {
    await at.docker.host.run({ address, env: role(name) });
  }
  await until(() => at.ask('127.0.0.61', '/creds'), ({ status }) => status === 200);
  await at.ask('127.0.0.61', `${SECURITY_CREDENTIALS}ready`);
  await at.ask('127.0.0.61', `${SECURITY_CREDENTIALS}another`);
  await at.ask('127.0.0.61', INSTANCE_ID_PATH);
  await at.sessionToken('127.0.0.61');
  await at.ask('127.0.0.61', INSTANCE_ID_PATH, { 'x-aws-ec2-metadata-token': 'no token' });
  await at.ask('127.0.0.69', SECURITY_CREDENTIALS);
  const slow = at.ask('127.0.0.65', '/creds');
  for (const address of ['127.0.0.62', '127.0.0.63', '127.0.0.64']) await at.ask(address, '/creds');
  pending.lift();
  await slow;
  const failing = at.imds.fault(INSTANCE_ID_PATH, { kind: 'reset' });
  await at.ask('127.0.0.61', INSTANCE_ID_PATH);
  failing.lift();
  await dropped();
}

describe('telemetry', { timeout: 300_000 }, () => {
  let at: Host;
  let port = 0;
  let text = '';
  let accepted: Receiver;

  const ask = async (path: string): Promise<Answer> => {
    return JSON.parse((await request({ port, path })).body) as Answer;
  };
  const query = (expression: string): Promise<Answer> => ask(`/api/v1/query?query=${encodeURIComponent(expression)}`);

  before(async () => {
    accepted = await Receiver.start(t);
    at = await host(t, { env: {
      ENABLE_PROMETHEUS: 'true', OTEL_EXPORTER_OTLP_ENDPOINT: accepted.url, OTEL_METRIC_EXPORT_INTERVAL: '200',
    } });
    port = await startPrometheus(at.proxy.adminPort);
    // The receiver first refuses a batch, so that one is dropped.
    accepted.replies.push({ status: 400 });
    await provoke(at, () => accepted.posts.several(2));
    text = (await at.askOperator('/metrics')).body;
  });

  after(async () => {
    for (const end of hooks.reverse()) await end();
    rmSync(scratch, { recursive: true });
  });

  test('Prometheus scrapes the proxy, and answers a query for every metric', async () => {
    for (const family of FAMILIES) {
      const one = text.includes(`# TYPE ${family} histogram`) ? `${family}_count` : family;
      const isThere = (answer: Answer): boolean => answer.status === 'success' && answer.data.result.length > 0;
      const { data } = await until(() => query(one), isThere).catch(() => assert.fail(`nothing for ${one}`));
      assert.equal(data.result[0]?.metric['job'], 'metadataproxy');
    }
  });

  test('every scraped metric is in this list', () => {
    const scraped = [...text.matchAll(/^# TYPE (\S+) /gm)].map(([, name]) => name);
    assert.deepEqual(scraped.sort(), [...FAMILIES].sort());
  });

  test('every result of a call and of a credential request is counted', async () => {
    for (const [family, results] of [
      ['metadataproxy_sts_calls_total', ['denied', 'ok', 'throttled', 'unavailable']],
      ['metadataproxy_credential_requests_total', ['denied', 'hit', 'unavailable', 'waited']],
      ['metadataproxy_credential_refreshes_total', ['failed', 'ok']],
    ] as const) {
      const { data } = await until(() => query(`sum by (result) (${family}) > 0`),
        (answer) => answer.data.result.length >= results.length).catch(() => query(`sum by (result) (${family}) > 0`));
      assert.deepEqual(data.result.map(({ metric }) => metric['result']).sort(), results, family);
    }
  });

  test('promtool accepts all metrics except one old name', () => {
    const { output } = run('promtool', ['check', 'metrics'], text);
    assert.equal(output.trim(), OLD_NAMES);
  });

  test('promtool accepts the alerts', () => {
    const { status, output } = run('promtool', ['check', 'rules', ALERTS]);
    assert.equal(status, 0, output);
    assert.match(output, /SUCCESS: \d+ rules found/);
  });

  test('every alert fires only in its condition', () => {
    const { status, output } = run('promtool', ['test', 'rules', 'test/e2e/alerts.test.yml']);
    assert.equal(status, 0, output);
    const tested = readFileSync('test/e2e/alerts.test.yml', 'utf8');
    for (const alert of alertNames()) {
      const times = [...tested.matchAll(new RegExp(`alertname: ${alert}\\n`, 'g'))];
      assert.ok(times.length > 0, `${alert} has no test`);
      assert.match(tested, new RegExp(`runbook_url: README.md#${alert.toLowerCase()}\\n`), `${alert} never fires`);
    }
  });

  test("README's runbook has one section per alert", () => {
    const readme = readFileSync('README.md', 'utf8');
    const runbook = /\n## Runbook\n([^]*?)\n## /.exec(readme)?.[1] ?? '';
    const headings = [...runbook.matchAll(/^### (\w+)$/gm)].map(([, name]) => name);
    assert.deepEqual(headings, alertNames());
    const links = readFileSync(ALERTS, 'utf8').matchAll(/runbook_url: README\.md#(\w+)/g);
    assert.deepEqual([...links].map(([, anchor]) => anchor), alertNames().map((name) => name.toLowerCase()));
  });

  test('Prometheus evaluates every alert, and each uses existing metrics', async () => {
    const isEvaluated = ({ data }: Answer): boolean =>
      (data.groups?.[0]?.rules ?? []).every(({ health }) => health !== 'unknown');
    const { data } = await until(() => ask('/api/v1/rules'), isEvaluated);
    const rules = data.groups?.[0]?.rules ?? [];
    assert.deepEqual(rules.map(({ name }) => name), alertNames());
    for (const { name, health, lastError } of rules) assert.equal(health, 'ok', `${name}: ${lastError}`);
    const expressions = readFileSync(ALERTS, 'utf8').replace(/^ *(?:#|summary:|description:).*$/gm, '');
    for (const name of namesIn(expressions)) assert.ok(isKnown(name), name);
  });

  test('every panel of the dashboard shows data of existing metrics', async () => {
    const expressions = dashboardExpressions();
    assert.ok(expressions.length > 30);
    for (const { title, expression } of expressions) {
      for (const name of namesIn(expression)) assert.ok(isKnown(name), `${title}: ${name}`);
      await until(() => query(expression), ({ status, data, error }) => {
        assert.equal(status, 'success', `${title}: ${error}`);
        return data.result.length > 0;
      }).catch((error: Error) => assert.fail(`${title}: ${expression}: ${error.message}`));
    }
  });

  test('every metric is on the dashboard', () => {
    const shown = new Set(dashboardExpressions().flatMap(({ expression }) => namesIn(expression)).map(bareName));
    assert.deepEqual(FAMILIES.filter((family) => !shown.has(family)), []);
  });

  test('the dashboard works in any Grafana: its data source is a variable', () => {
    const sources = new Set<string>();
    const dashboard = JSON.parse(readFileSync(DASHBOARD, 'utf8'), (key, value: unknown) => {
      if (key === 'datasource') sources.add(JSON.stringify(value));
      return value;
    }) as object;
    assert.deepEqual([...sources], ['{"type":"prometheus","uid":"${datasource}"}']);
    assert.ok(!('id' in dashboard));
  });

  test("OTLP's messages parse every batch with the same points", async () => {
    const script = `
import json, sys
from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
request = Parse(sys.stdin.read(), ExportMetricsServiceRequest())
points = {}
for resource in request.resource_metrics:
    for scope in resource.scope_metrics:
        for metric in scope.metrics:
            kind = metric.WhichOneof('data')
            points[metric.name] = points.get(metric.name, 0) + len(getattr(metric, kind).data_points)
names = {a.key: a.value.string_value for a in request.resource_metrics[0].resource.attributes}
print(json.dumps({'points': points, 'service': names['service.name']}))
`;
    const { text: posted } = await accepted.posts.next();
    const read = await new Promise<string>((done, reject) => {
      const child = execFile(PYTHON, ['-c', script], (error, stdout) => (error ? reject(error) : done(stdout)));
      child.stdin?.end(posted);
    });
    const { points, service } = JSON.parse(read) as { points: Record<string, number>; service: string };
    assert.equal(service, 'metadataproxy');
    assert.deepEqual(Object.keys(points).map((one) => one.replaceAll('.', '_')).sort(), [...FAMILIES].sort());
    const { resourceMetrics: [{ scopeMetrics: [{ metrics }] }] } = JSON.parse(posted) as {
      resourceMetrics: [{ scopeMetrics: [{ metrics: Record<string, unknown>[] }] }];
    };
    const counted: Record<string, number> = {};
    for (const metric of metrics) {
      const data = (metric['sum'] ?? metric['gauge'] ?? metric['histogram']) as { dataPoints: unknown[] };
      const family = String(metric['name']);
      counted[family] = (counted[family] ?? 0) + data.dataPoints.length;
    }
    assert.deepEqual(points, counted);
  });
});

function alertNames(): string[] {
  return [...readFileSync(ALERTS, 'utf8').matchAll(/- alert: (\w+)/g)].map(([, name = '']) => name);
}

/** All expressions of the dashboard, with the variables replaced as Grafana does. */
function dashboardExpressions(): { title: string; expression: string }[] {
  const { panels } = JSON.parse(readFileSync(DASHBOARD, 'utf8')) as {
    panels: { title: string; targets?: { expr: string }[] }[];
  };
  const filledIn = (text: string): string =>
    text.replaceAll('$job', 'metadataproxy').replaceAll('$instance', '.*').replaceAll('$__rate_interval', '1m');
  return panels.flatMap(({ title, targets = [] }) => {
    return targets.map(({ expr }) => ({ title, expression: filledIn(expr) }));
  });
}

function namesIn(expression: string): string[] {
  return expression.match(/\b(?:metadataproxy|process)_\w+/g) ?? [];
}

function bareName(name: string): string {
  return name.replace(/_seconds_(?:bucket|sum|count)$/, '_seconds');
}

function isKnown(name: string): boolean {
  return name === FIREWALL_FAMILY || (FAMILIES as readonly string[]).includes(bareName(name));
}
