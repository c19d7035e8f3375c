/**
 * Reads `GET /events`, one JSON document per line, until the stream ends. The stream has no heartbeat, so silence is
 * normal; but it must not lose events unnoticed:
 *
 *   line that is not JSON         ends the stream: an unreadable event may have removed an address
 *   line longer than 4 MiB        is skipped; only an event with huge labels is that long, and those that remove
 *                                 addresses at once (network disconnect) carry no labels
 *   1,000 late events in a row    end the stream: Docker has dropped others
 *
 * The caller reopens an ended stream and reads everything again. Lines are handled synchronously as they arrive, so
 * events reach `onEvent` in the engine's order and nothing else runs between two events of one chunk.
 */

import type { IncomingMessage } from 'node:http';
import { EngineFailure, type EngineEvent } from './engine.ts';
import { parseEvent } from './parse.ts';

/** An event's attributes hold all labels of its container. */
const MAX_EVENT_LENGTH = 4 * 1024 * 1024;
/**
 * Docker silently drops events for a subscriber that does not read for 100 ms while 1,024 are queued. The queued ones
 * then all arrive late, so 1,000 late events in a row mean that some were lost. Source: moby, daemon/events, pkg/pubsub.
 */
const LATE_MS = 100;
const MAX_LATE_EVENTS = 1_000;

export interface EventStreamOptions {
  /** The engine's address, for error messages. */
  readonly url: string;
  /** Whether the engine's clock is this host's, so that an event's age can be measured. */
  readonly sharesClock: boolean;
  readonly onEvent: (event: EngineEvent) => void;
  /** Called with the time at which the engine sent an event, in milliseconds since the epoch. */
  readonly onSent: (sentAt: number) => void;
}

/** @returns the reason for the end of the stream, once it has ended */
export function readEvents(response: IncomingMessage, options: EventStreamOptions): Promise<Error> {
  const { url, sharesClock, onEvent, onSent } = options;
  const lines = new LineSplitter();
  let late = 0;
  const read = (line: string): void => {
    const { sentAt, event } = parseEvent(line);
    if (sentAt !== undefined) {
      onSent(sentAt);
      late = sharesClock && Date.now() - sentAt > LATE_MS ? late + 1 : 0;
    }
    if (event) onEvent(event);
    if (late >= MAX_LATE_EVENTS) {
      throw new EngineFailure(`the Docker Engine at ${url} sent ${MAX_LATE_EVENTS} events late: others may be missing`);
    }
  };
  response.setEncoding('utf8');
  response.on('data', (chunk: string) => {
    for (const line of lines.push(chunk)) {
      try {
        read(line);
      } catch (error) {
        // The rest of the chunk is still read: an event that removes an address is always right.
        response.destroy(error as Error);
      }
    }
  });
  return new Promise((resolve) => {
    const end = (error?: Error): void => {
      resolve(error ?? new EngineFailure(`the Docker Engine at ${url} ended its event stream`));
    };
    response.on('error', end);
    response.on('close', () => end());
  });
}

/** Cuts text into lines. Blank lines and lines that are too long are skipped. */
class LineSplitter {
  #rest = '';
  #isSkipping = false;

  push(chunk: string): string[] {
    const lines = (this.#rest + chunk).split('\n');
    this.#rest = lines.pop() ?? '';
    if (this.#isSkipping && lines.length > 0) {
      lines.shift();
      this.#isSkipping = false;
    }
    if (this.#rest.length > MAX_EVENT_LENGTH) this.#isSkipping = true;
    // The end of a line that is being skipped need not be kept.
    if (this.#isSkipping) this.#rest = '';
    return lines.filter((line) => line.trim() !== '');
  }
}
