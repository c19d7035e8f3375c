import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dogstatsdLine, LineFormat, STATSD, statsdLine, type Dialect, type Sample } from '../../lib/telemetry/export/lines.ts';
import { parseDatadogAddress, parseReceiverAddress } from '../../lib/telemetry/export/receiver-address.ts';
import { framed } from '../../lib/telemetry/export/sockets.ts';
import { MetricsRegistry } from '../../lib/telemetry/metrics/registry.ts';

const LABELS = ['api_version', 'handler_name', 'role_name', 'response_code', 'request_path'];
const REQUEST: Sample = {
  name: 'metadataproxy.http_request',
  kind: 'count',
  value: 1,
  labelNames: LABELS,
  labels: ['latest', 'iam-info-handler', '', '200', '/latest/meta-data/iam/info'],
};
const gauge = (value: number): Sample => ({ ...REQUEST, name: 'metadataproxy.aws_response_time', kind: 'gauge', value });
const labelled = (value: string): Sample => ({ ...REQUEST, labelNames: ['a', 'b'], labels: [value, 'z'] });

// The lines

test('statsd: the values of labels are parts of the name, in order, without those that are not set', () => {
  assert.equal(
    statsdLine(REQUEST),
    'metadataproxy.http_request.latest.iam-info-handler.200./latest/meta-data/iam/info:1.000000|c\n',
  );
});

test('statsd: values have six decimals', () => {
  for (const [value, text] of [[0, '0.000000'], [3_000_000, '3000000.000000'], [0.1234567, '0.123457']] as const) {
    assert.ok(statsdLine(gauge(value)).endsWith(`:${text}|g\n`), statsdLine(gauge(value)));
  }
});

test('statsd: a gauge below zero is set to zero first, as a sign would mean a change', () => {
  const line = { ...gauge(-2.5), labels: [], labelNames: [] };
  assert.equal(statsdLine(line), 'metadataproxy.aws_response_time:0.000000|g\nmetadataproxy.aws_response_time:-2.500000|g\n');
});

test('DogStatsD: labels are tags, without those that are not set, and whole numbers have no decimals', () => {
  assert.equal(
    dogstatsdLine(REQUEST),
    'metadataproxy.http_request:1|c|#api_version:latest,handler_name:iam-info-handler,response_code:200,' +
      'request_path:/latest/meta-data/iam/info\n',
  );
  assert.equal(dogstatsdLine({ ...gauge(-0.25), labels: [] }), 'metadataproxy.aws_response_time:-0.250000|g\n');
});

