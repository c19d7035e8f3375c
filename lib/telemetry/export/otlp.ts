/**
 * OTLP/HTTP with JSON, which every OpenTelemetry Collector accepts on port 4318, and New Relic as a preset of it.
 * Sources: OpenTelemetry Protocol Specification; its metrics.proto, in Protocol Buffers' JSON mapping.
 */

import type { Clock } from '../../util/clock.ts';
import type { Config } from '../../config/config.ts';
import { object } from '../../util/json.ts';
import { Counter, Deltas, Histogram, type Delta, type Family, type Gauge, type Series } from '../metrics/registry.ts';
import type { Chunk, Format } from './exporter.ts';

/** Statuses after which the request may be sent again. Source: OTLP specification, "Failures". */
export const RETRYABLE: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/** In OTLP's JSON, enumerations are numbers. Source: metrics.proto, AggregationTemporality. */
const TEMPORALITY = { delta: 1, cumulative: 2 } as const;

export interface OtlpTarget {
  readonly name: 'otlp' | 'new-relic';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly gzip: boolean;
  readonly temporality: keyof typeof TEMPORALITY;
  readonly serviceName: string | undefined;
}

type OtlpSettings =
  | 'otlpEndpoint'
  | 'otlpMetricsEndpoint'
  | 'otlpHeaders'
  | 'otlpCompression'
  | 'otlpServiceName'
  | 'otlpDisabled'
  | 'newRelicAppName'
  | 'newRelicLicense';

/** The endpoints that the settings name. */
export function otlpTargets(config: Pick<Config, OtlpSettings>): OtlpTarget[] {
  const targets: OtlpTarget[] = [];
  const url = config.otlpMetricsEndpoint ?? (config.otlpEndpoint && withMetricsPath(config.otlpEndpoint));
  if (url && !config.otlpDisabled) {
    targets.push({
      name: 'otlp',
      url,
      headers: Object.fromEntries(config.otlpHeaders ?? []),
      gzip: config.otlpCompression === 'gzip',
      temporality: 'cumulative',
      serviceName: config.otlpServiceName,
    });
  }
  if (config.newRelicLicense) targets.push(newRelic(config.newRelicLicense, config.newRelicAppName));
  return targets;
}

/** Source: OpenTelemetry Protocol Exporter, "Endpoint URLs for OTLP/HTTP". */
function withMetricsPath(base: URL): URL {
  const url = new URL(base);
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/v1/metrics`;
  return url;
}

/**
 * New Relic takes every version of OTLP, with the license key in the `api-key` header, recommends delta temporality and
 * gzip, and rejects more than 10^6 bytes. Source: docs.newrelic.com, "New Relic OTLP endpoint". Keys of the European
 * region begin with "eu01xx", by which New Relic's own agents choose the host.
 */
function newRelic(license: string, appName: string): OtlpTarget {
  const host = /^eu\d\dx/i.test(license) ? 'otlp.eu01.nr-data.net' : 'otlp.nr-data.net';
  return {
    name: 'new-relic',
    url: new URL(`https://${host}/v1/metrics`),
    headers: { 'api-key': license },
    gzip: true,
    temporality: 'delta',
    serviceName: appName,
  };
}

/** `partialSuccess.rejectedDataPoints`: a string like all 64-bit numbers, from some receivers a number. */
export function rejectedPoints(response: string): number {
  let parsed: unknown;
  try {
    parsed = JSON.parse(response);
  } catch {
    return 0;
  }
  const count = Number(object(object(parsed)['partialSuccess'])['rejectedDataPoints'] ?? 0);
  return Number.isSafeInteger(count) && count > 0 ? count : 0;
}

/** New Relic's limit for a value, which is the shortest of the receivers'. */
const MAX_VALUE_LENGTH = 4_095;
/** Per metric and call of JSON.stringify, which would delay requests if it took longer. */
const MAX_POINTS = 200;
/** Of one request. It stays below New Relic's limit even if each character were 4 bytes. */
const MAX_CHARACTERS = 250_000;

export interface OtlpFormatOptions {
  readonly temporality: OtlpTarget['temporality'];
  readonly serviceName: string | undefined;
  /** Attributes of the resource. They precede the proxy's own, but for service.name. */
  readonly resource: ReadonlyMap<string, string> | undefined;
  readonly version: string;
  /** The host's name. */
  readonly host: string;
  readonly clock: Clock;
}

export class OtlpFormat implements Format {
  readonly #clock: Clock;
  readonly #deltas: Deltas | undefined;
  readonly #temporality: number;
  readonly #head: string;
  /** When a series did not exist yet: the last round that does not contain it. */
  readonly #starts = new WeakMap<Series, number>();
  #lastRound: number;

  constructor({ temporality, serviceName, resource, version, host, clock }: OtlpFormatOptions) {
    this.#clock = clock;
    this.#deltas = temporality === 'delta' ? new Deltas() : undefined;
    this.#temporality = TEMPORALITY[temporality];
    this.#lastRound = clock.now();
    const attributes = new Map([
      ['service.name', 'metadataproxy'],
      ['service.version', version],
      ['service.instance.id', host],
      ['host.name', host],
      ...(resource ?? []),
    ]);
    if (serviceName) attributes.set('service.name', serviceName);
    const resourceJson = JSON.stringify({ attributes: keyValues([...attributes.keys()], [...attributes.values()]) });
    const scope = JSON.stringify({ name: 'metadataproxy', version });
    this.#head = `{"resourceMetrics":[{"resource":${resourceJson},"scopeMetrics":[{"scope":${scope},"metrics":[`;
  }

