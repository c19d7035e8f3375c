import type { Events } from '../../events.ts';
import { backoff } from '../../util/backoff.ts';
import { withTimeout, type Clock } from '../../util/clock.ts';
import type { AwsClients, SourceCredentialsListener } from './clients.ts';

export interface SourceCredentialsOptions {
  clients: Pick<AwsClients, 'sourceAccessKey' | 'forget' | 'subscribe'>;
  clock: Clock;
  random: () => number;
  events: Pick<Events, 'sourceCredentialsFailed'>;
}

const RETRY_INITIAL_MS = 1_000;
const RETRY_MAX_MS = 60_000;
/** Stands for the key of a refused call until `start` has read the key. */
const CURRENT_KEY = Symbol('current key');
/** A credential process or a profile that assumes another role may take seconds. */
const RESOLVE_TIMEOUT_MS = 30_000;

/**
 * Tracks whether the proxy's own AWS credentials work. It resolves them at start, before any container needs them, and
 * retries with backoff; afterwards the result of every AWS call updates the state.
 */
export class SourceCredentials implements SourceCredentialsListener {
  readonly #options: SourceCredentialsOptions;
  #state: { readonly ok: boolean; readonly detail: string } = { ok: false, detail: 'not found yet' };
  /** The access key that AWS refused. Finding it again changes nothing until a call succeeds. */
  #refused: string | typeof CURRENT_KEY | undefined;
  #failures = 0;
  #cancelRetry = (): void => {};
  #closed = false;

  constructor(options: SourceCredentialsOptions) {
    this.#options = options;
    options.clients.subscribe(this);
  }

  get state(): { readonly ok: boolean; readonly detail: string } {
    return this.#state;
  }

  /** Reads the credential chain, and retries until it finds credentials. */
  async start(): Promise<void> {
    const { clock, clients, events } = this.#options;
    this.#cancelRetry();
    try {
      const key = await withTimeout(clock, RESOLVE_TIMEOUT_MS, clients.sourceAccessKey(), timeout);
      if (this.#closed || this.#state.ok) return;
      if (this.#refused === CURRENT_KEY) this.#refused = key;
      if (key !== this.#refused) return this.#found('found');
      clients.forget();
      this.#retry();
    } catch (error) {
      if (this.#closed || this.#state.ok) return;
      clients.forget();
      this.#state = { ok: false, detail: (error as Error).message };
      events.sourceCredentialsFailed(error as Error);
      this.#retry();
    }
  }

  worked(): void {
    if (this.#state.ok && this.#refused === undefined) return;
    this.#found('accepted by AWS');
  }

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

  #retry(): void {
    const { clock, random } = this.#options;
    this.#failures += 1;
    const wait = backoff(this.#failures, RETRY_INITIAL_MS, RETRY_MAX_MS, random);
    this.#cancelRetry();
    this.#cancelRetry = clock.after(wait, () => void this.start());
  }
}

function timeout(): Error {
  return new Error(`no credentials within ${RESOLVE_TIMEOUT_MS / 1000} s`);
}
