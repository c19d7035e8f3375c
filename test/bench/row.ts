import { median } from '../support/statistics.ts';

/** One row of the benchmark table. */
export interface Row {
  /** Such as "B1". */
  readonly benchmark: string;
  readonly what: string;
  /** The proxy's result and the one that it is compared with, both with units. */
  readonly proxy: string;
  readonly comparedWith: string;
  /** The median of all rounds, which the target applies to, and the minimum and maximum. */
  readonly value: number;
  readonly spread: readonly [number, number];
  readonly target: string;
  /** undefined: for comparison only, without a target. */
  readonly met: boolean | undefined;
}

export function spreadOf(values: readonly number[]): readonly [number, number] {
  return [Math.min(...values), Math.max(...values)];
}

/** A ratio of two results that were measured alternately. */
export function ratioRow(
  benchmark: string, what: string, unit: string, samples: Samples, target: { atLeast?: number; atMost?: number },
): Row {
  const ratios = samples.proxy.map((proxy, round) => proxy / (samples.baseline[round] ?? NaN));
  const value = median(ratios);
  const { atLeast, atMost } = target;
  const goal = atLeast !== undefined ? `≥ ${atLeast.toFixed(2)}` : atMost !== undefined ? `≤ ${atMost.toFixed(2)}` : '';
  return {
    benchmark, what, value, spread: spreadOf(ratios), target: goal,
    proxy: `${short(median(samples.proxy))} ${unit}`,
    comparedWith: `${short(median(samples.baseline))} ${unit}`,
    met: goal === '' ? undefined : value >= (atLeast ?? -Infinity) && value <= (atMost ?? Infinity),
  };
}

export interface Samples {
  readonly proxy: readonly number[];
  readonly baseline: readonly number[];
}

/** Measures both in each round. The order changes from round to round. */
export async function alternate(
  rounds: number, measureProxy: () => Promise<number>, measureBaseline: () => Promise<number>,
): Promise<Samples> {
  const proxy: number[] = [];
  const baseline: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    if (round % 2 === 0) proxy.push(await measureProxy());
    baseline.push(await measureBaseline());
    if (round % 2 === 1) proxy.push(await measureProxy());
  }
  return { proxy, baseline };
}

/** A ratio without a target, for comparison only. */
export function comparisonRow(benchmark: string, what: string, unit: string, samples: Samples): Row {
  return { ...ratioRow(benchmark, what, unit, samples, {}), met: undefined };
}

/** Three significant digits; from 100 on a whole number. */
export function short(value: number): string {
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en');
  return Number(value.toPrecision(3)).toString();
}
