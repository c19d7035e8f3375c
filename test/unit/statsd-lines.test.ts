import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dogstatsdLine, framed } from '../../lib/telemetry/export/dogstatsd.ts';
import { Deltas } from '../../lib/telemetry/export/deltas.ts';
import { MetricsRegistry } from '../../lib/telemetry/metrics/registry.ts';
import { packets } from '../../lib/telemetry/export/packets.ts';
import { parseDatadogAddress, parseReceiverAddress } from '../../lib/telemetry/export/receiver-address.ts';
import { samples, type Sample } from '../../lib/telemetry/export/samples.ts';
import { statsdLine } from '../../lib/telemetry/export/statsd.ts';

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

// What is told

test('a counter is told when it grew, and by how much', () => {
  const [metrics, deltas] = [new MetricsRegistry(), new Deltas()];
  const requests = metrics.counter({ name: 'requests', help: '', labels: ['code'] });
  requests.labels(['200']).add(3);
  requests.labels(['404']);
  const told = (): unknown => [...samples(metrics, deltas)].flat().map(({ labels, value }) => [labels[0], value]);
  assert.deepEqual(told(), [['200', 3]]);
  assert.deepEqual(told(), []);
  requests.labels(['200']).add(2);
  requests.labels(['404']).add();
  assert.deepEqual(told(), [['200', 2], ['404', 1]]);
});

test('a gauge is told each time, if it has a value', () => {
  const [metrics, deltas] = [new MetricsRegistry(), new Deltas()];
  const gauges = metrics.gauge({ name: 'known', help: '', labels: ['n'] });
  gauges.labels(['a']).set(7);
  gauges.labels(['b']).set(NaN);
  for (const _ of [1, 2]) {
    assert.deepEqual([...samples(metrics, deltas)].flat().map(({ kind, value }) => [kind, value]), [['gauge', 7]]);
  }
});

test('a histogram is told as count, sum and quantiles of what was observed since it was last told', () => {
  const [metrics, deltas] = [new MetricsRegistry(), new Deltas()];
  const histogram = metrics.histogram({ name: 'took', help: '', bounds: [1, 2, 4] }).labels();
  const told = (): unknown => [...samples(metrics, deltas)].flat().map(({ name, kind, value }) => [name, kind, value]);
  assert.deepEqual(told(), []);
  for (let n = 0; n < 100; n += 1) histogram.observe(3);
  assert.deepEqual(told(), [
    ['took.count', 'count', 100], ['took.sum', 'count', 300],
    ['took.p50', 'gauge', 3], ['took.p95', 'gauge', 3.9], ['took.p99', 'gauge', 3.98],
  ]);
  histogram.observe(0.5);
  assert.deepEqual(told(), [
    ['took.count', 'count', 1], ['took.sum', 'count', 0.5],
    ['took.p50', 'gauge', 0.5], ['took.p95', 'gauge', 0.95], ['took.p99', 'gauge', 0.99],
  ]);
});

// Packets

interface Packed {
  readonly packets: readonly string[];
  readonly dropped: number;
}

function packed(groups: readonly (readonly string[])[], most: number, wanted = Infinity): Packed {
  const seen: string[] = [];
  let dropped = 0;
  for (const { text } of packets(groups, most, (lines) => (dropped += lines))) {
    seen.push(text);
    if (seen.length === wanted) break;
  }
  return { packets: seen, dropped };
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
  assert.deepEqual(packed([[a, b]], 1399).packets, [a, b]);
});

test('a line that is longer than a packet is alone in its own, and one beyond 8 kB is dropped', () => {
  const [long, longest, tooLong] = [line(1401), line(8192), line(8193)];
  assert.deepEqual(packed([['a\n', long, 'b\n'], [longest, tooLong, 'c\n']], 1400), {
    packets: ['a\n', long, 'b\n', longest, 'c\n'],
    dropped: 1,
  });
});

test('what was taken but never came to be a packet is told as dropped', () => {
  const groups = [[line(60), line(60), line(60)], [line(60)], [line(60)]];
  assert.deepEqual(packed(groups, 60, 1).dropped, 2, 'the rest of the group that was read');
  assert.deepEqual(packed(groups, 60, 3).dropped, 1);
  assert.deepEqual(packed(groups, 60).dropped, 0);
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
