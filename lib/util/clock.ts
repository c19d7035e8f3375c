/** Time as a parameter, so that every expiry and every backoff is tested without waiting. */
export interface Clock {
  /** Milliseconds since the epoch; may be set back. For what has a date, such as an expiry. */
  now(): number;
  /** Milliseconds since some time; only ever goes on. For how long something takes, or stands. */
  monotonic(): number;
  /** Calls `action` once after `milliseconds`; the returned function takes that back. Never keeps the process alive. */
  after(milliseconds: number, action: () => void): () => void;
}

/** setTimeout fires at once for anything longer (a signed 32-bit number of milliseconds). */
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
 * The answer, if it comes in time.
 *
 * @throws what `late` makes when it does not; the answer is then ignored
 */
export function withTimeout<T>(clock: Clock, milliseconds: number, answer: Promise<T>, late: () => Error): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancel = clock.after(milliseconds, () => reject(late()));
    void answer.then(resolve, reject).finally(cancel);
  });
}
