/**
 * What is to be posted to one receiver of metrics: one request at a time, again after a while when that is worth it,
 * and never more waiting than fits.
 */

import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { backoff } from '../../util/backoff.ts';
import type { Clock } from '../../util/clock.ts';
import { httpPost, type PostAnswer } from './http-post.ts';
import type { Log } from '../../log/log.ts';

/** Ten minutes of a host with many roles; what is older is of less use than the memory. */
const MAX_QUEUED_BYTES = 4_000_000;
const MAX_QUEUED = 60;

const RETRY_INITIAL_MS = 1_000;
const RETRY_MAX_MS = 60_000;
/** A receiver may ask to be left alone for so long and no longer: a wrong header should not end the metrics. */
const MAX_RETRY_AFTER_MS = 3_600_000;

const compress = promisify(gzip);

export interface Batch {
  readonly text: string;
  /** How many data points it has, which are lost with it. */
  readonly points: number;
}

export interface PostQueueOptions {
  /** As the log and the count of what was dropped name it. */
  readonly backend: string;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly gzip: boolean;
  /** Milliseconds for one request. */
  readonly timeout: number;
  /** The answers that say: later. Every other one than 2xx is final. */
  readonly isRetryable: (status: number) => boolean;
  /** How many data points an answer of success refuses. */
  readonly refused?: (text: string) => number;
  readonly onDropped: (points: number) => void;
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  readonly log: Log;
}

interface Waiting {
  readonly body: Buffer;
  readonly points: number;
}

export class PostQueue {
  readonly #options: PostQueueOptions;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #abort = new AbortController();
  #waiting: Waiting[] = [];
  #bytes = 0;
  #isDelivering = false;
  #delivery: Promise<void> = Promise.resolve();
  #failures = 0;
  /** Data points dropped since the trouble began; undefined while there is none. */
  #dropped: number | undefined;
  #closing = false;
  #endPause = (): void => {};

  constructor(options: PostQueueOptions) {
    this.#options = options;
    const encoding = options.gzip ? { 'Content-Encoding': 'gzip' } : {};
    this.#headers = { ...options.headers, 'Content-Type': 'application/json', ...encoding };
  }

  /** Takes a batch of JSON; the oldest ones that wait make room for it. */
  async add({ text, points }: Batch): Promise<void> {
    const body = this.#options.gzip ? await compress(text) : Buffer.from(text);
    if (this.#abort.signal.aborted) return this.#drop(points);
    this.#waiting.push({ body, points });
    this.#bytes += body.length;
    while (this.#waiting.length > MAX_QUEUED || this.#bytes > MAX_QUEUED_BYTES) {
      this.#drop(this.#take()?.points ?? 0);
    }
    if (!this.#isDelivering) this.#delivery = this.#deliverAll();
  }

  /** Tries what is left once more, until the signal; what cannot be sent is dropped. */
  async close(signal: AbortSignal): Promise<void> {
    this.#closing = true;
    this.#endPause();
    signal.addEventListener('abort', () => this.#abort.abort());
    if (signal.aborted) this.#abort.abort();
    await this.#delivery;
  }

  async #deliverAll(): Promise<void> {
    this.#isDelivering = true;
    for (let batch = this.#take(); batch; batch = this.#take()) {
      let wait = await this.#deliver(batch);
      while (wait !== undefined && !this.#closing) {
        await this.#pause(wait);
        wait = await this.#deliver(batch);
      }
      if (wait === undefined) continue;
      // The end has come, and the receiver does not answer: no time for the others.
      this.#drop(batch.points);
      for (let left = this.#take(); left; left = this.#take()) this.#drop(left.points);
    }
    this.#isDelivering = false;
  }

  /** @returns how many milliseconds to wait before it is tried again, or undefined when it is done with */
  async #deliver({ body, points }: Waiting): Promise<number | undefined> {
    const { url, timeout, isRetryable, refused, clock, random } = this.#options;
    let answer: PostAnswer | undefined;
    let trouble = '';
    try {
      const { signal } = this.#abort;
      answer = await httpPost({ url, headers: this.#headers, body, timeout, signal }, clock);
      trouble = `it answers ${answer.status}`;
    } catch (error) {
      trouble = (error as Error).message;
    }
    if (answer && answer.status >= 200 && answer.status < 300) {
      this.#failures = 0;
      const lost = Math.min(refused?.(answer.text) ?? 0, points);
      if (lost > 0) this.#fails(`it refuses ${lost} of ${points} data points`, lost);
      else this.#succeeds();
      return undefined;
    }
    if (answer && !isRetryable(answer.status)) {
      this.#fails(trouble, points);
      return undefined;
    }
    this.#fails(trouble, 0);
    this.#failures += 1;
    const wait = backoff(this.#failures, RETRY_INITIAL_MS, RETRY_MAX_MS, random);
    return Math.max(wait, Math.min(answer?.retryAfter ?? 0, MAX_RETRY_AFTER_MS));
  }

  /** An answer's own words are never logged: a receiver may repeat what it was sent, keys included. */
  #fails(trouble: string, dropped: number): void {
    const { backend, url, log } = this.#options;
    if (this.#dropped === undefined) {
      this.#dropped = 0;
      log.warning('metrics cannot be sent; trying again', { backend, receiver: url.origin, error: trouble });
    }
    this.#drop(dropped);
  }

  #succeeds(): void {
    const { backend, url, log } = this.#options;
    if (this.#dropped === undefined) return;
    log.info('metrics are sent again', { backend, receiver: url.origin, dropped: this.#dropped });
    this.#dropped = undefined;
  }

  #take(): Waiting | undefined {
    const batch = this.#waiting.shift();
    this.#bytes -= batch?.body.length ?? 0;
    return batch;
  }

  #drop(points: number): void {
    if (points === 0) return;
    if (this.#dropped !== undefined) this.#dropped += points;
    this.#options.onDropped(points);
  }

  #pause(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#options.clock.after(milliseconds, resolve);
      this.#endPause = () => {
        cancel();
        resolve();
      };
    });
  }
}
