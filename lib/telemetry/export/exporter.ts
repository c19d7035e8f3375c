/**
 * The export loop, the same for every receiver. A round reads the registry, turns it into chunks and sends each chunk
 * once. The next chunk is made when the previous one was sent.
 *
 *   a chunk is delivered     its deltas are committed
 *   it is rejected           its deltas are committed, its points count as dropped, and the next chunk follows
 *   anything else fails      the round ends, nothing is committed, and the next round waits for the backoff
 *
 * The registry is the only buffer: what was not committed is part of a later round. A round without a failure ends an
 * outage. The next round decides that, because transports report some failures late.
 */

import { setImmediate } from 'node:timers/promises';
import { backoff } from '../../util/backoff.ts';
import { withTimeout, type Clock } from '../../util/clock.ts';
import type { Family, MetricsRegistry } from '../metrics/registry.ts';

/** What is sent at once: a packet of lines, or one request. */
export interface Chunk {
  /** Empty if no receiver accepts the points, because they are too long. */
  readonly body: string;
  /** How many lines or data points it contains. */
  readonly points: number;
  /** Ends the interval of the deltas in the chunk. */
  commit(): void;
}

export interface Format {
  chunks(families: readonly Family[]): Iterable<Chunk>;
}

/** A way to a receiver. Each promise settles within the transport's timeout. */
export interface Transport {
  /** Connects, unless it is connected. */
  open(): Promise<void>;
  /** @throws Rejected when it is useless to send the same again, RetryAfter or any other Error when it is not */
  send(chunk: Chunk): Promise<void>;
  /** Resolves when everything has left this process, and disconnects. */
  close(): Promise<void>;
  /** Disconnects at once: pending calls reject. The transport can be opened again. */
  destroy(): void;
}

/**
 * Reports a failure that no pending call can report.
 *
 * @param lost whether the last chunk certainly did not arrive
 */
export type OnFailure = (error: Error, lost: boolean) => void;

/** The receiver rejects some or all points of a chunk for good. */
export class Rejected extends Error {
  readonly points: number;

  constructor(message: string, points: number) {
    super(message);
    this.points = points;
  }
}

/** The receiver asks not to be called for some milliseconds. */
export class RetryAfter extends Error {
  readonly milliseconds: number;

  constructor(message: string, milliseconds: number) {
    super(message);
    this.milliseconds = milliseconds;
  }
}

export interface ExporterOptions {
  readonly metrics: MetricsRegistry;
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  /** Milliseconds. */
  readonly interval: number;
  /** So many lines or points were rejected or lost. */
  readonly onDropped: (points: number) => void;
  /** Called for the first failure of an outage only. */
  readonly onFailed: (error: Error) => void;
  /** The outage is over. @param dropped points dropped during the outage */
  readonly onRecovered: (dropped: number) => void;
}

/** A longer backoff would only make the metrics older. */
const MAX_BACKOFF_MS = 60_000;
/** A receiver cannot stop the export for longer, as by a wrong header. */
const MAX_RETRY_AFTER_MS = 3_600_000;
/** How long the end of the program waits for a receiver. */
const CLOSE_TIMEOUT_MS = 1_000;

export class Exporter {
  readonly #options: ExporterOptions;
  readonly #format: Format;
  readonly #transport: Transport;
  /** The worst that has happened since the last round began. */
  #outcome: 'ok' | 'rejected' | 'interrupted' = 'ok';
  /** Interrupted rounds in a row. */
  #failures = 0;
  #retryAfter = 0;
  /** Points dropped since the outage began; undefined without one. */
  #outage: number | undefined;
  /** The points of the last chunk, while its loss may still be reported. */
  #unconfirmed = 0;
  #cancelTimer = (): void => {};
  #round: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;
  #closed = false;

  constructor(options: ExporterOptions, format: Format, transport: (onFailure: OnFailure) => Transport) {
    this.#options = options;
    this.#format = format;
    this.#transport = transport((error, lost) => {
      this.#fail('interrupted', error);
      if (lost) this.#drop(this.#unconfirmed);
      this.#unconfirmed = 0;
    });
    this.#schedule();
  }

  /** Exports once more, waits at most a second for that, and stops. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#cancelTimer();
    const last = this.#round.then(() => (this.#closed ? undefined : this.#export())).then(() => this.#transport.close());
    await withTimeout(this.#options.clock, CLOSE_TIMEOUT_MS, last, () => new Error('too late')).catch(() => {});
    this.#closed = true;
    this.#transport.destroy();
  }

  get #isInterrupted(): boolean {
    return this.#outcome === 'interrupted';
  }

  #schedule(): void {
    const { clock, interval, random } = this.#options;
    const wait = this.#isInterrupted
      ? Math.max(backoff(this.#failures, interval, Math.max(interval, MAX_BACKOFF_MS), random), this.#retryAfter)
      : interval;
    this.#cancelTimer = clock.after(wait, () => {
      this.#round = this.#export().then(() => {
        if (!this.#closing) this.#schedule();
      });
    });
  }

  /** One round. Never rejects. */
  async #export(): Promise<void> {
    if (this.#outcome === 'ok') this.#recover();
    this.#outcome = 'ok';
    this.#retryAfter = 0;
    try {
      await this.#transport.open();
      for (const chunk of this.#format.chunks(this.#options.metrics.collect())) {
        await this.#deliver(chunk);
        // Serves requests between two chunks, and lets the transport report that the chunk was lost.
        await setImmediate();
        if (this.#isInterrupted || this.#closed) break;
      }
    } catch (error) {
      if (error instanceof RetryAfter) this.#retryAfter = Math.min(error.milliseconds, MAX_RETRY_AFTER_MS);
      this.#fail('interrupted', error as Error);
    }
    if (this.#isInterrupted || this.#closed) this.#transport.destroy();
  }

  async #deliver(chunk: Chunk): Promise<void> {
    if (chunk.body === '') {
      this.#drop(chunk.points);
    } else {
      try {
        await this.#transport.send(chunk);
        this.#unconfirmed = chunk.points;
      } catch (error) {
        if (!(error instanceof Rejected)) throw error;
        this.#fail('rejected', error);
        this.#drop(error.points);
      }
    }
    chunk.commit();
  }

  #drop(points: number): void {
    if (points === 0) return;
    if (this.#outage !== undefined) this.#outage += points;
    this.#options.onDropped(points);
  }

  #fail(outcome: 'rejected' | 'interrupted', error: Error): void {
    if (this.#closed) return;
    if (outcome === 'interrupted') {
      if (!this.#isInterrupted) this.#failures += 1;
      this.#outcome = outcome;
    } else if (this.#outcome === 'ok') this.#outcome = outcome;
    if (this.#outage !== undefined) return;
    this.#outage = 0;
    this.#options.onFailed(error);
  }

  #recover(): void {
    this.#failures = 0;
    if (this.#outage === undefined) return;
    const dropped = this.#outage;
    this.#outage = undefined;
    this.#options.onRecovered(dropped);
  }
}
