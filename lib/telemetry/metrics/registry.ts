/**
 * All metrics, for any number of exporters. A family is one metric. Each combination of label values is a series, which
 * is created once, so that counting a request allocates nothing.
 */

/** Per family. Callers choose some label values, so the least recently used series are evicted beyond this number. */
const MAX_SERIES = 2_000;
/** Evicted at once, so that a flood of new values does not sort all series each time. */
const EVICTED_SERIES = MAX_SERIES / 10;

/** One combination of label values. */
export interface Series {
  /** In the order of the family's label names; '' where a label does not apply. */
  readonly labels: readonly string[];
}

/** Never decreases. */
export class Counter implements Series {
  readonly labels: readonly string[];
  value = 0;

  constructor(labels: readonly string[]) {
    this.labels = labels;
  }

  add(amount = 1): void {
    this.value += amount;
  }
}

export class Gauge implements Series {
  readonly labels: readonly string[];
  value = 0;

  constructor(labels: readonly string[]) {
    this.labels = labels;
  }

  set(value: number): void {
    this.value = value;
  }
}

export class Histogram implements Series {
  readonly labels: readonly string[];
  /** Upper bounds, ascending. The last bucket has none. */
  readonly bounds: readonly number[];
  /** Observations per bucket, not cumulative: one bucket more than bounds. */
  readonly counts: number[];
  sum = 0;

  constructor(labels: readonly string[], bounds: readonly number[]) {
    this.labels = labels;
    this.bounds = bounds;
    this.counts = new Array<number>(bounds.length + 1).fill(0);
  }

  observe(value: number): void {
    let bucket = 0;
    while (bucket < this.bounds.length && value > (this.bounds[bucket] ?? Infinity)) bucket += 1;
    this.counts[bucket] = (this.counts[bucket] ?? 0) + 1;
    this.sum += value;
  }
}

/** A tree from one label value to the next, and from the last to the series. */
class Branch<S extends Series> {
  readonly next = new Map<string, Branch<S>>();
  leaf: Leaf<S> | undefined;
}

interface Leaf<S extends Series> {
  readonly series: S;
  /** Greater for a later use. */
  used: number;
}

export interface FamilyOptions {
  /** With dots, as in statsd: `metadataproxy.http_request`. */
  readonly name: string;
  /** One sentence without a full stop. */
  readonly help: string;
  readonly labels?: readonly string[];
}

/** One metric with all its series. */
export class Family<S extends Series = Counter | Gauge | Histogram> {
  readonly name: string;
  readonly help: string;
  readonly kind: 'counter' | 'gauge' | 'histogram';
  readonly labelNames: readonly string[];
  readonly #make: (labels: readonly string[]) => S;
  #root = new Branch<S>();
  #leaves: Leaf<S>[] = [];
  #uses = 0;

  constructor(options: FamilyOptions, kind: Family['kind'], make: (labels: readonly string[]) => S) {
    this.name = options.name;
    this.help = options.help;
    this.kind = kind;
    this.labelNames = options.labels ?? [];
    this.#make = make;
  }

  get series(): readonly S[] {
    return this.#leaves.map(({ series }) => series);
  }

  /**
   * Get the series anew for each use: the least recently used ones are evicted.
   *
   * @param values as many as label names; copied, so the caller may reuse the array
   */
  labels(values: readonly string[] = []): S {
    let branch: Branch<S> | undefined = this.#root;
    for (const value of values) {
      branch = branch.next.get(value);
      if (!branch) break;
    }
    const leaf = branch?.leaf ?? this.#add({ series: this.#make([...values]), used: 0 });
    leaf.used = this.#uses += 1;
    return leaf.series;
  }

  /** Removes every series, for gauges that are set anew whenever they are collected. */
  clear(): void {
    this.#root = new Branch();
    this.#leaves = [];
  }

