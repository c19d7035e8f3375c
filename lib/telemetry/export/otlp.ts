/**
 * OTLP/HTTP with JSON: what every OpenTelemetry Collector takes on port 4318. Sources: the OpenTelemetry Protocol
 * Specification; its metrics.proto, in the JSON mapping of Protocol Buffers.
 */

import type { Clock } from '../../util/clock.ts';
import { object } from '../../util/json.ts';
import type { Exporter } from './exporter.ts';
import { Counter, Histogram, type Family, type Gauge, type Series } from '../metrics/registry.ts';
import { PostQueue } from './post-queue.ts';
import { attributeValue, batches, Pusher, type Chunk, type PusherOptions } from './pusher.ts';

/** Points of one metric in one piece of JSON. */
const MAX_POINTS_PER_REQUEST = 200;

/** AGGREGATION_TEMPORALITY_CUMULATIVE. In OTLP's JSON enumerations are numbers. */
const CUMULATIVE = 2;

/** The answers that say "later"; others must not be tried again. Source: OTLP specification, "Failures". */
const RETRYABLE = new Set([429, 502, 503, 504]);

type OtlpSettings =
  | 'otlpEndpoint'
  | 'otlpMetricsEndpoint'
  | 'otlpHeaders'
  | 'otlpTimeout'
  | 'otlpCompression'
  | 'otlpInterval'
  | 'otlpServiceName'
  | 'otlpResource'
  | 'otlpDisabled';

export type OtlpOptions = PusherOptions<OtlpSettings>;

/** @returns undefined when no endpoint is set, or OpenTelemetry is switched off */
export function startOtlp(options: OtlpOptions): Exporter | undefined {
  const { config, metrics, onDropped, clock, random, log } = options;
  const url = config.otlpMetricsEndpoint ?? (config.otlpEndpoint && withPath(config.otlpEndpoint));
  if (!url || config.otlpDisabled) return undefined;
  const queue = new PostQueue({
    backend: 'otlp',
    url,
    headers: Object.fromEntries(config.otlpHeaders ?? []),
    gzip: config.otlpCompression === 'gzip',
    timeout: config.otlpTimeout,
    isRetryable: (status) => RETRYABLE.has(status),
    refused: rejectedPoints,
    onDropped,
    clock,
    random,
    log,
  });
  const points = new Points(clock);
  const head = `{"resourceMetrics":[{"resource":${JSON.stringify(resourceOf(options))},"scopeMetrics":[{"scope":${
    JSON.stringify({ name: 'metadataproxy', version: options.version })},"metrics":[`;
  const wrap = (values: string): string => `${head}${values}]}]}]}`;
  return new Pusher([{ queue, batches: () => batches(points.of(metrics.collect()), wrap) }], config.otlpInterval, clock);
}

/** Source: OpenTelemetry Protocol Exporter, "Endpoint URLs for OTLP/HTTP". */
function withPath(base: URL): URL {
  const url = new URL(base);
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/v1/metrics`;
  return url;
}

/** What the user names counts first; service.name has a variable of its own. */
function resourceOf({ config, version, host }: OtlpOptions): object {
  const attributes = new Map([
    ['service.name', 'metadataproxy'],
    ['service.version', version],
    ['service.instance.id', host],
    ['host.name', host],
    ...(config.otlpResource ?? []),
  ]);
  if (config.otlpServiceName) attributes.set('service.name', config.otlpServiceName);
  return { attributes: keyValues([...attributes.keys()], [...attributes.values()]) };
}

/** A label that does not apply is left out. */
function keyValues(names: readonly string[], values: readonly string[]): object[] {
  return names.flatMap((key, index) => {
    const value = values[index] ?? '';
    return value === '' ? [] : [{ key, value: { stringValue: attributeValue(value) } }];
  });
}

/** `partialSuccess.rejectedDataPoints`, which is a string as all 64-bit numbers are, or by some a number. */
function rejectedPoints(text: string): number {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    return 0;
  }
  const count = Number(object(object(answer)['partialSuccess'])['rejectedDataPoints'] ?? 0);
  return Number.isSafeInteger(count) && count > 0 ? count : 0;
}

class Points {
  readonly #clock: Clock;
  /** When the sum of a series was nothing: it is not in the reading of that time. */
  readonly #starts = new WeakMap<Series, number>();
  #lastReading: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#lastReading = clock.now();
  }

  *of(families: readonly Family[]): Generator<Chunk> {
    const reading = this.#clock.now();
    for (const family of families) {
      const { series } = family;
      for (let from = 0; from < series.length; from += MAX_POINTS_PER_REQUEST) {
        const some = series.slice(from, from + MAX_POINTS_PER_REQUEST);
        const points = some.flatMap((one) => this.#point(family.labelNames, one, isCount(family)) ?? []);
        if (points.length > 0) yield { json: JSON.stringify(metric(family, points)), points: points.length };
      }
    }
    this.#lastReading = reading;
  }

  /** @returns undefined for what JSON has no number for */
  #point(labelNames: readonly string[], series: Counter | Gauge | Histogram, whole: boolean): object | undefined {
    const now = this.#clock.now();
    const attributes = { attributes: keyValues(labelNames, series.labels) };
    if (!(series instanceof Counter || series instanceof Histogram)) {
      const { value } = series;
      return Number.isFinite(value) ? { ...attributes, timeUnixNano: nanoseconds(now), asDouble: value } : undefined;
    }
    let start = this.#starts.get(series);
    if (start === undefined) this.#starts.set(series, (start = this.#lastReading));
    const times = {
      ...attributes,
      startTimeUnixNano: nanoseconds(start),
      // The clock may have been set back.
      timeUnixNano: nanoseconds(Math.max(now, start)),
    };
    if (series instanceof Counter) {
      const { value } = series;
      if (!Number.isFinite(value)) return undefined;
      return whole && Number.isSafeInteger(value) ? { ...times, asInt: String(value) } : { ...times, asDouble: value };
    }
    const { counts, bounds, sum } = series;
    if (!Number.isFinite(sum)) return undefined;
    const count = String(counts.reduce((all, one) => all + one, 0));
    return { ...times, count, sum, bucketCounts: counts.map(String), explicitBounds: bounds };
  }
}

/** Seconds have fractions even when one reading has none, and a metric should keep its type. */
function isCount({ name }: Family): boolean {
  return unitOf(name) !== 's';
}

/** As UCUM writes it; the names say it. */
function unitOf(name: string): string | undefined {
  if (/_seconds(_total)?$/.test(name)) return 's';
  // Those of go-metadataproxy.
  if (/\.aws_\w+_time$/.test(name)) return 'ns';
  return name.endsWith('_bytes') ? 'By' : undefined;
}

function metric({ name, help, kind }: Family, dataPoints: object[]): object {
  const described = { name, description: help, unit: unitOf(name) };
  switch (kind) {
    case 'counter':
      return { ...described, sum: { dataPoints, aggregationTemporality: CUMULATIVE, isMonotonic: true } };
    case 'gauge':
      return { ...described, gauge: { dataPoints } };
    case 'histogram':
      return { ...described, histogram: { dataPoints, aggregationTemporality: CUMULATIVE } };
  }
}

/** A 64-bit number in JSON is a decimal string; the clock's own number would lose digits as nanoseconds. */
function nanoseconds(milliseconds: number): string {
  return `${Math.floor(milliseconds)}000000`;
}
