import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Clock } from '../../lib/util/clock.ts';
import { readConfig, type Environment } from '../../lib/config/config.ts';
import { Log } from '../../lib/log/log.ts';
import { MetricsRegistry } from '../../lib/telemetry/metrics/registry.ts';
import { startOtlp } from '../../lib/telemetry/export/otlp.ts';
import { otlpProblems } from '../support/otlp-schema.ts';
import { Receiver } from '../support/receiver.ts';
import { ManualClock } from './helpers/manual-clock.ts';

interface Attribute {
  readonly key: string;
  readonly value: { readonly stringValue: string };
}

interface Point {
  readonly attributes: readonly Attribute[];
  readonly startTimeUnixNano?: string;
  readonly timeUnixNano: string;
}

interface Metric {
  readonly name: string;
  readonly description: string;
  readonly unit?: string;
  readonly sum?: { readonly dataPoints: readonly Point[]; readonly isMonotonic: boolean };
  readonly gauge?: { readonly dataPoints: readonly Point[] };
  readonly histogram?: { readonly dataPoints: readonly Point[] };
}

interface Request {
  readonly resourceMetrics: readonly [{
    readonly resource: { readonly attributes: readonly Attribute[] };
    readonly scopeMetrics: readonly [{ readonly scope: unknown; readonly metrics: readonly Metric[] }];
  }];
}

const START = Date.parse('2026-01-01T00:00:00Z');
const nano = (seconds: number): string => `${START + seconds * 1_000}000000`;

async function setUp(t: TestContext, env: Environment = {}, bend = (clock: ManualClock): Clock => clock) {
  const receiver = await Receiver.start(t);
  const clock = new ManualClock(START);
  const metrics = new MetricsRegistry();
  let logged = '';
  const write = (lines: string): void => void (logged += lines);
  const log = new Log({ level: 'debug', format: 'json', host: 'h', write, now: clock.now });
  const dropped: number[] = [];
  const given = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url, ...env };
  const backend = startOtlp({
    config: readConfig({}, given), metrics, version: '1.2.3', host: 'ip-10-0-0-1', clock: bend(clock), log,
    random: () => 0, onDropped: (points) => dropped.push(points),
  });
  let seen = 0;
  /** What one more interval brings. */
  const next = async (): Promise<Request> => {
    const wanted = (seen += 1);
    while (!clock.pending.includes(60_000)) await new Promise(setImmediate);
    await clock.advance(60_000);
    const post = (await receiver.posts.several(wanted)).at(-1);
    const request = JSON.parse(post?.text ?? '') as Request;
    assert.deepEqual(otlpProblems(request), []);
    return request;
  };
  const metricsOf = (request: Request) => request.resourceMetrics[0].scopeMetrics[0].metrics;
  return { receiver, clock, metrics, dropped, backend, next, metricsOf, log: () => { log.flush(); return logged; } };
}

test('counters are cumulative monotonic sums of whole numbers, with the labels that apply as attributes', async (t) => {
  const { receiver, metrics, next, metricsOf } = await setUp(t);
  const family = metrics.counter({ name: 'metadataproxy.http_request', help: 'Requests', labels: ['code', 'role'] });
  family.labels(['200', 'app']).add(3);
  family.labels(['404', '']).add();
  const [metric, ...others] = metricsOf(await next());
  assert.deepEqual(others, []);
  assert.deepEqual(metric, {
    name: 'metadataproxy.http_request',
    description: 'Requests',
    sum: {
      dataPoints: [
        {
          attributes: [
            { key: 'code', value: { stringValue: '200' } },
            { key: 'role', value: { stringValue: 'app' } },
          ],
          startTimeUnixNano: nano(0), timeUnixNano: nano(60), asInt: '3',
        },
        {
          attributes: [{ key: 'code', value: { stringValue: '404' } }],
          startTimeUnixNano: nano(0), timeUnixNano: nano(60), asInt: '1',
        },
      ],
      aggregationTemporality: 2,
      isMonotonic: true,
    },
  });
  const [post] = receiver.posts.entries;
  assert.equal(post?.method, 'POST');
  assert.equal(post?.path, '/v1/metrics');
  assert.equal(post?.headers['content-type'], 'application/json');
});

