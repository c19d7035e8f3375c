/**
 * What is counted and measured, for any number of backends to read. A family is one metric; its series are the
 * combinations of label values that were seen, each made once, so that counting a request allocates nothing.
 */

/** Beyond it the series that were used the longest ago make room: some label values come from whoever asks. */
const MAX_SERIES = 2_000;
/** How much room is made at once, so that a flood of new values does not look through all of them each time. */
const ROOM = MAX_SERIES / 10;

/** One combination of label values. */
export interface Series {
  /** In the order of the family's label names; '' where a label does not apply. */
  readonly labels: readonly string[];
}

/** Only ever grows. */
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
  /** Upper bounds, ascending; what is beyond the last has a bucket of its own. */
  readonly bounds: readonly number[];
  /** How many were in each bucket alone; one more than there are bounds. */
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

/** From the label values, one after the other, to their series. */
class Branch<S extends Series> {
  readonly next = new Map<string, Branch<S>>();
  leaf: Leaf<S> | undefined;
}

interface Leaf<S extends Series> {
  readonly series: S;
  /** Greater for one that was used later. */
  used: number;
}

export interface FamilyOptions {
  /** Parts with dots between, as statsd writes them: `metadataproxy.http_request`. */
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
   * The series of these label values. Ask again for each use: one that was not asked for long is forgotten when there
   * are too many.
   *
   * @param values as many as there are label names; copied, so that the caller may use the array again
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

  /** Forgets every series: for gauges of things that come and go, which are all set anew when they are read. */
  clear(): void {
    this.#root = new Branch();
    this.#leaves = [];
  }

  #add(leaf: Leaf<S>): Leaf<S> {
    if (this.#leaves.length >= MAX_SERIES) {
      const kept = this.#leaves.toSorted((a, b) => b.used - a.used).slice(0, MAX_SERIES - ROOM);
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

/** Every metric of the program. */
export class MetricsRegistry {
  readonly #families: Family[] = [];
  readonly #collectors: (() => void)[] = [];

  counter(options: FamilyOptions): Family<Counter> {
    return this.#keep(new Family(options, 'counter', (labels) => new Counter(labels)));
  }

  gauge(options: FamilyOptions): Family<Gauge> {
    return this.#keep(new Family(options, 'gauge', (labels) => new Gauge(labels)));
  }

  /** @param options.bounds the upper bounds of its buckets, ascending, without infinity */
  histogram(options: FamilyOptions & { readonly bounds: readonly number[] }): Family<Histogram> {
    return this.#keep(new Family(options, 'histogram', (labels) => new Histogram(labels, options.bounds)));
  }

  /** Registers what sets the gauges of things that are only looked at when somebody reads. */
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

/**
 * What a histogram says of a quantile: a straight line is assumed within a bucket, and what is beyond the last bound is
 * told as that bound.
 *
 * @param counts as in a histogram
 * @param q from 0 to 1
 * @returns NaN when nothing was observed
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
