/** What backends have in common that push at an interval. */

import type { Clock } from '../../util/clock.ts';
import type { Config } from '../../config/config.ts';
import type { Exporter } from './exporter.ts';
import type { Log } from '../../log/log.ts';
import type { MetricsRegistry } from '../metrics/registry.ts';
import type { Batch, PostQueue } from './post-queue.ts';

/** How long the end of the program may wait for it. */
const CLOSE_TIMEOUT_MS = 1_000;

/** What such a backend is made of. */
export interface PusherOptions<Settings extends keyof Config> {
  readonly config: Pick<Config, Settings>;
  readonly metrics: MetricsRegistry;
  readonly version: string;
  /** The name of this host. */
  readonly host: string;
  readonly onDropped: (points: number) => void;
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  readonly log: Log;
}

/** Where batches go, and what makes those of one interval. */
export interface Push {
  readonly queue: PostQueue;
  /** Each is asked for in a turn of the event loop of its own, for requests to be answered in between. */
  readonly batches: () => Iterable<Batch>;
}

/** Pushes at an interval, and once more at the end. */
export class Pusher implements Exporter {
  readonly #pushes: readonly Push[];
  readonly #interval: number;
  readonly #clock: Clock;
  #cancel = (): void => {};
  #pushing: Promise<void> = Promise.resolve();
  #closed = false;

  /** @param interval milliseconds */
  constructor(pushes: readonly Push[], interval: number, clock: Clock) {
    this.#pushes = pushes;
    this.#interval = interval;
    this.#clock = clock;
    this.#schedule();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#cancel();
    const tooLate = new AbortController();
    const cancel = this.#clock.after(CLOSE_TIMEOUT_MS, () => tooLate.abort());
    await this.#push();
    await Promise.all(this.#pushes.map(({ queue }) => queue.close(tooLate.signal)));
    cancel();
  }

  #schedule(): void {
    this.#cancel = this.#clock.after(this.#interval, () => {
      void this.#push().finally(() => {
        if (!this.#closed) this.#schedule();
      });
    });
  }

  #push(): Promise<void> {
    const push = async (): Promise<void> => {
      for (const { queue, batches } of this.#pushes) {
        for (const batch of batches()) {
          await queue.add(batch);
          await new Promise((resolve) => setImmediate(resolve));
        }
      }
    };
    this.#pushing = this.#pushing.catch(() => {}).then(push);
    return this.#pushing;
  }
}

/** A piece of a batch: one JSON value. */
export interface Chunk {
  readonly json: string;
  readonly points: number;
}

/** New Relic takes a million bytes at most, and to make so much of JSON holds nobody up. */
const BATCH_CHARACTERS = 250_000;

/** Puts pieces together as long as they are not too much. */
export function* batches(chunks: Iterable<Chunk>, wrap: (values: string) => string): Generator<Batch> {
  let json = '';
  let points = 0;
  for (const chunk of chunks) {
    if (points > 0 && json.length + chunk.json.length > BATCH_CHARACTERS) {
      yield { text: wrap(json), points };
      json = '';
      points = 0;
    }
    json += (json === '' ? '' : ',') + chunk.json;
    points += chunk.points;
  }
  if (points > 0) yield { text: wrap(json), points };
}

/** New Relic takes no more of a value, and nobody reads it. */
const MAX_VALUE_LENGTH = 4_096;

/** Label values as receivers take them: of a length that they take, and without halves of characters. */
export function attributeValue(text: string): string {
  return text.slice(0, MAX_VALUE_LENGTH).replace(/\p{Surrogate}/gu, '\ufffd');
}
