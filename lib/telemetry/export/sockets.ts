import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { lookup as systemLookup, type LookupAddress } from 'node:dns';
import { connect, type Socket } from 'node:net';
import { promisify } from 'node:util';
import { withTimeout, type Clock } from '../../util/clock.ts';
import type { Chunk, OnFailure, Transport } from './exporter.ts';
import type { HostAndPort, SocketPath } from './receiver-address.ts';

/** For a look-up, for connecting, and for a receiver to accept a packet. */
const TIMEOUT_MS = 30_000;

function inTime<T>(clock: Clock, promise: Promise<T>, what: string): Promise<T> {
  return withTimeout(clock, TIMEOUT_MS, promise, () => new Error(`${what} within ${TIMEOUT_MS / 1000} s`));
}

/** All addresses of a name, the preferred one first. */
export type LookupAll = (host: string) => Promise<readonly LookupAddress[]>;

const resolve = promisify(systemLookup);
/** IPv4 first: "localhost" is both, and receivers listen on IPv4 by default. */
const lookupAll: LookupAll = (host) => resolve(host, { all: true, verbatim: false });

/**
 * Datagrams from a connected socket, because only to that the kernel reports ICMP port unreachable. The name is looked up
 * in every round; after a failure the next of its addresses is used.
 */
export class UdpTransport implements Transport {
  readonly #to: HostAndPort;
  readonly #clock: Clock;
  readonly #onFailure: OnFailure;
  readonly #lookup: LookupAll;
  /** One at a time, however long it takes: each occupies one of Node's four worker threads. */
  #pendingLookup: Promise<readonly LookupAddress[]> | undefined;
  #socket: UdpSocket | undefined;
  #address = '';
  #addressIndex = 0;

  constructor(to: HostAndPort, clock: Clock, onFailure: OnFailure, lookup: LookupAll = lookupAll) {
    this.#to = to;
    this.#clock = clock;
    this.#onFailure = onFailure;
    this.#lookup = lookup;
  }

  async open(): Promise<void> {
    this.#pendingLookup ??= this.#lookup(this.#to.host).finally(() => (this.#pendingLookup = undefined));
    const addresses = await inTime(this.#clock, this.#pendingLookup, `no answer for ${this.#to.host} from DNS`);
    const address = addresses[this.#addressIndex % addresses.length];
    if (!address) throw new Error(`${this.#to.host} has no address`);
    if (this.#socket && address.address === this.#address) return;
    this.#disconnect();
    await this.#connect(address);
  }

  send({ body }: Chunk): Promise<void> {
    return new Promise((resolve, reject) => {
      if (!this.#socket) return reject(new Error('the socket is closed'));
      this.#socket.send(body, (error) => {
        if (!error) return resolve();
        // The kernel reports here, too, that the previous datagram was refused; this one was not sent.
        this.#onFailure(error, true);
        reject(error);
      });
    });
  }

  async close(): Promise<void> {
    this.#disconnect();
  }

  destroy(): void {
    if (this.#socket) this.#addressIndex += 1;
    this.#disconnect();
  }

  #connect({ address, family }: LookupAddress): Promise<void> {
    const socket = createSocket(family === 6 ? 'udp6' : 'udp4');
    this.#socket = socket;
    this.#address = '';
    return new Promise((resolve, reject) => {
      socket.once('error', reject);
      // Missing in Node's types: only this callback receives an error of connect().
      socket.connect(this.#to.port, address, (error?: Error | null) => {
        if (error) return reject(error);
        socket.off('error', reject);
        this.#address = address;
        socket.on('error', (error) => {
          if (this.#socket !== socket) return;
          this.destroy();
          this.#onFailure(error, true);
        });
        resolve();
      });
    });
  }

  #disconnect(): void {
    this.#socket?.on('error', () => {}).close();
    this.#socket = undefined;
  }
}

/** A connection that stays open from round to round. */
export class StreamTransport implements Transport {
  readonly #to: HostAndPort | SocketPath;
  readonly #clock: Clock;
  readonly #onFailure: OnFailure;
  readonly #frame: (packet: string) => string | Buffer;
  #socket: Socket | undefined;

  /** @param frame turns a packet into the bytes that are written */
  constructor(
    to: HostAndPort | SocketPath,
    clock: Clock,
    onFailure: OnFailure,
    frame: (packet: string) => string | Buffer = (packet) => packet,
  ) {
    this.#to = to;
    this.#clock = clock;
    this.#onFailure = onFailure;
    this.#frame = frame;
  }

  open(): Promise<void> {
    if (this.#socket) return Promise.resolve();
    const connected = new Promise<void>((resolve, reject) => {
      const socket = connect(this.#to);
      this.#socket = socket;
      let reason = new Error('the receiver closed the connection');
      socket.once('connect', resolve);
      socket.on('error', (error) => (reason = error));
      socket.on('close', () => {
        reject(reason);
        if (this.#socket !== socket) return;
        this.#socket = undefined;
        this.#onFailure(reason, false);
      });
      // Receivers have nothing to say. What one sends all the same is not read on, hence not buffered.
      socket.on('data', () => socket.pause());
    });
    return inTime(this.#clock, connected, 'no connection');
  }

  send({ body }: Chunk): Promise<void> {
    const written = new Promise<void>((resolve, reject) => {
      if (!this.#socket?.writable) return reject(new Error('the receiver closed the connection'));
      this.#socket.write(this.#frame(body), (error) => (error ? reject(error) : resolve()));
    });
    return inTime(this.#clock, written, 'the receiver accepted nothing');
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      if (!this.#socket?.writable) return resolve();
      this.#socket.end(resolve);
    });
  }

  destroy(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.destroy();
  }
}

/**
 * DogStatsD over a stream: a packet follows its length in 4 bytes, little-endian. Source: Datadog's agent,
 * comp/dogstatsd/listeners/uds_common.go, which reads so from a socket of kind "unix".
 */
export function framed(packet: string): Buffer {
  const bytes = Buffer.from(packet);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  return Buffer.concat([length, bytes]);
}