  #add(leaf: Leaf<S>): Leaf<S> {
    if (this.#leaves.length >= MAX_SERIES) {
      const kept = this.#leaves.toSorted((a, b) => b.used - a.used).slice(0, MAX_SERIES - EVICTED_SERIES);
      this.clear();
      for (const one of kept) this.#add(one);
    }
    let branch = this.#root;
    for (const value of leaf.series.labels) {
      let next = branch.next.get(value);
      if (!next) branch.next.set(value, (next = new Branch()));
      branch = next;
    }
    branch.leaf = leaf;
    this.#leaves.push(leaf);
    return leaf;
  }
}

export class MetricsRegistry {
  readonly #families: Family[] = [];
  readonly #collectors: (() => void)[] = [];

  counter(options: FamilyOptions): Family<Counter> {
    return this.#keep(new Family(options, 'counter', (labels) => new Counter(labels)));
  }

  gauge(options: FamilyOptions): Family<Gauge> {
    return this.#keep(new Family(options, 'gauge', (labels) => new Gauge(labels)));
  }

  /** @param options.bounds upper bounds of the buckets, ascending, without infinity */
  histogram(options: FamilyOptions & { readonly bounds: readonly number[] }): Family<Histogram> {
    return this.#keep(new Family(options, 'histogram', (labels) => new Histogram(labels, options.bounds)));
  }

  /** Registers a function that sets gauges whenever the metrics are collected. */
  onCollect(set: () => void): void {
    this.#collectors.push(set);
  }

  collect(): readonly Family[] {
    for (const set of this.#collectors) set();
    return this.#families;
  }

  #keep<S extends Counter | Gauge | Histogram>(family: Family<S>): Family<S> {
    this.#families.push(family);
    return family;
  }
}

/** What a counter, or a histogram's sum and buckets, had reached at some time. */
interface Reading {
  readonly time: number;
  readonly value: number;
  readonly counts: readonly number[];
}

/** How much a counter or a histogram grew since the last commit, or since it was created. */
export interface Delta {
  readonly series: Counter | Histogram;
  readonly reading: Reading;
  /** The time of the committed reading; undefined before the first commit. */
  readonly since: number | undefined;
  /** The growth of a counter, or of a histogram's sum. */
  readonly value: number;
  /** The growth of each bucket; empty for a counter. */
  readonly counts: readonly number[];
  /** Observations of a histogram; 0 for a counter. */
  readonly count: number;
}

/** What an exporter of deltas has delivered. */
export class Deltas {
  readonly #committed = new WeakMap<Series, Reading>();

  read(series: Counter | Histogram, time = 0): Delta {
    const isCounter = series instanceof Counter;
    const reading = isCounter
      ? { time, value: series.value, counts: [] }
      : { time, value: series.sum, counts: [...series.counts] };
    const before = this.#committed.get(series);
    const counts = reading.counts.map((count, bucket) => count - (before?.counts[bucket] ?? 0));
    return {
      series,
      reading,
      since: before?.time,
      value: reading.value - (before?.value ?? 0),
      counts,
      count: counts.reduce((sum, count) => sum + count, 0),
    };
  }

  /** After a delivery: the next deltas start at these readings. */
  commit(deltas: Iterable<Delta>): void {
    for (const { series, reading } of deltas) this.#committed.set(series, reading);
  }
}

/**
 * Estimates a quantile from a histogram: linear within a bucket; beyond the last bound it is that bound.
 *
 * @param counts per bucket, as in Histogram
 * @param q from 0 to 1
 * @returns NaN without observations
 */
export function quantile(bounds: readonly number[], counts: readonly number[], q: number): number {
  const wanted = q * counts.reduce((sum, count) => sum + count, 0);
  let below = 0;
  for (const [bucket, count] of counts.entries()) {
    if (count === 0 || below + count < wanted) {
      below += count;
      continue;
    }
    const from = bounds[bucket - 1] ?? 0;
    const to = bounds[bucket] ?? from;
    return from + ((to - from) * (wanted - below)) / count;
  }
  return NaN;
}
