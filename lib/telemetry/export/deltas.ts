import type { Counter, Histogram } from '../metrics/registry.ts';

/** How much counters and histograms grew since they were last asked for, for a backend that is told of changes. */
export class Deltas {
  readonly #counters = new WeakMap<Counter, number>();
  readonly #histograms = new WeakMap<Histogram, { counts: number[]; sum: number }>();

  ofCounter(counter: Counter): number {
    const before = this.#counters.get(counter) ?? 0;
    this.#counters.set(counter, counter.value);
    return counter.value - before;
  }

  /** @returns the counts of its buckets as in the histogram, and the sum of what was observed */
  ofHistogram(histogram: Histogram): { counts: number[]; sum: number } {
    const { counts, sum } = histogram;
    const before = this.#histograms.get(histogram);
    this.#histograms.set(histogram, { counts: [...counts], sum });
    return {
      counts: counts.map((count, bucket) => count - (before?.counts[bucket] ?? 0)),
      sum: sum - (before?.sum ?? 0),
    };
  }
}