const FORGERIES = [
  'x\nforged:1|c', 'x\r\nforged:1|c', 'x:5|g', 'x|c|#admin:1', 'x|@0.001', 'x,role_name:admin', 'a b', 'x\u2028forged:1|c',
  'x\u0000y', 'x\u0085y', 'a\u00a0b', '#',
];
for (const text of FORGERIES) {
  test(`${JSON.stringify(text)} in a label forges neither line, value, rate nor tag`, () => {
    assert.match(statsdLine(labelled(text)), /^metadataproxy\.http_request\.[^\s:;|@#,\p{Cc}]+\.z:1\.000000\|c\n$/u);
    assert.match(dogstatsdLine(labelled(text)), /^metadataproxy\.http_request:1\|c\|#a:[^\s:|@#,\p{Cc}]+,b:z\n$/u);
  });
}

test('";" in a label forges no tag of statsd', () => {
  assert.match(statsdLine(labelled('x;role=admin')), /\.x_role=admin\.z:/);
});

test("what would end a tag is replaced in a label's name, too", () => {
  assert.equal(dogstatsdLine({ ...REQUEST, labelNames: ['la:b|e,l'], labels: ['x'] }), 'metadataproxy.http_request:1|c|#la_b_e_l:x\n');
});

test('over a stream a packet follows its length in 4 bytes, little-endian', () => {
  assert.deepEqual(framed('é|'), Buffer.from([3, 0, 0, 0, 0xc3, 0xa9, 0x7c]));
  assert.deepEqual(framed('x'.repeat(0x1234)).subarray(0, 5), Buffer.from([0x34, 0x12, 0, 0, 0x78]));
});

// What is exported

/** What each round exports, as lines. Rounds are committed unless the test says otherwise. */
function rounds() {
  const metrics = new MetricsRegistry();
  const format = new LineFormat({ ...STATSD, maxPacketLength: 100_000 });
  const round = (isDelivered = true): string[] => {
    let text = '';
    for (const chunk of format.chunks(metrics.collect())) {
      text += chunk.body;
      if (isDelivered) chunk.commit();
    }
    return text.split('\n').slice(0, -1);
  };
  return { metrics, round };
}

test('a counter is exported when it grew, with its growth since the last delivery', () => {
  const { metrics, round } = rounds();
  const requests = metrics.counter({ name: 'requests', help: '', labels: ['code'] });
  requests.labels(['200']).add(3);
  requests.labels(['404']);
  assert.deepEqual(round(false), ['requests.200:3.000000|c']);
  assert.deepEqual(round(), ['requests.200:3.000000|c'], 'what was not delivered is part of the next round');
  assert.deepEqual(round(), []);
  requests.labels(['200']).add(2);
  requests.labels(['404']).add();
  assert.deepEqual(round(), ['requests.200:2.000000|c', 'requests.404:1.000000|c']);
});

test('a gauge is exported in every round, if it has a value', () => {
  const { metrics, round } = rounds();
  const gauges = metrics.gauge({ name: 'known', help: '', labels: ['n'] });
  gauges.labels(['a']).set(7);
  gauges.labels(['b']).set(NaN);
  for (const _ of [1, 2]) assert.deepEqual(round(), ['known.a:7.000000|g']);
});

test('a histogram is exported as count, sum and quantiles of what was observed since the last delivery', () => {
  const { metrics, round } = rounds();
  const histogram = metrics.histogram({ name: 'took', help: '', bounds: [1, 2, 4] }).labels();
  const values = (lines: string[]) => lines.map((line) => /^(.*):(.*)\|(.)$/.exec(line)?.slice(1)).map(([name, value, kind] = []) =>
    [name, Number(value), kind]);
  assert.deepEqual(round(), []);
  for (let n = 0; n < 100; n += 1) histogram.observe(3);
  const hundred = [
    ['took.count', 100, 'c'], ['took.sum', 300, 'c'],
    ['took.p50', 3, 'g'], ['took.p95', 3.9, 'g'], ['took.p99', 3.98, 'g'],
  ];
  assert.deepEqual(values(round(false)), hundred);
  assert.deepEqual(values(round()), hundred);
  histogram.observe(0.5);
  assert.deepEqual(values(round()), [
    ['took.count', 1, 'c'], ['took.sum', 0.5, 'c'],
    ['took.p50', 0.5, 'g'], ['took.p95', 0.95, 'g'], ['took.p99', 0.99, 'g'],
  ]);
});

// Packets

/** The packets of some gauges, whose lines are the given ones: the lines of one gauge are an array. */
function packed(groups: readonly (readonly string[])[], maxPacketLength: number): { packets: string[]; dropped: number } {
  const metrics = new MetricsRegistry();
  const gauges = metrics.gauge({ name: 'g', help: '', labels: ['group'] });
  for (const index of groups.keys()) gauges.labels([String(index)]).set(1);
  const dialect: Dialect = { line: ({ labels: [group = ''] }) => groups[Number(group)]?.join('') ?? '', maxPacketLength };
  const chunks = [...new LineFormat(dialect).chunks(metrics.collect())];
  return {
    packets: chunks.map(({ body }) => body).filter((body) => body !== ''),
    dropped: chunks.reduce((sum, { body, points }) => sum + (body === '' ? points : 0), 0),
  };
}

const line = (bytes: number, letter = 'x'): string => `${letter.repeat(bytes - 1)}\n`;

test('a packet is filled to the last byte, and not beyond', () => {
  const [a, b] = [line(700, 'a'), line(700, 'b')];
  assert.deepEqual(packed([[a], [b]], 1400).packets, [a + b]);
  assert.deepEqual(packed([[a], [b]], 1399).packets, [a, b]);
  assert.deepEqual(packed([[a], [b], ['c\n']], 1400).packets, [a + b, 'c\n']);
  assert.deepEqual(packed([], 1400), { packets: [], dropped: 0 });
});

test('bytes count, not characters', () => {
  const [a, b] = ['é'.repeat(350), 'ü'.repeat(350)];
  assert.deepEqual(packed([[a], [b]], 1399).packets, [a, b]);
});

test('a line that is longer than a packet is alone in its own, and one beyond 8 kB is dropped', () => {
  const [long, longest, tooLong] = [line(1401), line(8192), line(8193)];
  assert.deepEqual(packed([['a\n'], [long], ['b\n'], [longest], [tooLong], ['c\n']], 1400), {
    packets: ['a\n', long, 'b\n', longest, 'c\n'],
    dropped: 1,
  });
});

test('a counter whose line is too long is dropped once', () => {
  const { metrics } = rounds();
  metrics.counter({ name: 'c', help: '', labels: ['l'] }).labels(['x'.repeat(9_000)]).add(3);
  const format = new LineFormat(STATSD);
  const [chunk, ...others] = format.chunks(metrics.collect());
  assert.deepEqual([chunk?.body, chunk?.points, others], ['', 1, []]);
  chunk?.commit();
  assert.deepEqual([...format.chunks(metrics.collect())], []);
});

test('the lines of a histogram share a packet, and what was not delivered is exported again', () => {
  const metrics = new MetricsRegistry();
  const family = metrics.histogram({ name: 'h'.repeat(40), help: '', bounds: [1], labels: ['l'] });
  for (let n = 0; n < 10; n += 1) family.labels([String(n)]).observe(1);
  const format = new LineFormat({ ...STATSD, maxPacketLength: 400 });
  const chunks = [...format.chunks(metrics.collect())];
  for (const { body, points } of chunks) assert.deepEqual([points, body.match(/\n/g)?.length], [5, 5]);
  assert.equal(chunks.length, 10);
  for (const chunk of chunks.slice(0, 3)) chunk.commit();
  assert.deepEqual([...format.chunks(metrics.collect())].map(({ body }) => body), chunks.slice(3).map(({ body }) => body));
});

// Addresses

test('an address is a host and a port', () => {
  assert.deepEqual(parseReceiverAddress('127.0.0.1:8125'), { host: '127.0.0.1', port: 8125 });
  assert.deepEqual(parseReceiverAddress('stats_d.internal:1'), { host: 'stats_d.internal', port: 1 });
  assert.deepEqual(parseReceiverAddress('[::1]:65535'), { host: '::1', port: 65_535 });
});

test("Datadog's may be the path of a socket", () => {
  for (const scheme of ['unix', 'unixstream']) {
    assert.deepEqual(parseDatadogAddress(`${scheme}:///run/dsd.socket`), { path: '/run/dsd.socket' });
  }
  assert.deepEqual(parseDatadogAddress('agent:8125'), { host: 'agent', port: 8125 });
});
