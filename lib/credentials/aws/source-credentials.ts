import { backoff } from '../../util/backoff.ts';
import { withTimeout, type Clock } from '../../util/clock.ts';

export interface SourceCredentialsOptions {
  /**
   * Reads the credential chain, as the SDK does before the first call and with the same result.
   *
   * @returns the access key's id
   */
  resolve: () => Promise<string>;
  /** Makes the next call read the chain anew. */
  forget: () => void;
  clock: Clock;
  random: () => number;
  onFailed?: (error: Error, retryIn: number) => void;
}

const RETRY_INITIAL_MS = 1_000;
const RETRY_MAX_MS = 60_000;
const CURRENT_KEY = Symbol('the present one');
/** A credential process or a profile of another role may take seconds. */
const RESOLVE_TIMEOUT_MS = 30_000;

/**
 * Whether the proxy itself has credentials that work: they are looked for at the start, with or without a container,
 * and afterwards what STS and IAM answer says it.
 */
export class SourceCredentials {
  readonly #options: SourceCredentialsOptions;
  #state: { readonly ok: boolean; readonly detail: string } = { ok: false, detail: 'not found yet' };
  /** The key that AWS refused: it is not believed again before a call succeeds. */
  #refused: string | typeof CURRENT_KEY | undefined;
  #failures = 0;
  #cancelRetry = (): void => {};
  #closed = false;

  constructor(options: SourceCredentialsOptions) {
    this.#options = options;
  }

  get state(): { readonly ok: boolean; readonly detail: string } {
    return this.#state;
  }

  /** Looks for them until they are found. */
  async start(): Promise<void> {
    const { clock, resolve } = this.#options;
    this.#cancelRetry();
    try {
      const key = await withTimeout(clock, RESOLVE_TIMEOUT_MS, resolve(), () => new Error('getting them takes too long'));
      if (this.#closed || this.#state.ok) return;
      if (this.#refused === CURRENT_KEY) this.#refused = key;
      if (key !== this.#refused) return this.#found('found');
      this.#options.forget();
      this.#retry();
    } catch (error) {
      if (this.#closed || this.#state.ok) return;
      this.#options.forget();
      this.#state = { ok: false, detail: (error as Error).message };
      this.#options.onFailed?.(error as Error, this.#retry());
    }
  }

  /** AWS has answered a call that was signed with them. */
  worked(): void {
    if (this.#state.ok && this.#refused === undefined) return;
    this.#found('accepted by AWS');
  }

  /** @param refused whether AWS does not take them; otherwise they could not be had */
  failed(message: string, refused: boolean): void {
    if (refused) this.#refused ??= CURRENT_KEY;
    const isNew = this.#state.ok;
    this.#state = { ok: false, detail: message };
    if (isNew) this.#retry();
  }

  close(): void {
    this.#closed = true;
    this.#cancelRetry();
  }

  #found(detail: string): void {
    this.#cancelRetry();
    this.#state = { ok: true, detail };
    this.#refused = undefined;
    this.#failures = 0;
  }

  #retry(): number {
    const { clock, random } = this.#options;
    this.#failures += 1;
    const wait = backoff(this.#failures, RETRY_INITIAL_MS, RETRY_MAX_MS, random);
    this.#cancelRetry();
    this.#cancelRetry = clock.after(wait, () => void this.start());
    return wait;
  }
}
