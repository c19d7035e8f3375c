/** Works out what belongs to a key once. Whoever comes with ever new keys makes it start again. */
export class Memo<Key, Value> {
  readonly #limit: number;
  readonly #make: (key: Key) => Value;
  readonly #known = new Map<Key, Value>();

  /** @param most how many are kept */
  constructor(limit: number, make: (key: Key) => Value) {
    this.#limit = limit;
    this.#make = make;
  }

  /** Throws what `make` throws, each time anew. */
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
