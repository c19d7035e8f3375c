import { createSocket, type Socket } from 'node:dgram';
import { lookup as systemLookup, type LookupAddress } from 'node:dns';
import { promisify } from 'node:util';
import type { OnBroken, Transport } from './push.ts';
import type { HostAndPort } from './receiver-address.ts';

/** Every address of a name, the preferred one first. */
export type LookupAll = (host: string) => Promise<readonly LookupAddress[]>;

const resolve = promisify(systemLookup);
/** IPv4 first, as receivers listen on that by default; "localhost" is both. */
const lookupAll: LookupAll = (host) => resolve(host, { all: true, verbatim: false });

/**
 * Datagrams, from a connected socket, because the kernel tells only that of a refusal (ICMP port unreachable). The name
 * is looked up for every round, and after a failure its next address is tried.
 */
export class UdpTransport implements Transport {
  readonly #to: HostAndPort;
  readonly #onBroken: OnBroken;
  readonly #lookup: LookupAll;
  /** One at a time, however long it takes: each occupies one of Node's few threads. */
  #lookingUp: Promise<readonly LookupAddress[]> | undefined;
  #socket: Socket | undefined;
  #address = '';
  /** Which of its addresses. */
  #turn = 0;

  constructor(to: HostAndPort, onBroken: OnBroken, lookup: LookupAll = lookupAll) {
    this.#to = to;
    this.#onBroken = onBroken;
    this.#lookup = lookup;
  }

  async open(): Promise<void> {
    this.#lookingUp ??= this.#lookup(this.#to.host).finally(() => (this.#lookingUp = undefined));
    const addresses = await this.#lookingUp;
    const chosen = addresses[this.#turn % addresses.length];
    if (!chosen) throw new Error(`${this.#to.host} has no address`);
    if (this.#socket && chosen.address === this.#address) return;
    this.#close();
    await this.#connect(chosen);
  }

  send(packet: string): Promise<void> {
    return new Promise((resolve, reject) => {
      if (!this.#socket) return reject(new Error('the socket was closed'));
      this.#socket.send(packet, (error) => (error ? reject(error) : resolve()));
    });
  }

  async end(): Promise<void> {
    this.drop();
  }

  drop(): void {
    if (this.#socket) this.#turn += 1;
    this.#close();
  }

  #connect({ address, family }: LookupAddress): Promise<void> {
    const socket = createSocket(family === 6 ? 'udp6' : 'udp4');
    this.#socket = socket;
    this.#address = '';
    return new Promise((resolve, reject) => {
      socket.once('error', reject);
      // Node's types know nothing of it, but a failure is told to this callback alone.
      socket.connect(this.#to.port, address, (error?: Error | null) => {
        if (error) return reject(error);
        socket.off('error', reject);
        this.#address = address;
        socket.on('error', (error) => {
          if (this.#socket !== socket) return;
          this.drop();
          this.#onBroken(error, true);
        });
        resolve();
      });
    });
  }

  #close(): void {
    this.#socket?.on('error', () => {}).close();
    this.#socket = undefined;
  }
}
