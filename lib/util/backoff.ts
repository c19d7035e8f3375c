/**
 * Exponential backoff with equal jitter: uniform between half of `initial × 2^(failures − 1)` and the whole. Hosts that
 * failed together do not retry together, and no retry is immediate.
 *
 * @param failures failed attempts in a row, from 1
 * @param random uniform in [0, 1)
 * @returns milliseconds to wait
 */
export function backoff(failures: number, initial: number, max: number, random: () => number): number {
  const ceiling = Math.min(max, initial * 2 ** Math.min(failures - 1, 30));
  return ceiling * (0.5 + random() / 2);
}
