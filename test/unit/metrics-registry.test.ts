import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Deltas, MetricsRegistry, quantile } from '../../lib/telemetry/metrics/registry.ts';

test('each combination of label values is one series', () => {
  const requests = new MetricsRegistry().counter({ name: 'requests', help: 'Requests', labels: ['role', 'code'] });
  const values = ['app', '200'];
  requests.labels(values).add();
  values[0] = 'web'; // The caller may use its array again.
  requests.labels(values).add(2);
  requests.labels(['app', '200']).add();
  assert.deepEqual(
    requests.series.map(({ labels, value }) => [labels, value]),
    [
      [['app', '200'], 2],
      [['web', '200'], 2],
    ],
  );
});

test('a flood of label values keeps at most 2,000 series, the recently used ones', () => {
  const requests = new MetricsRegistry().counter({ name: 'requests', help: 'Requests', labels: ['header'] });
  for (let index = 0; index < 10_000; index += 1) {
    requests.labels([`hostile-${index}`]).add();
    requests.labels(['honest']).add();
    assert.ok(requests.series.length <= 2_000);
  }
  assert.equal(requests.labels(['honest']).value, 10_000);
  assert.equal(requests.labels(['hostile-9999']).value, 1, 'the newest are there');
  assert.equal(requests.labels(['hostile-0']).value, 0, 'the oldest are not');
});

test('an observation counts in the first bucket whose bound is not below it, or in the last', () => {
  const durations = new MetricsRegistry().histogram({ name: 'durations', help: 'Durations', bounds: [1, 2] }).labels();
  for (const value of [0, 1, 1.5, 2, 3]) durations.observe(value);
  assert.deepEqual(durations.counts, [2, 2, 1]);
  assert.equal(durations.sum, 7.5);
});

test('collectors set gauges whenever the metrics are collected', () => {
  const metrics = new MetricsRegistry();
  const left = metrics.gauge({ name: 'left', help: 'Left', labels: ['role'] });
  let roles = ['a', 'b'];
  metrics.onCollect(() => {
    left.clear();
    for (const role of roles) left.labels([role]).set(role.length);
  });
  assert.deepEqual(metrics.collect()[0]?.series.map(({ labels }) => labels), [['a'], ['b']]);
  roles = ['b'];
  assert.deepEqual(metrics.collect()[0]?.series.map(({ labels }) => labels), [['b']]);
});

test('a quantile is estimated within its bucket', () => {
  assert.equal(quantile([1, 2, 4], [0, 10, 0, 0], 0.5), 1.5);
  assert.equal(quantile([1, 2, 4], [5, 0, 5, 0], 0.9), 3.6);
  assert.equal(quantile([1, 2, 4], [0, 0, 0, 3], 0.5), 4, 'beyond the last bound it is that bound');
  assert.equal(quantile([1, 2, 4], [1, 0, 0, 0], 1), 1);
  assert.equal(quantile([1, 2, 4], [0, 0, 0, 0], 0.5), NaN);
});

test('a delta is the growth since the last commit', () => {
  const metrics = new MetricsRegistry();
  const counter = metrics.counter({ name: 'c', help: 'C' }).labels();
  const histogram = metrics.histogram({ name: 'h', help: 'H', bounds: [1] }).labels();
  const deltas = new Deltas();
  counter.add(3);
  histogram.observe(2);
  const [first, second] = [deltas.read(counter, 10), deltas.read(histogram, 10)];
  assert.deepEqual([first.value, first.since], [3, undefined]);
  assert.deepEqual([second.counts, second.count, second.value], [[0, 1], 1, 2]);
  counter.add();
  assert.equal(deltas.read(counter).value, 4, 'nothing is committed yet');
  deltas.commit([first, second]);
  assert.deepEqual([deltas.read(counter).value, deltas.read(counter).since], [1, 10], 'what came after the reading stays');
  assert.deepEqual([deltas.read(histogram).counts, deltas.read(histogram).value], [[0, 0], 0]);
});
