/** An event in the queue. `what` is undefined once the event is cancelled. */
interface Entry<T> {
  readonly at: number;
  /** Orders events of the same time by when they were added. */
  readonly order: number;
  what: T | undefined;
}

/** Events, the earliest first. A binary heap, because a fleet has a million timers. */
export class EventQueue<T> {
  readonly #heap: Entry<T>[] = [];
  #added = 0;

  /** @returns a function that cancels the event */
  add(at: number, what: T): () => void {
    const entry: Entry<T> = { at, order: this.#added++, what };
    this.#rise(this.#heap.push(entry) - 1, entry);
    return () => {
      entry.what = undefined;
    };
  }

  /** Removes and returns the earliest event that is due at `until` or before; undefined if there is none. */
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

  /** Replaces the first entry by this one, and restores the heap order. */
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
