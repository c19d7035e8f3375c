import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import type { Certificate } from './certificates.ts';
import { Journal } from './journal.ts';

/** A request that the receiver has received. */
export interface Posted {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  /** The decompressed body. */
  readonly text: string;
  /** The size of the body as received. */
  readonly size: number;
}

export type Reply =
  | { readonly status: number; readonly headers?: Readonly<Record<string, string>>; readonly body?: string }
  /** Reads the request and never answers. */
  | 'silence'
  /** 200 and an endless body, sent as fast as the client reads it. */
  | 'endless'
  /** 200 and half of a body, then silence. */
  | 'half'
  | 'reset'
  /** Bytes that are not HTTP. */
  | 'garbage'
  /** An endless sequence of 102. */
  | 'endless interim answers'
  /** An upgrade that the client did not request. */
  | 'upgrade'
  /** Endless header fields. */
  | 'endless headers';

export interface Test {
  after(end: () => Promise<void>): void;
}

/** An HTTP receiver of metrics on a free port of 127.0.0.1; with a certificate over TLS. */
export class Receiver {
  readonly posts = new Journal<Posted>('a post');
  /** The replies to the next requests, in order; then `always`. */
  readonly replies: Reply[] = [];
  always: Reply = { status: 200, body: '{}' };
  /** Sent bytes of endless bodies. */
  poured = 0;
  readonly #server: Server;
  readonly #scheme: string;

  private constructor(certificate: Certificate | undefined) {
    const listener: RequestListener = (request, response) => void this.#take(request, response);
    this.#server = certificate ? createTlsServer(certificate, listener) : createServer(listener);
    this.#scheme = certificate ? 'https' : 'http';
  }

  static async start(test: Test, certificate?: Certificate): Promise<Receiver> {
    const receiver = new Receiver(certificate);
    await once(receiver.#server.listen(0, '127.0.0.1'), 'listening');
    test.after(() => receiver.close());
    return receiver;
  }

  get url(): string {
    return `${this.#scheme}://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => {});
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer);
    } catch {
      return; // the sender has disconnected
    }
    const bytes = Buffer.concat(chunks);
    const body = request.headers['content-encoding'] === 'gzip' ? gunzipSync(bytes) : bytes;
    const { method = '', url: path = '', headers } = request;
    const reply = this.replies.shift() ?? this.always;
    this.posts.add({ method, path, headers, text: body.toString(), size: bytes.length });
    this.#answer(reply, response);
  }

  #answer(reply: Reply, response: ServerResponse): void {
    const socket = response.socket;
    switch (reply) {
      case 'silence':
        return;
      case 'reset':
        socket?.resetAndDestroy();
        return;
      case 'garbage':
        socket?.end('\u0000\u0001 220 smtp.example.com ready\r\n');
        return;
      case 'endless interim answers':
        this.#pour(response, 'HTTP/1.1 102 Processing\r\n\r\n'.repeat(100), (text, then) => socket?.write(text, then));
        return;
      case 'upgrade':
        socket?.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
        return;
      case 'half':
        response.writeHead(200, { 'Content-Length': '100' });
        response.write('{');
        return;
      case 'endless headers':
        socket?.write('HTTP/1.1 200 OK\r\n');
        this.#pour(response, 'X-More: and more of it\r\n'.repeat(100), (text, then) => socket?.write(text, then));
        return;
      case 'endless':
        response.writeHead(200);
        this.#pour(response, ' '.repeat(65_536), (text, then) => response.write(text, then));
        return;
      default:
        response.writeHead(reply.status, reply.headers ?? {});
        response.end(reply.body ?? '');
    }
  }

  #pour(response: ServerResponse, text: string, write: (text: string, then: () => void) => void): void {
    const more = (): void => {
      if (response.destroyed || response.socket?.destroyed !== false) return;
      this.poured += text.length;
      // In the next turn of the event loop: a write that the kernel accepts immediately would loop for ever.
      write(text, () => setImmediate(more));
    };
    more();
  }
}
