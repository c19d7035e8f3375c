/** One line of the table. */
export interface Row {
  /** "B1" */
  readonly figure: string;
  readonly what: string;
  /** What the proxy came to, and what it is compared with, with units. */
  readonly ours: string;
  readonly against: string;
  /** The number that is judged, the median of all rounds, with the least and the most of them. */
  readonly value: number;
  readonly spread: readonly [number, number];
  readonly target: string;
  /** undefined: told for comparison only. */
  readonly met: boolean | undefined;
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

/** `fraction` (0 to 1) of the values are at most this. */
export function percentile(values: readonly number[], fraction: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? NaN;
}

export function spreadOf(values: readonly number[]): readonly [number, number] {
  return [Math.min(...values), Math.max(...values)];
}

/** A figure that is the ratio of two, measured in turns. */
export function ratioRow(
  figure: string, what: string, unit: string, turns: FairQueue, target: { atLeast?: number; atMost?: number },
): Row {
  const ratios = turns.ours.map((ours, round) => ours / (turns.theirs[round] ?? NaN));
  const value = median(ratios);
  const { atLeast, atMost } = target;
  const goal = atLeast !== undefined ? `≥ ${atLeast.toFixed(2)}` : atMost !== undefined ? `≤ ${atMost.toFixed(2)}` : '';
  return {
    figure, what, value, spread: spreadOf(ratios), target: goal,
    ours: `${short(median(turns.ours))} ${unit}`,
    against: `${short(median(turns.theirs))} ${unit}`,
    met: goal === '' ? undefined : value >= (atLeast ?? -Infinity) && value <= (atMost ?? Infinity),
  };
}

export interface FairQueue {
  readonly ours: readonly number[];
  readonly theirs: readonly number[];
}

/** Measures both in each round, each first in every other one. */
export async function inTurns(
  rounds: number, measureOurs: () => Promise<number>, measureTheirs: () => Promise<number>,
): Promise<FairQueue> {
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    if (round % 2 === 0) ours.push(await measureOurs());
    theirs.push(await measureTheirs());
    if (round % 2 === 1) ours.push(await measureOurs());
  }
  return { ours, theirs };
}

/** The same ratio for comparison only: not judged, and without a target. */
export function comparisonRow(figure: string, what: string, unit: string, turns: FairQueue): Row {
  return { ...ratioRow(figure, what, unit, turns, {}), met: undefined };
}

/** Three digits that count, and whole numbers from 100 on. */
export function short(value: number): string {
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en');
  return Number(value.toPrecision(3)).toString();
}
