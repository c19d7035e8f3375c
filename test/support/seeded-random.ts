/**
 * A seeded random generator for property-based tests: a failing test prints `seed`, and the same seed repeats its cases.
 * Mulberry32 (public domain), 32 bits of state.
 */
export class SeededRandom {
  readonly seed: number;
  #state: number;

  constructor(seed: number) {
    this.seed = seed >>> 0;
    this.#state = this.seed;
  }

  /** The seed in the variable `SEED`, to repeat a test or run other cases; `fallback` if it is not set. */
  static fromEnvironment(environment: NodeJS.ProcessEnv, fallback: number): SeededRandom {
    const given = environment['SEED'];
    if (given === undefined || given === '') return new SeededRandom(fallback);
    const seed = Number(given);
    if (!Number.isInteger(seed)) throw new Error(`SEED is ${JSON.stringify(given)}, expected an integer`);
    return new SeededRandom(seed);
  }

  /** At least 0, below 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer from `min` to `max`, both included. */
  int(min: number, max: number): number {
    return min + Math.floor(this.next() * (max - min + 1));
  }

  /** True with the probability `probability` (0 to 1). */
  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** One of `items`, which must not be empty. */
  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw new Error('nothing to pick from');
    return items[this.int(0, items.length - 1)] as T;
  }

  /** `min` to `max` characters (code points) of `alphabet`. */
  string(alphabet: string, min: number, max: number): string {
    const letters = [...alphabet];
    return Array.from({ length: this.int(min, max) }, () => this.pick(letters)).join('');
  }

  /** `length` bytes of any value. */
  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.int(0, 255)));
  }

  /** The items in another order; `items` stays as it is. */
  shuffle<T>(items: readonly T[]): T[] {
    const order = items.map((item) => ({ item, rank: this.next() }));
    return order.sort((a, b) => a.rank - b.rank).map(({ item }) => item);
  }
}
