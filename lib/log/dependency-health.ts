/** Whether something that the proxy depends on works. */
export interface HealthReport {
  /** `unknown` until it was first used. */
  readonly state: 'unknown' | 'ok' | 'failing';
  /** Milliseconds since the epoch. */
  readonly lastSuccess: number | undefined;
  readonly lastError: { readonly time: number; readonly message: string } | undefined;
}

export class DependencyHealth {
  readonly #now: () => number;
  #state: HealthReport['state'] = 'unknown';
  #lastSuccess: number | undefined;
  #lastError: HealthReport['lastError'];

  /** @param now milliseconds since the epoch */
  constructor(now: () => number) {
    this.#now = now;
  }

  succeeded(): void {
    this.#state = 'ok';
    this.#lastSuccess = this.#now();
  }

  failed(message: string): void {
    this.#state = 'failing';
    this.#lastError = { time: this.#now(), message };
  }

  report(): HealthReport {
    return { state: this.#state, lastSuccess: this.#lastSuccess, lastError: this.#lastError };
  }
}
