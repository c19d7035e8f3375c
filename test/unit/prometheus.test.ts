import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MetricsRegistry } from '../../lib/telemetry/metrics/registry.ts';
import { exposition, prometheusName } from '../../lib/telemetry/metrics/prometheus.ts';

const OPEN = 'application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5';

function someMetrics(): MetricsRegistry {
  const metrics = new MetricsRegistry();
  metrics.counter({ name: 'proxy.http_request', help: 'Requests', labels: ['code', 'role.name'] }).labels(['200', '']).add(2);
  metrics.counter({ name: 'proxy.calls_total', help: 'Calls' }).labels().add();
  metrics.gauge({ name: 'proxy.memory_bytes', help: 'Memory' }).labels().set(1.5);
  metrics.histogram({ name: 'proxy.seconds', help: 'Time', labels: ['a'], bounds: [0.1, 1] }).labels(['x']).observe(0.5);
  metrics.counter({ name: 'proxy.unused_total', help: 'Never' });
  return metrics;
}

test('Prometheus gets its text format: names with underscores, labels that apply, buckets that add up', () => {
  const { type, text } = exposition(someMetrics().collect(), '*/*');
  assert.equal(type, 'text/plain; version=0.0.4; charset=utf-8');
  assert.deepEqual(text.split('\n'), [
    '# HELP proxy_http_request Requests.',
    '# TYPE proxy_http_request counter',
    'proxy_http_request{code="200"} 2',
    '# HELP proxy_calls_total Calls.',
    '# TYPE proxy_calls_total counter',
    'proxy_calls_total 1',
    '# HELP proxy_memory_bytes Memory.',
    '# TYPE proxy_memory_bytes gauge',
    'proxy_memory_bytes 1.5',
    '# HELP proxy_seconds Time.',
    '# TYPE proxy_seconds histogram',
    'proxy_seconds_bucket{a="x",le="0.1"} 0',
    'proxy_seconds_bucket{a="x",le="1"} 1',
    'proxy_seconds_bucket{a="x",le="+Inf"} 1',
    'proxy_seconds_sum{a="x"} 0.5',
    'proxy_seconds_count{a="x"} 1',
    '',
  ]);
});

test('OpenMetrics is for those who accept it: counters without _total in their names, an older name as it was', () => {
  const { type, text } = exposition(someMetrics().collect(), OPEN);
  assert.equal(type, 'application/openmetrics-text; version=1.0.0; charset=utf-8');
  const lines = text.split('\n');
  assert.ok(lines.includes('# TYPE proxy_calls counter') && lines.includes('proxy_calls_total 1'));
  assert.ok(lines.includes('# TYPE proxy_http_request unknown') && lines.includes('proxy_http_request{code="200"} 2'));
  assert.deepEqual(lines.slice(-2), ['# EOF', '']);
});

test('a label value forges no line', () => {
  const metrics = new MetricsRegistry();
  metrics.counter({ name: 'c', help: 'C', labels: ['v'] }).labels(['a"b\\c\nd 1']).add();
  assert.match(exposition(metrics.collect()).text, /^c\{v="a\\"b\\\\c\\nd 1"\} 1$/m);
});

test('what no name may have becomes an underscore', () => {
  assert.equal(prometheusName('container.com.example/team-1'), 'container_com_example_team_1');
  assert.equal(prometheusName('1st'), '_1st');
});
