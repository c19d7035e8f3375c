/** Time as a parameter, so that tests of expiry and backoff need not wait. */
export interface Clock {
  /** Milliseconds since the epoch, for dates such as an expiry. May be set back. */
  now(): number;
  /** Milliseconds since an arbitrary time, for durations and timeouts. Never goes back. */
  monotonic(): number;
  /** Calls `action` once after `milliseconds`. Does not keep the process alive. Returns a function that cancels it. */
  after(milliseconds: number, action: () => void): () => void;
}

/** setTimeout fires immediately for a longer time (a signed 32-bit number of milliseconds). */
const MAX_TIMER_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: Date.now,
  monotonic: () => performance.now(),
  after(milliseconds, action) {
    const timer = setTimeout(action, Math.min(Math.max(milliseconds, 0), MAX_TIMER_MS));
    timer.unref();
    return () => clearTimeout(timer);
  },
};

export function sleep(clock: Clock, milliseconds: number): Promise<void> {
  return new Promise((resolve) => clock.after(milliseconds, resolve));
}

/**
 * Waits for a promise.
 *
 * @throws the error from `late` after the timeout; the promise's result is then ignored
 */
export function withTimeout<T>(clock: Clock, milliseconds: number, answer: Promise<T>, late: () => Error): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancel = clock.after(milliseconds, () => reject(late()));
    void answer.then(resolve, reject).finally(cancel);
  });
}
