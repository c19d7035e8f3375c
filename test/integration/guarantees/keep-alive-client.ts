import { connect, type Socket } from 'node:net';
import { parseResponses } from '../../support/http-bytes.ts';

/** Turns a hang into a failure. No assertion depends on it. */
const TIMEOUT_MS = 20_000;

export interface ClientAnswer {
  /** All received bytes, as latin1. */
  readonly text: string;
  /** The status of the first complete response; 0 if there is none. */
  readonly status: number;
  readonly body: string;
  /** The number of earlier answers on this connection. */
  readonly before: number;
  /** Why there is no response: the connection's error code, or CLOSED. */
  readonly failure: string | undefined;
}

/**
 * A client with a keep-alive connection and one request at a time. It reconnects after the server has closed the connection.
 * It sends any bytes and never rejects: a missing response is a result.
 */
export class KeepAliveClient {
  readonly #port: number;
  readonly #from: string;
  #socket: Socket | undefined;
  #answered = 0;
  #text = '';
  #finish: ((failure: string | undefined) => void) | undefined;
  #toHead = false;

  constructor(port: number, from: string) {
    this.#port = port;
    this.#from = from;
  }

  /** Sends one request and waits for one response, or for the connection's end. */
  ask(bytes: string): Promise<ClientAnswer> {
    const before = this.#socket === undefined ? 0 : this.#answered;
    this.#text = '';
    this.#toHead = bytes.startsWith('HEAD ');
    return new Promise((resolve) => {
      const socket = this.#socket ?? this.#open();
      const timer = setTimeout(() => socket.destroy(new Error('HUNG')), TIMEOUT_MS);
      this.#finish = (failure) => {
        clearTimeout(timer);
        this.#finish = undefined;
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
      if (this.#finish === undefined || parseResponses(this.#text, this.#toHead).length === 0) return;
      this.#answered += 1;
      // A closing connection is not reused.
      if (/\r\nconnection: close\r\n/i.test(this.#text)) this.close();
      this.#finish(undefined);
    });
    socket.on('error', (error: NodeJS.ErrnoException) => (failure = error.code ?? error.message));
    socket.on('close', () => {
      if (this.#socket === socket) this.#socket = undefined;
      else return;
      this.#finish?.(failure);
    });
    return socket;
  }
}

/** Sends bytes, half-closes the connection, and returns everything until the server closes it. */
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

/** Runs `work` for every item with limited concurrency. */
export async function inParallel<T>(
  items: readonly T[], concurrency: number, work: (item: T, worker: number) => Promise<void>,
): Promise<void> {
  const rest = items.values();
  await Promise.all(Array.from({ length: concurrency }, async (_, worker) => {
    for (const item of rest) await work(item, worker);
  }));
}
