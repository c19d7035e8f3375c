/**
 * The formats of statsd, statsite and DogStatsD: one line per value, and as many lines per packet as fit.
 *
 * Counters and histograms are exported when they grew. Gauges are exported in every round: datagrams get lost, receivers
 * restart, and Datadog's agent always, statsite by default and statsd with `deleteGauges` forget a gauge that they do
 * not receive.
 */

import { Counter, Deltas, Gauge, quantile, type Delta, type Family } from '../metrics/registry.ts';
import type { Chunk, Format } from './exporter.ts';

/** One value, as every dialect of statsd has it. */
export interface Sample {
  /** The family's name; for a histogram with a suffix, such as `name.p95`. */
  readonly name: string;
  /** A count is the growth since the last delivery. */
  readonly kind: 'count' | 'gauge';
  readonly value: number;
  readonly labelNames: readonly string[];
  /** In the order of their names; '' where a label does not apply. */
  readonly labels: readonly string[];
}

export interface Dialect {
  /** @returns whole lines, each with its \n */
  readonly line: (sample: Sample) => string;
  /** Bytes. */
  readonly maxPacketLength: number;
}

/** The packet size of go-metrics (statsdMaxLen), which fits into an Ethernet frame. */
export const STATSD: Dialect = { line: statsdLine, maxPacketLength: 1_400 };

/** Over TCP. A packet is one write, and all that is buffered while the receiver does not read. */
export const STATSITE: Dialect = { line: statsdLine, maxPacketLength: 16 * 1024 };

/** As Datadog's own clients: 1,500 bytes less the headers of IPv4 and UDP and a reserve. */
export const DOGSTATSD_DATAGRAM: Dialect = { line: dogstatsdLine, maxPacketLength: 1_432 };

/** On a stream the agent disconnects a client that sends more (`dogstatsd_buffer_size`). */
export const DOGSTATSD_STREAM: Dialect = { line: dogstatsdLine, maxPacketLength: 8 * 1024 };

/** In bytes. Receivers read 8 kB at once, as Datadog's agent does (`dogstatsd_buffer_size`). */
const MAX_LINE_LENGTH = 8 * 1024;

/**
 * Characters that end a name or have a meaning in it. go-metrics replaced blanks and ":". Containers choose some label
 * values, and the other characters would make one pass for another metric, a rate, a tag (";" in today's statsd) or a
 * line of its own.
 */
const STATSD_UNSAFE = /[\s\p{Cc}:;|@#,]/gu;

/**
 * `name.value.value:1.000000|c`, with the label values and Go's %f, as go-metrics wrote it.
 *
 * statsd and statsite take a signed gauge for a change of its value, unless that is 0: a negative gauge is set to 0 first.
 * Source: statsd's docs/metric_types.md.
 */
export function statsdLine({ name, kind, value, labels }: Sample): string {
  const key = [name, ...labels.filter((label) => label !== '')].join('.').replace(STATSD_UNSAFE, '_');
  if (kind === 'count') return `${key}:${value.toFixed(6)}|c\n`;
  const line = `${key}:${value.toFixed(6)}|g\n`;
  return value < 0 ? `${key}:0.000000|g\n${line}` : line;
}

/** A name has ASCII letters, digits, underscores and dots only. Source: DogStatsD's datagram format. */
const DOGSTATSD_NOT_IN_NAME = /[^\w.]/g;
/** Characters that end a tag, or would make it pass for another tag, field or line. */
const DOGSTATSD_UNSAFE = /[\s\p{Cc}:|@#,]/gu;

/** `name:1|c|#label:value,label:value`. Source: docs.datadoghq.com/extend/dogstatsd/datagram_shell. */
export function dogstatsdLine({ name, kind, value, labelNames, labels }: Sample): string {
  const tags = labelNames.flatMap((label, index) => {
    const text = labels[index] ?? '';
    return text === '' ? [] : `${label.replace(DOGSTATSD_UNSAFE, '_')}:${text.replace(DOGSTATSD_UNSAFE, '_')}`;
  });
  const number = Number.isInteger(value) ? value.toFixed(0) : value.toFixed(6);
  const line = `${name.replace(DOGSTATSD_NOT_IN_NAME, '_')}:${number}|${kind === 'count' ? 'c' : 'g'}`;
  return tags.length === 0 ? `${line}\n` : `${line}|#${tags.join(',')}\n`;
}

const QUANTILES = [['p50', 0.5], ['p95', 0.95], ['p99', 0.99]] as const;

export class LineFormat implements Format {
  readonly #dialect: Dialect;
  readonly #deltas = new Deltas();

  constructor(dialect: Dialect) {
    this.#dialect = dialect;
  }

  /** A series' lines share a packet if they fit into one, so that they are committed together. */
  *chunks(families: readonly Family[]): Generator<Chunk, undefined> {
    const { line, maxPacketLength } = this.#dialect;
    let packet = new Packet(this.#deltas);
    for (const { samples, delta } of this.#bySeries(families)) {
      const all = samples.map(line);
      const lines = all.filter((text) => Buffer.byteLength(text) <= MAX_LINE_LENGTH);
      const tooLong = all.length - lines.length;
      if (tooLong > 0) yield { body: '', points: tooLong, commit: () => this.#deltas.commit(lines.length === 0 ? delta : []) };
      if (lines.length === 0) continue;
      const length = lines.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
      const blocks = length <= maxPacketLength ? [lines.join('')] : lines;
      for (const block of blocks) {
        if (!packet.fits(block, maxPacketLength)) {
          yield packet;
          packet = new Packet(this.#deltas);
        }
        packet.add(block, lines.length / blocks.length);
      }
      packet.deltas.push(...delta);
    }
    if (packet.points > 0) yield packet;
  }

  /** Lazy: a series is read right before its lines are packed. */
  *#bySeries(families: readonly Family[]): Generator<{ samples: Sample[]; delta: Delta[] }> {
    for (const { name, labelNames, series: all } of families) {
      for (const series of all) {
        const sample = (kind: Sample['kind'], value: number, suffix = ''): Sample =>
          ({ name: name + suffix, kind, value, labelNames, labels: series.labels });
        if (series instanceof Gauge) {
          // statsd has no form for NaN, which a gauge without a value has, nor for infinity.
          if (Number.isFinite(series.value)) yield { samples: [sample('gauge', series.value)], delta: [] };
          continue;
        }
        const delta = this.#deltas.read(series);
        if (series instanceof Counter) {
          if (delta.value > 0) yield { samples: [sample('count', delta.value)], delta: [delta] };
        } else if (delta.count > 0) {
          const quantiles = QUANTILES.map(([suffix, q]) => sample('gauge', quantile(series.bounds, delta.counts, q), `.${suffix}`));
          const samples = [sample('count', delta.count, '.count'), sample('count', delta.value, '.sum'), ...quantiles];
          yield { samples, delta: [delta] };
        }
      }
    }
  }
}

class Packet implements Chunk {
  body = '';
  points = 0;
  readonly deltas: Delta[] = [];
  readonly #committer: Deltas;
  #length = 0;

  constructor(committer: Deltas) {
    this.#committer = committer;
  }

  /** A line that is longer than a packet has one of its own. */
  fits(lines: string, max: number): boolean {
    return this.points === 0 || this.#length + Buffer.byteLength(lines) <= max;
  }

  add(lines: string, count: number): void {
    this.body += lines;
    this.points += count;
    this.#length += Buffer.byteLength(lines);
  }

  commit(): void {
    this.#committer.commit(this.deltas);
  }
}
