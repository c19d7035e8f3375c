import type { Exporter } from './exporter.ts';
import { Push, type PushOptions } from './push.ts';
import type { HostAndPort, SocketPath } from './receiver-address.ts';
import type { Sample } from './samples.ts';
import { StreamTransport } from './stream.ts';
import { UdpTransport, type LookupAll } from './udp.ts';

/** What Datadog's own clients put into a datagram: 1500 bytes less the headers of IPv4 and UDP and some reserve. */
const DATAGRAM_SIZE = 1_432;
/** What its agent takes over a socket (`dogstatsd_buffer_size`); it hangs up on more. */
const FRAME_SIZE = 8 * 1024;

/** A metric's name has ASCII letters, digits, underscores and dots. Source: DogStatsD's datagram format. */
const NOT_OF_A_NAME = /[^\w.]/g;
/** What would end a tag, or could pass for another one, another field or a line of its own. */
const UNSAFE = /[\s\p{Cc}:|@#,]/gu;

/** `name:1|c|#label:value,label:value`; source: docs.datadoghq.com/extend/dogstatsd/datagram_shell. */
export function dogstatsdLine({ name, kind, value, labelNames, labels }: Sample): string {
  const tags = labelNames.flatMap((label, index) => {
    const text = labels[index] ?? '';
    return text === '' ? [] : `${label.replace(UNSAFE, '_')}:${text.replace(UNSAFE, '_')}`;
  });
  const figure = Number.isInteger(value) ? value.toFixed(0) : value.toFixed(6);
  const line = `${name.replace(NOT_OF_A_NAME, '_')}:${figure}|${kind === 'count' ? 'c' : 'g'}`;
  return tags.length === 0 ? `${line}\n` : `${line}|#${tags.join(',')}\n`;
}

/**
 * A packet over a stream: its length in 4 bytes, little-endian, and then itself. Source: Datadog's agent,
 * comp/dogstatsd/listeners/uds_common.go, where it reads from a socket of kind "unix".
 */
export function framed(packet: string): Buffer {
  const bytes = Buffer.from(packet);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  return Buffer.concat([length, bytes]);
}

export interface DogStatsDOptions extends PushOptions {
  readonly address: HostAndPort | SocketPath;
  /** For tests. */
  readonly lookup?: LookupAll;
}

/** Datagrams to Datadog's agent, or frames over its stream socket, as Node has no Unix sockets for datagrams. */
export class DogStatsD implements Exporter {
  readonly #push: Push;

  constructor({ address, lookup, ...options }: DogStatsDOptions) {
    this.#push = new Push(options, {
      line: dogstatsdLine,
      ...('path' in address
        ? { packetSize: FRAME_SIZE, transport: (onBroken) => new StreamTransport(address, onBroken, framed) }
        : { packetSize: DATAGRAM_SIZE, transport: (onBroken) => new UdpTransport(address, onBroken, lookup) }),
    });
  }

  close(): Promise<void> {
    return this.#push.close();
  }
}
