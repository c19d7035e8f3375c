import type { Exporter } from './exporter.ts';
import { Push, type PushOptions } from './push.ts';
import type { HostAndPort } from './receiver-address.ts';
import type { Sample } from './samples.ts';
import { UdpTransport, type LookupAll } from './udp.ts';

/** As go-metrics has it (statsdMaxLen): less than an Ethernet frame takes. */
const PACKET_SIZE = 1_400;

/**
 * What would end a name, or begin something else in it: go-metrics replaced blanks and ":". Label values may come from
 * containers, and one with the others in it could pass for another metric, a rate, a tag (";" in today's statsd) or a
 * line of its own.
 */
const UNSAFE = /[\s\p{Cc}:;|@#,]/gu;

/**
 * `name.value.value:1.000000|c`, with the values of labels and Go's %f, as go-metrics wrote it.
 *
 * statsd and statsite take a gauge with a sign for a change of what it was, unless that was 0; so a gauge below zero is
 * set to 0 first. Source: statsd's docs/metric_types.md.
 */
export function statsdLine({ name, kind, value, labels }: Sample): string {
  const key = [name, ...labels.filter((label) => label !== '')].join('.').replace(UNSAFE, '_');
  if (kind === 'count') return `${key}:${value.toFixed(6)}|c\n`;
  const line = `${key}:${value.toFixed(6)}|g\n`;
  return value < 0 ? `${key}:0.000000|g\n${line}` : line;
}

export interface StatsdOptions extends PushOptions {
  readonly address: HostAndPort;
  /** For tests. */
  readonly lookup?: LookupAll;
}

/** Datagrams to statsd. */
export class Statsd implements Exporter {
  readonly #push: Push;

  constructor({ address, lookup, ...options }: StatsdOptions) {
    this.#push = new Push(options, {
      line: statsdLine,
      packetSize: PACKET_SIZE,
      transport: (onBroken) => new UdpTransport(address, onBroken, lookup),
    });
  }

  close(): Promise<void> {
    return this.#push.close();
  }
}
