import { hostname } from 'node:os';
import type { Clock } from '../../util/clock.ts';
import type { Config } from '../../config/config.ts';
import type { Exporter } from './exporter.ts';
import { DogStatsD } from './dogstatsd.ts';
import type { Log } from '../../log/log.ts';
import type { MetricsRegistry } from '../metrics/registry.ts';
import { startNewRelic } from './new-relic.ts';
import { startOtlp } from './otlp.ts';
import type { PushOptions } from './push.ts';
import { Statsd } from './statsd.ts';
import { Statsite } from './statsite.ts';

/** Starts every backend that is set; each is closed by itself. */
export function startExporters(config: Config, metrics: MetricsRegistry, log: Log, clock: Clock, version: string): Exporter[] {
  const dropped = metrics.counter({
    name: 'metadataproxy.telemetry_dropped_total',
    help: 'Lines, points or events for a backend that were not sent or never arrived',
    labels: ['backend'],
  });
  const common = { metrics, clock, random: Math.random };
  const optionsOf = (backend: string): PushOptions => ({
    ...common,
    interval: config.metricsInterval,
    onDropped: (lines) => dropped.labels([backend]).add(lines),
    onError: ({ message }) => log.warning('metrics cannot be sent; trying again', { backend, error: message }),
    onRecovered: () => log.info('metrics are sent again', { backend }),
  });
  const { statsdAddress, statsiteAddress, datadogAddress } = config;
  const exporters: (Exporter | undefined)[] = [];
  if (statsdAddress) exporters.push(new Statsd({ ...optionsOf('statsd'), address: statsdAddress }));
  if (statsiteAddress) exporters.push(new Statsite({ ...optionsOf('statsite'), address: statsiteAddress }));
  if (datadogAddress) exporters.push(new DogStatsD({ ...optionsOf('datadog'), address: datadogAddress }));

  const parts = { ...common, config, version, host: hostname(), log };
  exporters.push(startOtlp({ ...parts, onDropped: (points) => dropped.labels(['otlp']).add(points) }));
  exporters.push(startNewRelic({ ...parts, onDropped: (points) => dropped.labels(['new-relic']).add(points) }));
  return exporters.filter((backend) => backend !== undefined);
}
