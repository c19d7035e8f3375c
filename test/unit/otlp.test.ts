import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Clock } from '../../lib/util/clock.ts';
import { readConfig, type Environment } from '../../lib/config/config.ts';
import { otlpTargets, rejectedPoints } from '../../lib/telemetry/export/otlp.ts';
import { otlp } from '../../lib/telemetry/export/start.ts';
import { otlpProblems } from '../support/otlp-schema.ts';
import { Receiver } from '../support/receiver.ts';
import { exporting } from './helpers/exporting.ts';
import type { ManualClock } from './helpers/manual-clock.ts';

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
  const { clock, metrics, options, dropped, outages } = exporting(START);
  const config = readConfig({}, { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url, ...env });
  const [target = assert.fail()] = otlpTargets(config);
  const exporter = otlp(
    { ...options, interval: 60_000, clock: bend(clock) },
    // New Relic's own endpoint must not be called.
    target.name === 'otlp' ? target : { ...target, url: new URL('/v1/metrics', receiver.url) },
    { resource: config.otlpResource, timeout: config.otlpTimeout, version: '1.2.3', host: 'ip-10-0-0-1' },
  );
  let seen = 0;
  /** The request of the next round. */
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
  return { receiver, clock, metrics, dropped, outages, exporter, next, metricsOf };
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