test('a sum goes on from reading to reading, and a series that comes later starts where it was not yet', async (t) => {
  const { metrics, next, metricsOf } = await setUp(t);
  const family = metrics.counter({ name: 'c', help: '', labels: ['a'] });
  family.labels(['one']).add(1);
  await next();
  family.labels(['one']).add(1);
  family.labels(['two']).add(5);
  const points = metricsOf(await next())[0]?.sum?.dataPoints;
  assert.deepEqual(points?.map((point) => ({ ...point, attributes: undefined })), [
    { attributes: undefined, startTimeUnixNano: nano(0), timeUnixNano: nano(120), asInt: '2' },
    { attributes: undefined, startTimeUnixNano: nano(60), timeUnixNano: nano(120), asInt: '5' },
  ]);
});

test('a series that was forgotten and comes back starts anew', async (t) => {
  const { metrics, next, metricsOf } = await setUp(t);
  const family = metrics.counter({ name: 'c', help: '' });
  family.labels().add(10);
  await next();
  family.clear();
  family.labels().add(1);
  const [point] = metricsOf(await next())[0]?.sum?.dataPoints ?? [];
  assert.deepEqual(point, { attributes: [], startTimeUnixNano: nano(60), timeUnixNano: nano(120), asInt: '1' });
});

test('gauges are doubles without a start, and what is no number is left out', async (t) => {
  const { metrics, next, metricsOf } = await setUp(t);
  const family = metrics.gauge({ name: 'process.resident_memory_bytes', help: 'Memory', labels: ['a'] });
  for (const [label, value] of [['x', 12.5], ['y', NaN], ['z', Infinity]] as const) family.labels([label]).set(value);
  metrics.gauge({ name: 'unknown', help: '' }).labels().set(NaN);
  metrics.gauge({ name: 'never used', help: '' });
  assert.deepEqual(metricsOf(await next()), [{
    name: 'process.resident_memory_bytes', description: 'Memory', unit: 'By',
    gauge: {
      dataPoints: [
        { attributes: [{ key: 'a', value: { stringValue: 'x' } }], timeUnixNano: nano(60), asDouble: 12.5 },
      ],
    },
  }]);
});

test('histograms have a count for each bucket alone, one more than bounds', async (t) => {
  const { metrics, next, metricsOf } = await setUp(t);
  const histogram = metrics.histogram({ name: 'm.duration_seconds', help: 'Time', bounds: [0.1, 1] }).labels();
  for (const value of [0.05, 0.1, 0.5, 7]) histogram.observe(value);
  assert.deepEqual(metricsOf(await next()), [{
    name: 'm.duration_seconds', description: 'Time', unit: 's',
    histogram: {
      dataPoints: [{
        attributes: [], startTimeUnixNano: nano(0), timeUnixNano: nano(60), count: '4', sum: 7.65,
        bucketCounts: ['2', '1', '1'], explicitBounds: [0.1, 1],
      }],
      aggregationTemporality: 2,
    },
  }]);
});

test("the unit of a metric is what its name says, and nanoseconds for go-metadataproxy's times", async (t) => {
  const { metrics, next, metricsOf } = await setUp(t);
  const units = {
    'm.age_seconds': 's', 'process.cpu_seconds_total': 's', 'm.memory_bytes': 'By',
    'metadataproxy.aws_request_time': 'ns', 'metadataproxy.containers': undefined, 'm.seconds_left': undefined,
  };
  for (const name of Object.keys(units)) metrics.gauge({ name, help: '' }).labels();
  assert.deepEqual(Object.fromEntries(metricsOf(await next()).map(({ name, unit }) => [name, unit])), units);
});

test('a counter of seconds stays a double, whole or not', async (t) => {
  const { metrics, next } = await setUp(t);
  metrics.counter({ name: 'process.cpu_seconds_total', help: '' }).labels().add(2);
  assert.match(JSON.stringify(await next()), /"asDouble":2}/);
});

test('the resource is what the standard variables say, and by default this service on this host', async (t) => {
  const attributesOf = async (env: Environment) => {
    const { metrics, next } = await setUp(t, env);
    metrics.counter({ name: 'c', help: '' }).labels();
    const { resource, scopeMetrics } = (await next()).resourceMetrics[0];
    assert.deepEqual(scopeMetrics[0].scope, { name: 'metadataproxy', version: '1.2.3' });
    return Object.fromEntries(resource.attributes.map(({ key, value }) => [key, value.stringValue]));
  };
  const usual = { 'service.version': '1.2.3', 'host.name': 'ip-10-0-0-1', 'service.instance.id': 'ip-10-0-0-1' };
  assert.deepEqual(await attributesOf({}), { 'service.name': 'metadataproxy', ...usual });
  const resource = 'service.name=theirs,host.name=h,team=a%2Cb';
  assert.deepEqual(await attributesOf({ OTEL_RESOURCE_ATTRIBUTES: resource }), {
    ...usual, 'service.name': 'theirs', 'host.name': 'h', team: 'a,b',
  });
  assert.equal(
    (await attributesOf({ OTEL_RESOURCE_ATTRIBUTES: resource, OTEL_SERVICE_NAME: 'mine' }))['service.name'],
    'mine',
  );
});