  *chunks(families: readonly Family[]): Generator<Chunk, undefined> {
    let [json, points, deltas]: [string, number, Delta[]] = ['', 0, []];
    for (const metric of this.#metrics(families)) {
      if (points > 0 && json.length + metric.json.length > MAX_CHARACTERS) {
        yield this.#request(json, points, deltas);
        [json, points, deltas] = ['', 0, []];
      }
      json += (json === '' ? '' : ',') + metric.json;
      points += metric.points;
      deltas.push(...metric.deltas);
    }
    if (points > 0) yield this.#request(json, points, deltas);
  }

  #request(metrics: string, points: number, deltas: readonly Delta[]): Chunk {
    return { body: `${this.#head}${metrics}]}]}]}`, points, commit: () => this.#deltas?.commit(deltas) };
  }

  *#metrics(families: readonly Family[]): Generator<{ json: string; points: number; deltas: Delta[] }> {
    const round = this.#clock.now();
    for (const family of families) {
      const { series } = family;
      for (let from = 0; from < series.length; from += MAX_POINTS) {
        const deltas: Delta[] = [];
        const points = series.slice(from, from + MAX_POINTS).flatMap((one) => this.#point(family, one, deltas) ?? []);
        if (points.length > 0) yield { json: JSON.stringify(this.#metric(family, points)), points: points.length, deltas };
      }
    }
    this.#lastRound = round;
  }

  #metric({ name, help, kind }: Family, dataPoints: object[]): object {
    const described = { name, description: help, unit: unitOf(name) };
    const aggregationTemporality = this.#temporality;
    switch (kind) {
      case 'counter':
        return { ...described, sum: { dataPoints, aggregationTemporality, isMonotonic: true } };
      case 'gauge':
        return { ...described, gauge: { dataPoints } };
      case 'histogram':
        return { ...described, histogram: { dataPoints, aggregationTemporality } };
    }
  }

  /** @returns undefined for a number that JSON does not have, and for a delta of nothing */
  #point({ name, labelNames }: Family, series: Counter | Gauge | Histogram, deltas: Delta[]): object | undefined {
    const now = this.#clock.now();
    const attributes = { attributes: keyValues(labelNames, series.labels) };
    if (!(series instanceof Counter || series instanceof Histogram)) {
      const { value } = series;
      return Number.isFinite(value) ? { ...attributes, timeUnixNano: nanoseconds(now), asDouble: value } : undefined;
    }
    let start = this.#starts.get(series);
    if (start === undefined) this.#starts.set(series, (start = this.#lastRound));
    const delta = this.#deltas?.read(series, now);
    if (delta?.value === 0 && delta.count === 0) return undefined;
    start = delta?.since ?? start;
    // The clock may have been set back.
    const times = { startTimeUnixNano: nanoseconds(start), timeUnixNano: nanoseconds(Math.max(now, start)) };
    if (series instanceof Counter) {
      const { value } = delta ?? series;
      if (!Number.isFinite(value)) return undefined;
      if (delta) deltas.push(delta);
      // A sum of seconds is a double even when it is whole: a metric keeps its type.
      const isInteger = unitOf(name) !== 's' && Number.isSafeInteger(value);
      return { ...attributes, ...times, ...(isInteger ? { asInt: String(value) } : { asDouble: value }) };
    }
    const { counts } = delta ?? series;
    const sum = delta ? delta.value : series.sum;
    if (!Number.isFinite(sum)) return undefined;
    if (delta) deltas.push(delta);
    const count = counts.reduce((all, one) => all + one, 0);
    return {
      ...attributes, ...times, count: String(count), sum, bucketCounts: counts.map(String), explicitBounds: series.bounds,
    };
  }
}

/** Labels that do not apply are omitted. Values are cut, and lone halves of surrogate pairs replaced, which JSON lacks. */
function keyValues(names: readonly string[], values: readonly string[]): object[] {
  return names.flatMap((key, index) => {
    const value = values[index] ?? '';
    if (value === '') return [];
    const stringValue = value.slice(0, MAX_VALUE_LENGTH).replace(/\p{Surrogate}/gu, '\ufffd');
    return [{ key, value: { stringValue } }];
  });
}

/** In UCUM's notation, as the metric's name says it. */
function unitOf(name: string): string | undefined {
  if (/_seconds(_total)?$/.test(name)) return 's';
  // Those of go-metadataproxy.
  if (/\.aws_\w+_time$/.test(name)) return 'ns';
  return name.endsWith('_bytes') ? 'By' : undefined;
}

/** A decimal string, as JSON writes 64-bit numbers. As a number of nanoseconds, the time would lose digits. */
function nanoseconds(milliseconds: number): string {
  return `${Math.floor(milliseconds)}000000`;
}
