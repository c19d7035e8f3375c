import { connect, type Socket } from 'node:net';
import type { OnBroken, Transport } from './push.ts';
import type { HostAndPort, SocketPath } from './receiver-address.ts';

/** A connection that stays open from round to round. */
export class StreamTransport implements Transport {
  readonly #to: HostAndPort | SocketPath;
  readonly #onBroken: OnBroken;
  readonly #frame: (packet: string) => string | Buffer;
  #socket: Socket | undefined;

  /** @param frame makes of a packet what is written */
  constructor(
    to: HostAndPort | SocketPath,
    onBroken: OnBroken,
    frame: (packet: string) => string | Buffer = (packet) => packet,
  ) {
    this.#to = to;
    this.#onBroken = onBroken;
    this.#frame = frame;
  }

  open(): Promise<void> {
    if (this.#socket) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const socket = connect(this.#to);
      this.#socket = socket;
      let reason = new Error('the receiver closed the connection');
      socket.once('connect', resolve);
      socket.on('error', (error) => (reason = error));
      socket.on('close', () => {
        reject(reason);
        if (this.#socket !== socket) return;
        this.#socket = undefined;
        this.#onBroken(reason, false);
      });
      // No receiver has anything to say; what one says all the same is neither read on nor kept.
      socket.on('data', () => socket.pause());
    });
  }

  send(packet: string): Promise<void> {
    return new Promise((resolve, reject) => {
      if (!this.#socket?.writable) return reject(new Error('the receiver closed the connection'));
      this.#socket.write(this.#frame(packet), (error) => (error ? reject(error) : resolve()));
    });
  }

  end(): Promise<void> {
    return new Promise((resolve) => {
      if (!this.#socket?.writable) return resolve();
      this.#socket.end(resolve);
    });
  }

  drop(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.destroy();
  }
}