test('/v1/metrics goes onto the endpoint for all signals, and nothing onto the one for metrics', async (t) => {
  const pathFor = async (name: string, path: string): Promise<string | undefined> => {
    const receiver = await Receiver.start(t);
    const env = { [name]: `${receiver.url}${path}`, OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip' };
    const { metrics, clock } = await setUp(t, env);
    metrics.counter({ name: 'c', help: '' }).labels();
    await clock.advance(60_000);
    const post = await receiver.posts.first();
    assert.equal(post.headers['content-encoding'], 'gzip');
    return post.path;
  };
  assert.equal(await pathFor('OTEL_EXPORTER_OTLP_ENDPOINT', '/otlp/'), '/otlp/v1/metrics');
  assert.equal(await pathFor('OTEL_EXPORTER_OTLP_METRICS_ENDPOINT', '/otlp/'), '/otlp/');
  assert.equal(await pathFor('OTEL_EXPORTER_OTLP_METRICS_ENDPOINT', '/x?tenant=1'), '/x?tenant=1');
});

test('headers are sent with each request, those for metrics alone instead of those for all', async (t) => {
  const { metrics, receiver, next } = await setUp(t, {
    OTEL_EXPORTER_OTLP_HEADERS: 'api-key=other', OTEL_EXPORTER_OTLP_METRICS_HEADERS: 'api-key=a%20key,X-Scope=1',
  });
  metrics.counter({ name: 'c', help: '' }).labels();
  await next();
  const [post] = receiver.posts.entries;
  assert.equal(post?.headers['api-key'], 'a key');
  assert.equal(post?.headers['x-scope'], '1');
});

test('without an endpoint, or with OTEL_SDK_DISABLED, there is no such backend', async (t) => {
  assert.equal((await setUp(t, { OTEL_EXPORTER_OTLP_ENDPOINT: '' })).backend, undefined);
  assert.equal((await setUp(t, { OTEL_SDK_DISABLED: 'True' })).backend, undefined);
  assert.notEqual((await setUp(t, { OTEL_SDK_DISABLED: 'false' })).backend, undefined);
});

test('only the answers that the specification calls passing are tried again', async (t) => {
  for (const [status, isRetryable] of [[429, true], [502, true], [503, true], [504, true], [500, false], [400, false],
    [404, false], [413, false]] as const) {
    const { metrics, receiver, clock, dropped } = await setUp(t);
    metrics.counter({ name: 'c', help: '' }).labels();
    receiver.replies.push({ status });
    await clock.advance(60_000);
    await receiver.posts.first();
    while (isRetryable ? !clock.pending.includes(500) : dropped.length === 0) await new Promise(setImmediate);
    assert.deepEqual(dropped, isRetryable ? [] : [1], String(status));
  }
});

test('data points that a partial success rejects are counted as dropped', async (t) => {
  const { metrics, receiver, clock, dropped, log } = await setUp(t);
  for (const label of ['a', 'b', 'c']) metrics.counter({ name: label, help: '' }).labels();
  receiver.replies.push({
    status: 200, body: '{"partialSuccess":{"rejectedDataPoints":"2","errorMessage":"hush is no key"}}',
  });
  await clock.advance(60_000);
  while (dropped.length === 0) await new Promise(setImmediate);
  assert.deepEqual(dropped, [2]);
  assert.match(log(), /it refuses 2 of 3 data points/);
  assert.doesNotMatch(log(), /hush/);
});

for (const body of ['', 'null', '[]', '<html>', '{"partialSuccess":[]}', '{"partialSuccess":{"rejectedDataPoints":-1}}',
  '{"partialSuccess":{"rejectedDataPoints":{}}}', `{"partialSuccess":${'['.repeat(9_000)}`]) {
  test(`an answer of success stays one, whatever it says: ${body.slice(0, 50)}`, async (t) => {
    const { metrics, receiver, dropped, next, log } = await setUp(t);
    metrics.counter({ name: 'c', help: '' }).labels();
    receiver.always = { status: 200, body };
    await next();
    await next();
    assert.deepEqual(dropped, []);
    assert.equal(log(), '');
  });
}

test('label values from containers are cut to what receivers take, and stay text', async (t) => {
  const { metrics, next, metricsOf } = await setUp(t);
  const family = metrics.counter({ name: 'c', help: '', labels: ['label'] });
  const given = ['\ud800x', 'x'.repeat(100_000), '\u0000"\\\n', `${'x'.repeat(4_095)}😀`];
  for (const value of given) family.labels([value]).add();
  const points = metricsOf(await next())[0]?.sum?.dataPoints ?? [];
  const values = points.map(({ attributes }) => attributes[0]?.value.stringValue);
  assert.deepEqual(values, ['\ufffdx', 'x'.repeat(4_096), '\u0000"\\\n', `${'x'.repeat(4_095)}\ufffd`]);
});

test('many series are told in several requests, none of them large', async (t) => {
  const { metrics, receiver, clock } = await setUp(t);
  const family = metrics.counter({ name: 'c', help: '', labels: ['label'] });
  for (let index = 0; index < 2_000; index += 1) family.labels([`${index}${'x'.repeat(500)}`]).add();
  await clock.advance(60_000);
  const told = new Set<string>();
  for (let count = 1; told.size < 2_000; count += 1) {
    const { text } = (await receiver.posts.several(count)).at(-1) ?? assert.fail();
    assert.ok(text.length < 300_000, String(text.length));
    const request = JSON.parse(text) as Request;
    assert.deepEqual(otlpProblems(request), []);
    for (const { sum } of request.resourceMetrics[0].scopeMetrics[0].metrics) {
      for (const { attributes } of sum?.dataPoints ?? []) told.add(attributes[0]?.value.stringValue ?? '');
    }
  }
});

test('what happened since the last interval is sent at the end', async (t) => {
  const { metrics, receiver, backend } = await setUp(t);
  metrics.counter({ name: 'c', help: '' }).labels().add(4);
  await backend?.close();
  assert.match(receiver.posts.entries[0]?.text ?? '', /"asInt":"4"/);
});

test('a clock that is set back makes no sum end before it starts', async (t) => {
  const time = { ahead: 3_600_000 };
  const { metrics, receiver, backend } = await setUp(t, {}, (clock) => ({
    now: () => clock.now() + time.ahead, monotonic: clock.monotonic, after: clock.after.bind(clock),
  }));
  metrics.counter({ name: 'c', help: '' }).labels();
  time.ahead = 0;
  await backend?.close();
  const request = JSON.parse(receiver.posts.entries[0]?.text ?? '') as Request;
  const [point] = request.resourceMetrics[0].scopeMetrics[0].metrics[0]?.sum?.dataPoints ?? [];
  assert.equal(point?.timeUnixNano, nano(3_600));
});

test('the strict reader of this test refuses what OTLP does not have', () => {
  const good = { name: 'c', sum: { dataPoints: [{ timeUnixNano: '1', asInt: '1' }], aggregationTemporality: 2 } };
  const wrap = (metric: object): object => ({ resourceMetrics: [{ scopeMetrics: [{ metrics: [metric] }] }] });
  assert.deepEqual(otlpProblems(wrap(good)), []);
  const point = good.sum.dataPoints[0];
  for (const [bad, problem] of [
    [{ ...good, extra: 1 }, /extra: unknown field/],
    [{ ...good, sum: { ...good.sum, dataPoints: [{ ...point, asInt: 1 }] } }, /asInt: no decimal string/],
    [{ ...good, sum: { ...good.sum, dataPoints: [{ ...point, asDouble: 1 }] } }, /2 of asDouble, asInt/],
    [{ ...good, sum: { ...good.sum, dataPoints: [{ ...point, time_unix_nano: '1' }] } }, /time_unix_nano: unknown/],
    [{ ...good, sum: { ...good.sum, aggregationTemporality: '2' } }, /not one of 1, 2/],
    [{ name: 'c', gauge: { dataPoints: [{ timeUnixNano: '1', asDouble: null }] } }, /asDouble: no double/],
    [{ name: 'c' }, /0 of gauge, sum, histogram/],
  ] as const) {
    assert.match(otlpProblems(wrap(bad)).join('\n'), problem);
  }
});
