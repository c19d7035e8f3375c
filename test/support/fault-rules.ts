/** A fault that a test requested. */
export interface Fault {
  /** How many requests it has affected. */
  readonly hits: number;
  /** Ends the fault. Requests that it holds or delays continue immediately. */
  lift(): void;
}

/** A fault applied to one request. */
export interface AppliedFault<F> {
  readonly fault: F;
  /** Resolves when the fault is lifted. */
  readonly lifted: Promise<void>;
}

class Rule<S, F> implements Fault {
  hits = 0;
  readonly fault: F;
  readonly matches: (subject: S) => boolean;
  readonly times: number;
  readonly lifted: Promise<void>;
  #lift: () => void = () => {};
  readonly #forget: (rule: Rule<S, F>) => void;

  constructor(fault: F, matches: (subject: S) => boolean, times: number, forget: (rule: Rule<S, F>) => void) {
    this.fault = fault;
    this.matches = matches;
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

/** The faults that a fake server injects. If several match a request, the newest applies. */
export class FaultRules<S, F> {
  readonly #rules = new Set<Rule<S, F>>();

  /** Adds `fault` for the requests that `matches` accepts, at most `times` times. */
  add(fault: F, matches: (subject: S) => boolean, times = Infinity): Fault {
    const rule = new Rule<S, F>(fault, matches, times, (gone) => this.#rules.delete(gone));
    this.#rules.add(rule);
    return rule;
  }

  /** The fault for `subject`, counted as a hit; undefined if none matches. */
  apply(subject: S): AppliedFault<F> | undefined {
    const rule = [...this.#rules].reverse().find((one) => one.hits < one.times && one.matches(subject));
    if (rule === undefined) return undefined;
    rule.hits += 1;
    return rule;
  }

  liftAll(): void {
    for (const rule of [...this.#rules]) rule.lift();
  }
}

/** Waits `ms` milliseconds, or until `lifted`, so that a closed server leaves no timer. */
export function delay(ms: number, lifted: Promise<void>): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    void lifted.then(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
