import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { readConfig, type Environment } from '../../lib/config/config.ts';
import { Log } from '../../lib/log/log.ts';
import { MetricsRegistry } from '../../lib/telemetry/metrics/registry.ts';
import { newRelicUrls, startNewRelic } from '../../lib/telemetry/export/new-relic.ts';
import { Receiver } from '../support/receiver.ts';
import { ManualClock } from './helpers/manual-clock.ts';

const START = Date.parse('2026-01-01T00:00:00Z');
const LICENSE = '0123456789abcdef0123456789abcdef0123NRAL';
const COMMON = { 'service.name': 'proxy', 'host.name': 'ip-10-0-0-1', 'service.version': '1.2.3' };

interface Point {
  readonly name: string;
  readonly type: string;
  readonly value: unknown;
  readonly timestamp?: number;
  readonly attributes: Readonly<Record<string, string>>;
}

type Payload = readonly [{ readonly common: unknown; readonly metrics: readonly Point[] }];

async function setUp(t: TestContext, account?: string) {
  const receiver = await Receiver.start(t);
  receiver.always = { status: 202, body: '{"requestId":"1"}' };
  const clock = new ManualClock(START);
  const metrics = new MetricsRegistry();
  let logged = '';
  const write = (lines: string): void => void (logged += lines);
  const log = new Log({ level: 'debug', format: 'text', host: 'h', write, now: clock.now });
  const dropped: number[] = [];
  const url = new URL(receiver.url);
  const backend = startNewRelic({
    config: {
      ...readConfig({}, { NEWRELIC_LICENSE: LICENSE, NEWRELIC_APP_NAME: 'proxy', NEWRELIC_ACCOUNT_ID: account }),
      newRelicMetricUrl: url,
      newRelicEventUrl: url,
    },
    metrics, version: '1.2.3', host: 'ip-10-0-0-1', clock, log, random: () => 0,
    onDropped: (points) => dropped.push(points),
  });
  /** Lets an interval pass. */
  const pass = async (): Promise<void> => {
    while (!clock.pending.includes(60_000)) await new Promise(setImmediate);
    await clock.advance(60_000);
  };
  /** What the Metric API has been sent, all in all. */
  const metricPosts = (count: number) => receiver.posts.several(count, ({ path }) => path === '/metric/v1');
  const payload = async (count: number): Promise<Payload[0]> => {
    return (JSON.parse((await metricPosts(count)).at(-1)?.text ?? '') as Payload)[0];
  };
  return { receiver, clock, metrics, dropped, backend, pass, payload, log: () => { log.flush(); return logged; } };
}

test('counters are counts of an interval, compressed, with the key as a header', async (t) => {
  const { receiver, metrics, pass, payload } = await setUp(t);
  const family = metrics.counter({ name: 'metadataproxy.http_request', help: '', labels: ['code', 'role-name'] });
  family.labels(['200', 'app']).add(3);
  family.labels(['404', '']).add(1);
  await pass();
  assert.deepEqual(await payload(1), {
    common: { timestamp: START, 'interval.ms': 60_000, attributes: COMMON },
    metrics: [
      { name: 'metadataproxy.http_request', type: 'count', value: 3, attributes: { code: '200', role_name: 'app' } },
      { name: 'metadataproxy.http_request', type: 'count', value: 1, attributes: { code: '404' } },
    ],
  });
  const [post] = receiver.posts.entries;
  assert.equal(post?.headers['api-key'], LICENSE);
  assert.equal(post?.headers['content-encoding'], 'gzip');
  assert.equal(post?.headers['content-type'], 'application/json');
  family.labels(['200', 'app']).add(2);
  await pass();
  assert.deepEqual(await payload(2), {
    common: { timestamp: START + 60_000, 'interval.ms': 60_000, attributes: COMMON },
    metrics: [
      { name: 'metadataproxy.http_request', type: 'count', value: 2, attributes: { code: '200', role_name: 'app' } },
    ],
  });
});

test('gauges are told as they are, at the time when they were read', async (t) => {
  const { metrics, pass, payload } = await setUp(t);
  metrics.gauge({ name: 'g', help: '' }).labels().set(-1.5);
  metrics.gauge({ name: 'nothing', help: '' }).labels().set(NaN);
  await pass();
  const { metrics: points } = await payload(1);
  assert.deepEqual(points, [{ name: 'g', type: 'gauge', value: -1.5, timestamp: START + 60_000, attributes: {} }]);
});

test('histograms are summaries of an interval, whose least and most are the bounds of their buckets', async (t) => {
  const { metrics, pass, payload } = await setUp(t);
  const bounds = [0.1, 1, 10];
  const histogram = metrics.histogram({ name: 'h', help: '', bounds }).labels();
  const valueOf = async (count: number) => (await payload(count)).metrics[0]?.value;
  for (const value of [0.5, 0.5, 2]) histogram.observe(value);
  await pass();
  assert.deepEqual(await valueOf(1), { count: 3, sum: 3, min: 0.1, max: 10 });
  histogram.observe(0.25);
  await pass();
  assert.deepEqual(await valueOf(2), { count: 1, sum: 0.25, min: 0.25, max: 0.25 }, 'one alone is known exactly');
  for (const value of [50, 50]) histogram.observe(value);
  await pass();
  assert.deepEqual(await valueOf(3), { count: 2, sum: 100, min: 10, max: 50 }, 'no less than the mean at the most');
  metrics.counter({ name: 'c', help: '' }).labels().add();
  await pass();
  assert.deepEqual((await payload(4)).metrics.map(({ name }) => name), ['c'], 'what did not happen is not told');
});

