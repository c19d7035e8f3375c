/** Something that happens at a moment; `what` is undefined once it has been taken back. */
interface Entry<T> {
  readonly at: number;
  /** Of two at the same moment the one that was added first comes first. */
  readonly order: number;
  what: T | undefined;
}

/** What is to happen, the earliest first: a binary heap, for a fleet has a timer for each of a million things. */
export class EventQueue<T> {
  readonly #heap: Entry<T>[] = [];
  #added = 0;

  /** @returns a function that takes it back */
  add(at: number, what: T): () => void {
    const entry: Entry<T> = { at, order: this.#added++, what };
    this.#rise(this.#heap.push(entry) - 1, entry);
    return () => {
      entry.what = undefined;
    };
  }

  /** The earliest that is due at `until` or before, and leaves the queue; undefined if there is none. */
  take(until: number): { readonly at: number; readonly what: T } | undefined {
    for (let first = this.#heap[0]; first !== undefined && first.at <= until; first = this.#heap[0]) {
      const last = this.#heap.pop();
      if (last !== undefined && last !== first) this.#sink(last);
      const { at, what } = first;
      if (what !== undefined) return { at, what };
    }
    return undefined;
  }

  #rise(index: number, entry: Entry<T>): void {
    const heap = this.#heap;
    let at = index;
    while (at > 0) {
      const above = (at - 1) >> 1;
      const parent = heap[above];
      if (parent === undefined || !isBefore(entry, parent)) break;
      heap[at] = parent;
      at = above;
    }
    heap[at] = entry;
  }

  /** Puts the entry in the place of the first. */
  #sink(entry: Entry<T>): void {
    const heap = this.#heap;
    let at = 0;
    for (;;) {
      const left = 2 * at + 1;
      const [one, other] = [heap[left], heap[left + 1]];
      if (one === undefined) break;
      const [below, child] = other !== undefined && isBefore(other, one) ? [left + 1, other] : [left, one];
      if (!isBefore(child, entry)) break;
      heap[at] = child;
      at = below;
    }
    heap[at] = entry;
  }
}

function isBefore<T>(one: Entry<T>, other: Entry<T>): boolean {
  return one.at < other.at || (one.at === other.at && one.order < other.order);
}
