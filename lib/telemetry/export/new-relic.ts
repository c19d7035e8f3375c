/**
 * New Relic: metrics over its Metric API, and, where the account is named, refused and failed credential requests over
 * its Event API. Sources: New Relic's pages on both APIs and their limits; its Telemetry SDK specifications.
 */

import type { Clock } from '../../util/clock.ts';
import type { Config } from '../../config/config.ts';
import type { Exporter } from './exporter.ts';
import { Deltas } from './deltas.ts';
import { Counter, Histogram, type Family, type Gauge } from '../metrics/registry.ts';
import { PostQueue, type Batch } from './post-queue.ts';
import { attributeValue, batches, Pusher, type Chunk, type Push, type PusherOptions } from './pusher.ts';

const METRIC_HOSTS = { us: 'https://metric-api.newrelic.com', eu: 'https://metric-api.eu.newrelic.com' } as const;
const EVENT_HOSTS = {
  us: 'https://insights-collector.newrelic.com',
  eu: 'https://insights-collector.eu01.nr-data.net',
} as const;

/** Milliseconds for one request; New Relic answers before it looks at what it was sent. */
const TIMEOUT_MS = 10_000;

/** The event's type, which NRQL asks for. */
const EVENT_TYPE = 'MetadataproxyRefusal';
/** Events of one interval: the Event API takes two thousand at once, and a host has nothing like it to tell. */
const MAX_EVENTS = 1_000;
/** What counts requests, and by which labels an event tells of them. */
const REQUESTS = 'metadataproxy.http_request';
const EVENT_LABELS = ['handler_name', 'role_name', 'response_code', 'error_description'] as const;
/** Those that give credentials, or say whose there are. */
const HANDLERS = new Set([
  'iam-listing',
  'iam-info-handler',
  'iam-security-credentials-name',
  'iam-security-crentials-for-role',
  'container-credentials',
]);

type NewRelicSettings =
  | 'newRelicAppName'
  | 'newRelicLicense'
  | 'newRelicAccountId'
  | 'newRelicMetricUrl'
  | 'newRelicEventUrl'
  | 'newRelicInterval';

export type NewRelicOptions = PusherOptions<NewRelicSettings>;

/** @returns undefined when there is no license key */
export function startNewRelic(options: NewRelicOptions): Exporter | undefined {
  const { config, metrics, version, host, onDropped, clock, random, log } = options;
  const license = config.newRelicLicense;
  if (!license) return undefined;
  const queueTo = (backend: string, url: URL): PostQueue => {
    const headers = { 'Api-Key': license, 'User-Agent': `metadataproxy/${version}` };
    return new PostQueue({
      backend, url, headers, gzip: true, timeout: TIMEOUT_MS, isRetryable, onDropped, clock, random, log,
    });
  };
  const attributes = { 'service.name': config.newRelicAppName, 'host.name': host, 'service.version': version };
  const urls = newRelicUrls(license, config);
  const points = new Points(clock, attributes);
  const pushes: Push[] = [
    { queue: queueTo('new-relic', urls.metrics), batches: () => points.batches(metrics.collect()) },
  ];
  if (urls.events) {
    const refusals = new Refusals(clock, attributes);
    const queue = queueTo('new-relic-events', urls.events);
    pushes.push({ queue, batches: () => refusals.batches(metrics.collect()) });
  }
  return new Pusher(pushes, config.newRelicInterval, clock);
}

/**
 * Where it goes. Keys of the European region begin with "eu01xx", by which New Relic's own agents tell it.
 *
 * @returns `events` only where the account is named
 */
export function newRelicUrls(
  license: string,
  config: Pick<Config, 'newRelicAccountId' | 'newRelicMetricUrl' | 'newRelicEventUrl'>,
): { readonly metrics: URL; readonly events: URL | undefined } {
  const region = /^eu\d\dx/i.test(license) ? 'eu' : 'us';
  const account = config.newRelicAccountId;
  const metrics = new URL('/metric/v1', config.newRelicMetricUrl ?? METRIC_HOSTS[region]);
  const eventHost = config.newRelicEventUrl ?? EVENT_HOSTS[region];
  return { metrics, events: account ? new URL(`/v1/accounts/${account}/events`, eventHost) : undefined };
}

/** Source: Telemetry SDK specifications, "Response codes". What is too large will be no smaller the next time. */
function isRetryable(status: number): boolean {
  return status === 408 || status === 429 || status >= 500;
}

/** Metrics as New Relic has them: how much counters and histograms grew since the last time, and gauges as they are. */
class Points {
  readonly #deltas = new Deltas();
  readonly #clock: Clock;
  readonly #attributes: object;
  #lastReading: number;
  #lastMonotonic: number;

