import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Deltas } from '../../lib/telemetry/export/deltas.ts';
import { MetricsRegistry, quantile } from '../../lib/telemetry/metrics/registry.ts';

test('the same label values are the same series, others are others', () => {
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

test('a flood of label values keeps no more than 2,000 series, and those that are in use', () => {
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

test('an observation is in the bucket whose bound it reaches, or beyond all', () => {
  const durations = new MetricsRegistry().histogram({ name: 'durations', help: 'Durations', bounds: [1, 2] }).labels();
  for (const value of [0, 1, 1.5, 2, 3]) durations.observe(value);
  assert.deepEqual(durations.counts, [2, 2, 1]);
  assert.equal(durations.sum, 7.5);
});

test('gauges of things that come and go are set when somebody reads', () => {
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
  assert.equal(quantile([1, 2, 4], [0, 0, 0, 3], 0.5), 4, 'beyond the last bound there is nothing to go by');
  assert.equal(quantile([1, 2, 4], [1, 0, 0, 0], 1), 1);
  assert.equal(quantile([1, 2, 4], [0, 0, 0, 0], 0.5), NaN);
});

test('increases are told once', () => {
  const metrics = new MetricsRegistry();
  const counter = metrics.counter({ name: 'c', help: 'C' }).labels();
  const histogram = metrics.histogram({ name: 'h', help: 'H', bounds: [1] }).labels();
  const deltas = new Deltas();
  counter.add(3);
  histogram.observe(2);
  assert.equal(deltas.ofCounter(counter), 3);
  assert.deepEqual(deltas.ofHistogram(histogram), { counts: [0, 1], sum: 2 });
  counter.add();
  assert.equal(deltas.ofCounter(counter), 1);
  assert.equal(deltas.ofCounter(counter), 0);
  assert.deepEqual(deltas.ofHistogram(histogram), { counts: [0, 0], sum: 0 });
});
