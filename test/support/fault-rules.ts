/** What a test holds of a fault that it asked for. */
export interface Fault {
  /** How often the fault has struck. */
  readonly hits: number;
  /** Ends the fault; what it holds or delays goes on at once. */
  lift(): void;
}

/** A fault that strikes one request. */
export interface Struck<F> {
  readonly fault: F;
  /** Resolves when the fault is lifted. */
  readonly lifted: Promise<void>;
}

class Rule<S, F> implements Fault {
  hits = 0;
  readonly fault: F;
  readonly applies: (subject: S) => boolean;
  readonly times: number;
  readonly lifted: Promise<void>;
  #lift: () => void = () => {};
  readonly #forget: (rule: Rule<S, F>) => void;

  constructor(fault: F, applies: (subject: S) => boolean, times: number, forget: (rule: Rule<S, F>) => void) {
    this.fault = fault;
    this.applies = applies;
    this.times = times;
    this.#forget = forget;
    this.lifted = new Promise((resolve) => {
      this.#lift = resolve;
    });
  }

  lift(): void {
    this.#forget(this);
    this.#lift();
  }
}

/** The faults that a stand-in commits on demand. Of several that apply the newest strikes. */
export class FaultRules<S, F> {
  readonly #rules = new Set<Rule<S, F>>();

  /** From now on `fault` strikes what `applies` accepts, `times` times at most. */
  add(fault: F, applies: (subject: S) => boolean, times = Infinity): Fault {
    const rule = new Rule<S, F>(fault, applies, times, (gone) => this.#rules.delete(gone));
    this.#rules.add(rule);
    return rule;
  }

  /** The fault that strikes `subject`, counted as a hit. */
  strike(subject: S): Struck<F> | undefined {
    const rule = [...this.#rules].reverse().find((one) => one.hits < one.times && one.applies(subject));
    if (rule === undefined) return undefined;
    rule.hits += 1;
    return rule;
  }

  liftAll(): void {
    for (const rule of [...this.#rules]) rule.lift();
  }
}

/** Waits `ms` milliseconds, or until `lifted`: so a stand-in that closes leaves no timer behind. */
export function delay(ms: number, lifted: Promise<void>): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    void lifted.then(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
