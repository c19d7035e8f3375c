import type { Exporter } from './exporter.ts';
import { Push, type PushOptions } from './push.ts';
import type { HostAndPort } from './receiver-address.ts';
import { statsdLine } from './statsd.ts';
import { StreamTransport } from './stream.ts';

/** So much is written at once, and so much is held back at the most while the receiver does not read. */
const PACKET_SIZE = 16 * 1024;

export interface StatsiteOptions extends PushOptions {
  readonly address: HostAndPort;
}

/** statsd's lines over TCP. */
export class Statsite implements Exporter {
  readonly #push: Push;

  constructor({ address, ...options }: StatsiteOptions) {
    this.#push = new Push(options, {
      line: statsdLine,
      packetSize: PACKET_SIZE,
      transport: (onBroken) => new StreamTransport(address, onBroken),
    });
  }

  close(): Promise<void> {
    return this.#push.close();
  }
}
