import type { Deltas } from './deltas.ts';
import { Counter, Gauge, quantile, type MetricsRegistry } from '../metrics/registry.ts';

/** One figure, as every kind of statsd knows it. */
export interface Sample {
  /** Of the family, or of what is told of a histogram: `name.p95`. */
  readonly name: string;
  /** A count is what was added since it was last told. */
  readonly kind: 'count' | 'gauge';
  readonly value: number;
  readonly labelNames: readonly string[];
  /** In the order of their names; '' where a label does not apply. */
  readonly labels: readonly string[];
}

const QUANTILES = [['p50', 0.5], ['p95', 0.95], ['p99', 0.99]] as const;

/**
 * What there is to tell, the samples of one series at a time. A series is looked at when it is asked for, so what is
 * not asked for waits in the registry.
 *
 * Counters and histograms are told when they grew. Gauges are told each time: datagrams get lost, a receiver may have
 * started anew, and Datadog's agent always, statsite by default and statsd with `deleteGauges` forget a gauge that they
 * are not told of.
 */
export function* samples(metrics: MetricsRegistry, deltas: Deltas): Generator<readonly Sample[]> {
  for (const family of metrics.collect()) {
    const { name, labelNames } = family;
    for (const series of family.series) {
      const { labels } = series;
      const sample = (kind: Sample['kind'], value: number, suffix = ''): Sample =>
        ({ name: name + suffix, kind, value, labelNames, labels });
      if (series instanceof Counter) {
        const increase = deltas.ofCounter(series);
        if (increase > 0) yield [sample('count', increase)];
      } else if (series instanceof Gauge) {
        // What is not a number yet has no form that statsd knows.
        if (Number.isFinite(series.value)) yield [sample('gauge', series.value)];
      } else {
        const { counts, sum } = deltas.ofHistogram(series);
        const count = counts.reduce((total, one) => total + one, 0);
        if (count === 0) continue;
        yield [
          sample('count', count, '.count'),
          sample('count', sum, '.sum'),
          ...QUANTILES.map(([suffix, q]) => sample('gauge', quantile(series.bounds, counts, q), `.${suffix}`)),
        ];
      }
    }
  }
}