  constructor(clock: Clock, attributes: object) {
    this.#clock = clock;
    this.#attributes = attributes;
    this.#lastReading = clock.now();
    this.#lastMonotonic = clock.monotonic();
  }

  *batches(families: readonly Family[]): Generator<Batch> {
    const { now, monotonic } = { now: this.#clock.now(), monotonic: this.#clock.monotonic() };
    const interval = Math.max(1, Math.round(monotonic - this.#lastMonotonic));
    const common = { timestamp: Math.floor(this.#lastReading), 'interval.ms': interval, attributes: this.#attributes };
    this.#lastReading = now;
    this.#lastMonotonic = monotonic;
    const head = `[{"common":${JSON.stringify(common)},"metrics":[`;
    yield* batches(this.#chunks(families, now), (values) => `${head}${values}]}]`);
  }

  *#chunks(families: readonly Family[], now: number): Generator<Chunk> {
    for (const { name, labelNames, series } of families) {
      for (const one of series) {
        const value = this.#value(one, now);
        if (!value) continue;
        yield { json: JSON.stringify({ name, ...value, attributes: attributesOf(labelNames, one.labels) }), points: 1 };
      }
    }
  }

  /** @returns undefined for what did not happen, and what JSON has no number for */
  #value(series: Counter | Gauge | Histogram, now: number): object | undefined {
    if (series instanceof Counter) {
      const value = this.#deltas.ofCounter(series);
      return value > 0 && Number.isFinite(value) ? { type: 'count', value } : undefined;
    }
    if (series instanceof Histogram) {
      const { counts, sum } = this.#deltas.ofHistogram(series);
      const value = summary(series.bounds, counts, sum);
      return value.count > 0 && Number.isFinite(sum) ? { type: 'summary', value } : undefined;
    }
    const { value } = series;
    return Number.isFinite(value) ? { type: 'gauge', value, timestamp: Math.floor(now) } : undefined;
  }
}

/** The least and the most are told as the bounds of their buckets, for nothing nearer is known. */
function summary(bounds: readonly number[], counts: readonly number[], sum: number) {
  const count = counts.reduce((all, one) => all + one, 0);
  const mean = sum / count;
  const least = counts.findIndex((one) => one > 0);
  const most = counts.findLastIndex((one) => one > 0);
  const min = count === 1 ? sum : Math.min(bounds[least - 1] ?? 0, mean);
  const max = count === 1 ? sum : Math.max(bounds[most] ?? bounds.at(-1) ?? 0, mean);
  return { count, sum, min, max };
}

/** A label that does not apply is left out; names are of letters, digits, ":", "." and "_" alone. */
function attributesOf(names: readonly string[], values: readonly string[]): Record<string, string> {
  const attributes: Record<string, string> = {};
  for (const [index, name] of names.entries()) {
    const value = values[index] ?? '';
    if (value !== '') attributes[name.replace(/[^\w:.]/g, '_')] = attributeValue(value);
  }
  return attributes;
}

/** One event for each kind of refused or failed credential request of an interval, with how many there were. */
class Refusals {
  readonly #deltas = new Deltas();
  readonly #clock: Clock;
  readonly #attributes: object;

  constructor(clock: Clock, attributes: object) {
    this.#clock = clock;
    this.#attributes = attributes;
  }

  *batches(families: readonly Family[]): Generator<Batch> {
    const timestamp = Math.floor(this.#clock.now());
    const events = new Map<string, Record<string, string | number>>();
    for (const family of families) {
      if (family.name === REQUESTS) this.#count(family, events);
    }
    const chunks = [...events.values()].slice(0, MAX_EVENTS).map((event) => ({
      json: JSON.stringify({ eventType: EVENT_TYPE, timestamp, ...this.#attributes, ...event }),
      points: 1,
    }));
    yield* batches(chunks, (values) => `[${values}]`);
  }

  #count({ labelNames, series }: Family, events: Map<string, Record<string, string | number>>): void {
    const columns = EVENT_LABELS.map((name) => labelNames.indexOf(name));
    for (const one of series) {
      if (!(one instanceof Counter)) continue;
      const count = this.#deltas.ofCounter(one);
      const values = columns.map((column) => one.labels[column] ?? '');
      const [handler = '', , code = ''] = values;
      if (count <= 0 || Number(code) < 400 || !HANDLERS.has(handler)) continue;
      const key = values.join('\n');
      const event = events.get(key) ?? { ...attributesOf(EVENT_LABELS, values), count: 0 };
      events.set(key, { ...event, count: Number(event['count']) + count });
    }
  }
}
