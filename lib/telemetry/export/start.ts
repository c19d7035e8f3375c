import { hostname } from 'node:os';
import type { Clock } from '../../util/clock.ts';
import type { Config } from '../../config/config.ts';
import { hostAndPort } from '../../util/ip-address.ts';
import type { Log } from '../../log/log.ts';
import type { MetricsRegistry } from '../metrics/registry.ts';
import { Exporter, type ExporterOptions } from './exporter.ts';
import { HttpTransport } from './http.ts';
import { DOGSTATSD_DATAGRAM, DOGSTATSD_STREAM, LineFormat, STATSD, STATSITE } from './lines.ts';
import { OtlpFormat, otlpTargets, rejectedPoints, RETRYABLE, type OtlpTarget } from './otlp.ts';
import type { HostAndPort, SocketPath } from './receiver-address.ts';
import { framed, StreamTransport, UdpTransport, type LookupAll } from './sockets.ts';

/** Starts an exporter for every receiver that the settings name. */
export function startExporters(config: Config, metrics: MetricsRegistry, log: Log, clock: Clock, version: string): Exporter[] {
  const dropped = metrics.counter({
    name: 'metadataproxy.telemetry_dropped_total',
    help: 'Lines or data points that a receiver rejected, or that were lost on the way to it',
    labels: ['backend'],
  });
  const optionsOf = (backend: string, interval: number, receiver: string): ExporterOptions => ({
    metrics,
    clock,
    random: Math.random,
    interval,
    onDropped: (points) => dropped.labels([backend]).add(points),
    onFailed: ({ message }) => log.warning('cannot export metrics; retrying', { backend, receiver, error: message }),
    onRecovered: (points) => log.info('metrics export recovered', { backend, receiver, dropped: points }),
  });
  const { statsdAddress, statsiteAddress, datadogAddress, metricsInterval, otlpInterval } = config;
  const exporters: Exporter[] = [];
  if (statsdAddress) exporters.push(statsd(optionsOf('statsd', metricsInterval, textOf(statsdAddress)), statsdAddress));
  if (statsiteAddress) exporters.push(statsite(optionsOf('statsite', metricsInterval, textOf(statsiteAddress)), statsiteAddress));
  if (datadogAddress) exporters.push(dogstatsd(optionsOf('datadog', metricsInterval, textOf(datadogAddress)), datadogAddress));
  const host = hostname();
  for (const target of otlpTargets(config)) {
    const options = optionsOf(target.name, otlpInterval, target.url.origin);
    exporters.push(otlp(options, target, { resource: config.otlpResource, timeout: config.otlpTimeout, version, host }));
  }
  return exporters;
}

/** @param lookup for tests */
export function statsd(options: ExporterOptions, to: HostAndPort, lookup?: LookupAll): Exporter {
  const { clock } = options;
  return new Exporter(options, new LineFormat(STATSD), (onFailure) => new UdpTransport(to, clock, onFailure, lookup));
}

export function statsite(options: ExporterOptions, to: HostAndPort): Exporter {
  return new Exporter(options, new LineFormat(STATSITE), (onFailure) => new StreamTransport(to, options.clock, onFailure));
}

/** Uses the agent's stream socket rather than its datagram socket, because Node has no Unix datagram sockets. */
export function dogstatsd(options: ExporterOptions, to: HostAndPort | SocketPath): Exporter {
  const { clock } = options;
  if ('path' in to) {
    const format = new LineFormat(DOGSTATSD_STREAM);
    return new Exporter(options, format, (onFailure) => new StreamTransport(to, clock, onFailure, framed));
  }
  return new Exporter(options, new LineFormat(DOGSTATSD_DATAGRAM), (onFailure) => new UdpTransport(to, clock, onFailure));
}

export interface OtlpParts {
  readonly resource: Config['otlpResource'];
  /** Milliseconds for one request. */
  readonly timeout: number;
  readonly version: string;
  /** The host's name. */
  readonly host: string;
}

export function otlp(options: ExporterOptions, target: OtlpTarget, { resource, timeout, version, host }: OtlpParts): Exporter {
  const { clock } = options;
  const { url, headers, gzip, temporality, serviceName } = target;
  const format = new OtlpFormat({ temporality, serviceName, resource, version, host, clock });
  const http = new HttpTransport({ url, headers, gzip, timeout, retryable: RETRYABLE, rejectedPoints, clock });
  return new Exporter(options, format, () => http);
}

function textOf(to: HostAndPort | SocketPath): string {
  return 'path' in to ? to.path : hostAndPort(to.host, to.port);
}
