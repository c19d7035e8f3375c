/**
 * Exponential backoff with full jitter: uniformly between half of and the whole of `initial × 2^(failures − 1)`, which
 * keeps hosts that failed together from coming back together and never retries at once.
 *
 * @param failures how many attempts have failed in a row, from 1
 * @param random uniform in [0, 1)
 * @returns milliseconds to wait
 */
export function backoff(failures: number, initial: number, max: number, random: () => number): number {
  const ceiling = Math.min(max, initial * 2 ** Math.min(failures - 1, 30));
  return ceiling * (0.5 + random() / 2);
}