test('refused credential requests are events of the account, one for each kind with how many there were', async (t) => {
  const { receiver, metrics, pass } = await setUp(t, '12345');
  const family = metrics.counter({
    name: 'metadataproxy.http_request', help: '',
    labels: ['handler_name', 'request_path', 'role_name', 'response_code', 'error_description'],
  });
  const handler = 'iam-security-crentials-for-role';
  family.labels([handler, 'a', 'app', '403', 'denied']).add(2);
  family.labels([handler, 'b', 'app', '403', 'denied']).add(1);
  family.labels([handler, 'a', 'app', '200', '']).add(9);
  family.labels(['iam-info-handler', 'a', '', '404', '']).add(4);
  family.labels(['passthrough', 'a', '', '404', '']).add(8);
  await pass();
  const post = await receiver.posts.first(({ path }) => path === '/v1/accounts/12345/events');
  assert.equal(post.headers['api-key'], LICENSE);
  assert.equal(post.headers['content-encoding'], 'gzip');
  const event = { eventType: 'MetadataproxyRefusal', timestamp: START + 60_000, ...COMMON };
  assert.deepEqual(JSON.parse(post.text), [
    {
      ...event, handler_name: handler, role_name: 'app', response_code: '403', error_description: 'denied', count: 3,
    },
    { ...event, handler_name: 'iam-info-handler', response_code: '404', count: 4 },
  ]);
  await pass();
  family.labels([handler, 'a', 'app', '403', 'denied']).add(1);
  await pass();
  const [, second] = await receiver.posts.several(2, ({ path }) => path.endsWith('/events'));
  assert.deepEqual((JSON.parse(second?.text ?? '') as { count: number }[]).map(({ count }) => count), [1]);
});

test('keys of the European region go to its hosts', () => {
  const urlsFor = (license: string, env: Environment = {}) => {
    const { metrics, events } = newRelicUrls(license, readConfig({}, env));
    return [metrics.href, events?.href];
  };
  const account = { NEWRELIC_ACCOUNT_ID: '12345' };
  assert.deepEqual(urlsFor(LICENSE, account), [
    'https://metric-api.newrelic.com/metric/v1',
    'https://insights-collector.newrelic.com/v1/accounts/12345/events',
  ]);
  assert.deepEqual(urlsFor('eu01xx6789abcdef0123456789abcdef0123NRAL', account), [
    'https://metric-api.eu.newrelic.com/metric/v1',
    'https://insights-collector.eu01.nr-data.net/v1/accounts/12345/events',
  ]);
  const hosts = { NEWRELIC_METRIC_URL: 'https://a:1', NEWRELIC_EVENT_URL: 'https://b' };
  assert.deepEqual(urlsFor(LICENSE, { ...account, ...hosts }), [
    'https://a:1/metric/v1', 'https://b/v1/accounts/12345/events',
  ]);
  assert.deepEqual(urlsFor(LICENSE, hosts), ['https://a:1/metric/v1', undefined]);
});

for (const [status, isRetryable] of [[408, true], [429, true], [500, true], [503, true], [400, false], [403, false],
  [413, false]] as const) {
  test(`an answer of ${status} is ${isRetryable ? 'tried again' : 'final'}, and the key is in no log line`, async (t) => {
    const { metrics, receiver, clock, dropped, pass, log } = await setUp(t);
    metrics.counter({ name: 'c', help: '' }).labels().add();
    receiver.replies.push({ status, body: `{"error":"${LICENSE} is no key"}` });
    await pass();
    await receiver.posts.first();
    while (isRetryable ? !clock.pending.includes(500) : dropped.length === 0) await new Promise(setImmediate);
    assert.deepEqual(dropped, isRetryable ? [] : [1]);
    assert.match(log(), /metrics cannot be sent; trying again backend=new-relic/);
    assert.doesNotMatch(log(), /NRAL/);
    if (isRetryable) await clock.advance(500);
    if (isRetryable) assert.equal((await receiver.posts.several(2)).at(1)?.text, receiver.posts.entries[0]?.text);
  });
}

test('without a license key there is no such backend', () => {
  const clock = new ManualClock();
  const log = new Log({ level: 'info', format: 'json', host: 'h', write: () => {}, now: clock.now });
  const config = readConfig({}, { NEWRELIC_APP_NAME: 'proxy' });
  const parts = { metrics: new MetricsRegistry(), version: '1', host: 'h', clock, log, random: () => 0, onDropped: () => {} };
  assert.equal(startNewRelic({ config, ...parts }), undefined);
  assert.deepEqual(clock.pending, []);
});