test('a sum is cumulative, and a new series starts at the last round without it', async (t) => {
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

test('a series that was evicted and comes back has a new start', async (t) => {
  const { metrics, next, metricsOf } = await setUp(t);
  const family = metrics.counter({ name: 'c', help: '' });
  family.labels().add(10);
  await next();
  family.clear();
  family.labels().add(1);
  const [point] = metricsOf(await next())[0]?.sum?.dataPoints ?? [];
  assert.deepEqual(point, { attributes: [], startTimeUnixNano: nano(60), timeUnixNano: nano(120), asInt: '1' });
});

test('gauges are doubles without a start; NaN and infinity are omitted', async (t) => {
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

test('histograms have a count per bucket, one more than bounds', async (t) => {
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

test("the unit of a metric follows from its name, and is nanoseconds for go-metadataproxy's times", async (t) => {
  const { metrics, next, metricsOf } = await setUp(t);
  const units = {
    'm.age_seconds': 's', 'process.cpu_seconds_total': 's', 'm.memory_bytes': 'By',
    'metadataproxy.aws_request_time': 'ns', 'metadataproxy.containers': undefined, 'm.seconds_left': undefined,
  };
  for (const name of Object.keys(units)) metrics.gauge({ name, help: '' }).labels();
  assert.deepEqual(Object.fromEntries(metricsOf(await next()).map(({ name, unit }) => [name, unit])), units);
});

test('a counter of seconds is a double even when it is whole', async (t) => {
  const { metrics, next } = await setUp(t);
  metrics.counter({ name: 'process.cpu_seconds_total', help: '' }).labels().add(2);
  assert.match(JSON.stringify(await next()), /"asDouble":2}/);
});

test('the standard variables set the resource; by default it is this service on this host', async (t) => {
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

test('/v1/metrics is appended to the endpoint for all signals, and nothing to the one for metrics', async (t) => {
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

test('each request has the headers; those for metrics replace those for all signals', async (t) => {
  const { metrics, receiver, next } = await setUp(t, {
    OTEL_EXPORTER_OTLP_HEADERS: 'api-key=other', OTEL_EXPORTER_OTLP_METRICS_HEADERS: 'api-key=a%20key,X-Scope=1',
  });
  metrics.counter({ name: 'c', help: '' }).labels();
  await next();
  const [post] = receiver.posts.entries;
  assert.equal(post?.headers['api-key'], 'a key');
  assert.equal(post?.headers['x-scope'], '1');
});

test('without an endpoint, or with OTEL_SDK_DISABLED, nothing is exported', () => {
  const namesFor = (env: Environment): string[] => otlpTargets(readConfig({}, env)).map(({ name }) => name);
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' };
  assert.deepEqual(namesFor({}), []);
  assert.deepEqual(namesFor({ ...endpoint, OTEL_SDK_DISABLED: 'True' }), []);
  assert.deepEqual(namesFor({ ...endpoint, OTEL_SDK_DISABLED: 'false' }), ['otlp']);
});

test('only the statuses that the specification calls retryable are retried', async (t) => {
  for (const [status, isRetryable] of [[429, true], [502, true], [503, true], [504, true], [500, false], [400, false],
    [404, false], [413, false]] as const) {
    const { metrics, receiver, clock, dropped, outages } = await setUp(t);
    metrics.counter({ name: 'c', help: '' }).labels();
    receiver.replies.push({ status });
    await clock.advance(60_000);
    await outages.first();
    // By backoff after a failure, or after the interval.
    while (!clock.pending.includes(isRetryable ? 30_000 : 60_000)) await new Promise(setImmediate);
    assert.equal(dropped(), isRetryable ? 0 : 1, String(status));
  }
});

test('data points that a partial success rejects count as dropped', async (t) => {
  const { metrics, receiver, clock, dropped, outages } = await setUp(t);
  for (const label of ['a', 'b', 'c']) metrics.counter({ name: label, help: '' }).labels();
  receiver.replies.push({
    status: 200, body: '{"partialSuccess":{"rejectedDataPoints":"2","errorMessage":"hush is no key"}}',
  });
  await clock.advance(60_000);
  assert.equal(await outages.first(), 'failed: the receiver rejected 2 of 3 data points');
  assert.equal(dropped(), 2);
});

for (const body of ['', 'null', '[]', '<html>', '{"partialSuccess":[]}', '{"partialSuccess":{"rejectedDataPoints":-1}}',
  '{"partialSuccess":{"rejectedDataPoints":{}}}', `{"partialSuccess":${'['.repeat(9_000)}`]) {
  test(`a successful response stays one, whatever its body is: ${body.slice(0, 50)}`, async (t) => {
    assert.equal(rejectedPoints(body), 0);
    const { metrics, receiver, dropped, next, outages } = await setUp(t);
    metrics.counter({ name: 'c', help: '' }).labels();
    receiver.always = { status: 200, body };
    await next();
    await next();
    assert.deepEqual([dropped(), outages.entries], [0, []]);
  });
}

test('label values are cut to the length that receivers accept, and stay valid text', async (t) => {
  const { metrics, next, metricsOf } = await setUp(t);
  const family = metrics.counter({ name: 'c', help: '', labels: ['label'] });
  const given = ['\ud800x', 'x'.repeat(100_000), '\u0000"\\\n', `${'x'.repeat(4_094)}😀`];
  for (const value of given) family.labels([value]).add();
  const points = metricsOf(await next())[0]?.sum?.dataPoints ?? [];
  const values = points.map(({ attributes }) => attributes[0]?.value.stringValue);
  assert.deepEqual(values, ['\ufffdx', 'x'.repeat(4_095), '\u0000"\\\n', `${'x'.repeat(4_094)}\ufffd`]);
});

test('many series are exported in several requests, none of them large', async (t) => {
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

test('close exports once more', async (t) => {
  const { metrics, receiver, exporter } = await setUp(t);
  metrics.counter({ name: 'c', help: '' }).labels().add(4);
  await exporter.close();
  assert.match(receiver.posts.entries[0]?.text ?? '', /"asInt":"4"/);
});

test('no sum ends before it starts, even if the clock is set back', async (t) => {
  const time = { ahead: 3_600_000 };
  const { metrics, receiver, exporter } = await setUp(t, {}, (clock) => ({
    now: () => clock.now() + time.ahead, monotonic: clock.monotonic, after: clock.after.bind(clock),
  }));
  metrics.counter({ name: 'c', help: '' }).labels();
  time.ahead = 0;
  await exporter.close();
  const request = JSON.parse(receiver.posts.entries[0]?.text ?? '') as Request;
  const [point] = request.resourceMetrics[0].scopeMetrics[0].metrics[0]?.sum?.dataPoints ?? [];
  assert.equal(point?.timeUnixNano, nano(3_600));
});

// New Relic

const LICENSE = '0123456789abcdef0123456789abcdef0123NRAL';
const NEW_RELIC = { OTEL_EXPORTER_OTLP_ENDPOINT: '', NEWRELIC_LICENSE: LICENSE, NEWRELIC_APP_NAME: 'proxy' };

test("NEWRELIC_LICENSE exports to New Relic's endpoint of the key's region, with the key in the api-key header", () => {
  const [target, ...others] = otlpTargets(readConfig({}, NEW_RELIC));
  assert.deepEqual(others, []);
  assert.deepEqual(target, {
    name: 'new-relic', url: new URL('https://otlp.nr-data.net/v1/metrics'), headers: { 'api-key': LICENSE }, gzip: true,
    temporality: 'delta', serviceName: 'proxy',
  });
  const [european] = otlpTargets(readConfig({}, { NEWRELIC_LICENSE: 'eu01xx6789abcdef0123456789abcdef0123NRAL' }));
  assert.equal(european?.url.href, 'https://otlp.eu01.nr-data.net/v1/metrics');
  assert.equal(european.serviceName, 'metadataproxy');
  assert.deepEqual(otlpTargets(readConfig({}, { NEWRELIC_APP_NAME: 'proxy' })), []);
});

test('New Relic is exported to beside another OTLP endpoint, which OTEL_SDK_DISABLED alone switches off', () => {
  const env = { ...NEW_RELIC, OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' };
  const namesFor = (more: Environment): string[] => otlpTargets(readConfig({}, { ...env, ...more })).map(({ name }) => name);
  assert.deepEqual(namesFor({}), ['otlp', 'new-relic']);
  assert.deepEqual(namesFor({ OTEL_SDK_DISABLED: 'true' }), ['new-relic']);
});

test('New Relic gets deltas of counters and histograms, each from the last delivery on', async (t) => {
  const { receiver, metrics, next, metricsOf } = await setUp(t, NEW_RELIC);
  const counter = metrics.counter({ name: 'c', help: '' }).labels();
  const histogram = metrics.histogram({ name: 'h', help: '', bounds: [1] }).labels();
  metrics.gauge({ name: 'g', help: '' }).labels().set(7);
  counter.add(3);
  histogram.observe(0.5);
  const request = await next();
  const [post] = receiver.posts.entries;
  assert.deepEqual([post?.path, post?.headers['api-key'], post?.headers['content-encoding']], ['/v1/metrics', LICENSE, 'gzip']);
  const { attributes } = request.resourceMetrics[0].resource;
  assert.equal(attributes.find(({ key }) => key === 'service.name')?.value.stringValue, 'proxy');
  const gauge = (at: number) => ({
    name: 'g', description: '', gauge: { dataPoints: [{ attributes: [], timeUnixNano: nano(at), asDouble: 7 }] },
  });
  assert.deepEqual(metricsOf(request), [
    {
      name: 'c', description: '',
      sum: {
        dataPoints: [{ attributes: [], startTimeUnixNano: nano(0), timeUnixNano: nano(60), asInt: '3' }],
        aggregationTemporality: 1, isMonotonic: true,
      },
    },
    {
      name: 'h', description: '',
      histogram: {
        dataPoints: [{
          attributes: [], startTimeUnixNano: nano(0), timeUnixNano: nano(60), count: '1', sum: 0.5,
          bucketCounts: ['1', '0'], explicitBounds: [1],
        }],
        aggregationTemporality: 1,
      },
    },
    gauge(60),
  ]);
  counter.add(2);
  const [delta, ...others] = metricsOf(await next());
  assert.deepEqual(delta?.sum?.dataPoints, [
    { attributes: [], startTimeUnixNano: nano(60), timeUnixNano: nano(120), asInt: '2' },
  ]);
  assert.deepEqual(others, [gauge(120)], 'a series that did not grow is omitted');
});

test('deltas that New Relic did not take are part of the next request', async (t) => {
  const { receiver, clock, metrics, metricsOf } = await setUp(t, NEW_RELIC);
  const counter = metrics.counter({ name: 'c', help: '' }).labels();
  receiver.replies.push({ status: 503 });
  counter.add(3);
  await clock.advance(60_000);
  while (!clock.pending.includes(30_000)) await new Promise(setImmediate);
  counter.add(1);
  await clock.advance(30_000);
  const [, second] = await receiver.posts.several(2);
  const [delta] = metricsOf(JSON.parse(second?.text ?? '') as Request);
  assert.deepEqual(delta?.sum?.dataPoints, [
    { attributes: [], startTimeUnixNano: nano(0), timeUnixNano: nano(90), asInt: '4' },
  ]);
});

test('the strict parser of this test refuses what OTLP does not have', () => {
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
