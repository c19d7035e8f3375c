/** Caches the result of a function. It drops all results when it is full, which costs less than tracking their order. */
export class Memo<Key, Value> {
  readonly #limit: number;
  readonly #make: (key: Key) => Value;
  readonly #known = new Map<Key, Value>();

  /** @param limit the maximum number of results */
  constructor(limit: number, make: (key: Key) => Value) {
    this.#limit = limit;
    this.#make = make;
  }

  /** Throws what `make` throws; an error is not cached. */
  of(key: Key): Value {
    let value = this.#known.get(key);
    if (value === undefined) {
      value = this.#make(key);
      if (this.#known.size >= this.#limit) this.#known.clear();
      this.#known.set(key, value);
    }
    return value;
  }
}
