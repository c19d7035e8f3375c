/**
 * What all backends have in common that send lines: rounds, one after the other, in each of which the registry is read
 * and everything sent. A packet is made when the one before it was taken, so nothing is buffered but one packet: while
 * a receiver is slow or gone, what was counted waits in the registry and is sent as one sum when it is back.
 */

import { backoff } from '../../util/backoff.ts';
import { withTimeout, type Clock } from '../../util/clock.ts';
import { Deltas } from './deltas.ts';
import type { MetricsRegistry } from '../metrics/registry.ts';
import { packets } from './packets.ts';
import { samples, type Sample } from './samples.ts';

/** A way to a receiver. After a failure it is closed by `drop`, and may be opened again. */
export interface Transport {
  /** Does nothing if it is open. */
  open(): Promise<void>;
  /** Resolves when the packet is out of this process's hands. */
  send(packet: string): Promise<void>;
  /** Resolves when all that was sent has left, and closes. */
  end(): Promise<void>;
  /** Closes at once; what is under way fails. */
  drop(): void;
}

/** Tells of a failure that no call is there to be told of, and whether the packet before it was lost for certain. */
export type OnBroken = (error: Error, lost: boolean) => void;

export interface PushOptions {
  readonly metrics: MetricsRegistry;
  readonly clock: Clock;
  readonly random: () => number;
  /** Milliseconds from one round to the next. */
  readonly interval: number;
  /** So many lines were not sent, or never arrived. */
  readonly onDropped: (lines: number) => void;
  /** Nothing can be sent; once for each spell of trouble. */
  readonly onError?: (error: Error) => void;
  /** A whole round went through and nothing went wrong until the next one: the trouble is over. */
  readonly onRecovered?: () => void;
}

interface Form {
  /** The lines of one sample, each with its \n. */
  readonly line: (sample: Sample) => string;
  /** The bytes of a packet. */
  readonly packetSize: number;
  readonly transport: (onBroken: OnBroken) => Transport;
}

/** A receiver that takes nothing for so long is given up. */
const ROUND_TIMEOUT_MS = 30_000;
/** Beyond that more rest would only make the figures older. */
const MAX_WAIT_MS = 60_000;
/** How long the end of the program may wait for a receiver. */
const CLOSE_TIMEOUT_MS = 1_000;

export class Push {
  readonly #options: PushOptions;
  readonly #form: Form;
  readonly #transport: Transport;
  readonly #deltas = new Deltas();
  #cancel = (): void => {};
  #round: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;
  #closed = false;
  /** Rounds in a row in which, or after which, something failed. */
  #failures = 0;
  /** Something has failed since the round began. */
  #broken = false;
  #inTrouble = false;
  #linesBefore = 0;

  constructor(options: PushOptions, form: Form) {
    this.#options = options;
    this.#form = form;
    this.#transport = form.transport((error, lost) => {
      if (lost) this.#drop(this.#linesBefore);
      this.#linesBefore = 0;
      this.#fail(error);
    });
    this.#wait();
  }

  /** Sends what is left, if that can be done within a second, and stops. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#cancel();
    const last = this.#round.then(() => this.#closed ? undefined : this.#send()).then(() => this.#transport.end());
    await withTimeout(this.#options.clock, CLOSE_TIMEOUT_MS, last, () => new Error('too late')).catch(() => {});
    this.#closed = true;
    this.#transport.drop();
  }

  #wait(): void {
    const { clock, interval, random } = this.#options;
    const wait = this.#broken
      ? backoff(this.#failures, interval, Math.max(interval, MAX_WAIT_MS), random)
      : interval;
    this.#cancel = clock.after(wait, () => {
      this.#round = this.#send().then(() => {
        if (!this.#closing) this.#wait();
      });
    });
  }

  /** One round; never rejects. */
  async #send(): Promise<void> {
    if (!this.#broken) this.#onRecovered();
    this.#broken = false;
    const { clock, metrics } = this.#options;
    const inTime = <T>(doing: Promise<T>): Promise<T> =>
      withTimeout(clock, ROUND_TIMEOUT_MS, doing, () => new Error(`nothing was taken for ${ROUND_TIMEOUT_MS / 1000} s`));
    try {
      await inTime(this.#transport.open());
      for (const { text, lines } of packets(this.#lines(metrics), this.#form.packetSize, (count) => this.#drop(count))) {
        this.#linesBefore = 0;
        try {
          await inTime(this.#transport.send(text));
        } catch (error) {
          this.#drop(lines);
          throw error;
        }
        this.#linesBefore = lines;
        // Requests come first, and so does the news that the packet was refused.
        await new Promise(setImmediate);
        if (this.#broken || this.#closed) break;
      }
    } catch (error) {
      this.#fail(error as Error);
    }
    if (this.#broken || this.#closed) this.#transport.drop();
  }

  * #lines(metrics: MetricsRegistry): Generator<readonly string[]> {
    for (const group of samples(metrics, this.#deltas)) yield group.map(this.#form.line);
  }

  #drop(lines: number): void {
    if (lines > 0) this.#options.onDropped(lines);
  }

  #fail(error: Error): void {
    if (this.#closed) return;
    if (!this.#broken) this.#failures += 1;
    this.#broken = true;
    if (this.#inTrouble) return;
    this.#inTrouble = true;
    this.#options.onError?.(error);
  }

  #onRecovered(): void {
    this.#failures = 0;
    if (!this.#inTrouble) return;
    this.#inTrouble = false;
    this.#options.onRecovered?.();
  }
}
