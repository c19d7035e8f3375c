import { connect, type Socket } from 'node:net';
import { parseResponses } from '../../support/http-bytes.ts';

/** It turns a hang into a failure, no more. */
const TIMEOUT_MS = 20_000;

export interface LaneAnswer {
  /** Everything that came, as latin1. */
  readonly text: string;
  /** Of the first whole response; 0 if there is none. */
  readonly status: number;
  readonly body: string;
  /** How often this connection had been answered before. */
  readonly before: number;
  /** Why nothing came: the code of the connection's error, or CLOSED. */
  readonly failure: string | undefined;
}

/**
 * A client's connection for one request after the other, made anew when the server has closed it. It sends
 * whatever bytes it is given and never rejects: that nothing came is an answer, too.
 */
export class Lane {
  readonly #port: number;
  readonly #from: string;
  #socket: Socket | undefined;
  #answered = 0;
  #text = '';
  #settle: ((failure: string | undefined) => void) | undefined;
  #toHead = false;

  constructor(port: number, from: string) {
    this.#port = port;
    this.#from = from;
  }

  /** Sends one request and waits for one response, or for the connection's end. */
  ask(bytes: string): Promise<LaneAnswer> {
    const before = this.#socket === undefined ? 0 : this.#answered;
    this.#text = '';
    this.#toHead = bytes.startsWith('HEAD ');
    return new Promise((resolve) => {
      const socket = this.#socket ?? this.#open();
      const timer = setTimeout(() => socket.destroy(new Error('HUNG')), TIMEOUT_MS);
      this.#settle = (failure) => {
        clearTimeout(timer);
        this.#settle = undefined;
        const [first] = parseResponses(this.#text, this.#toHead, failure !== undefined);
        const { status = 0, body = '' } = first ?? {};
        resolve({ text: this.#text, status, body, before, failure: first === undefined ? failure : undefined });
      };
      socket.write(bytes, 'latin1');
    });
  }

  close(): void {
    this.#socket?.destroy();
    this.#socket = undefined;
  }

  #open(): Socket {
    const socket = connect({ port: this.#port, host: '127.0.0.1', localAddress: this.#from });
    let failure = 'CLOSED';
    this.#socket = socket;
    this.#answered = 0;
    socket.setNoDelay(true);
    socket.setEncoding('latin1');
    socket.on('data', (chunk: string) => {
      this.#text += chunk;
      if (this.#settle === undefined || parseResponses(this.#text, this.#toHead).length === 0) return;
      this.#answered += 1;
      // What closes is not used again.
      if (/\r\nconnection: close\r\n/i.test(this.#text)) this.close();
      this.#settle(undefined);
    });
    socket.on('error', (error: NodeJS.ErrnoException) => (failure = error.code ?? error.message));
    socket.on('close', () => {
      if (this.#socket === socket) this.#socket = undefined;
      else return;
      this.#settle?.(failure);
    });
    return socket;
  }
}

/** Everything that comes for these bytes until the server hangs up; the client ends its own side at once. */
export function sendAll(port: number, from: string, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', localAddress: from });
    let text = '';
    const timer = setTimeout(() => {
      reject(new Error(`no end of the answer to ${JSON.stringify(bytes.slice(0, 300))}; so far ${text.slice(0, 300)}`));
      socket.destroy();
    }, TIMEOUT_MS);
    socket.setEncoding('latin1').on('data', (chunk: string) => (text += chunk)).on('error', () => {});
    socket.once('close', () => {
      clearTimeout(timer);
      resolve(text);
    });
    socket.end(bytes, 'latin1');
  });
}

/** Does `work` on every item, `width` at a time. */
export async function abreast<T>(
  items: readonly T[], width: number, work: (item: T, worker: number) => Promise<void>,
): Promise<void> {
  const rest = items.values();
  await Promise.all(Array.from({ length: width }, async (_, worker) => {
    for (const item of rest) await work(item, worker);
  }));
}
