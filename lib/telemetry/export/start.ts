import { hostname } from 'node:os';
import type { Clock } from '../../util/clock.ts';
import type { Config } from '../../config/config.ts';
import type { Backend } from './backend.ts';
import { DogStatsD } from './dogstatsd.ts';
import type { Log } from '../../log/log.ts';
import type { Metrics } from '../metrics/registry.ts';
import { startNewRelic } from './new-relic.ts';
import { startOtlp } from './otlp.ts';
import type { PushOptions } from './push.ts';
import { Statsd } from './statsd.ts';
import { Statsite } from './statsite.ts';

/** Starts every backend that is set; each is closed by itself. */
export function startBackends(config: Config, metrics: Metrics, log: Log, clock: Clock, version: string): Backend[] {
  const dropped = metrics.counter({
    name: 'metadataproxy.telemetry_dropped_total',
    help: 'Lines, points or events for a backend that were not sent or never arrived',
    labels: ['backend'],
  });
  const common = { metrics, clock, random: Math.random };
  const optionsOf = (backend: string): PushOptions => ({
    ...common,
    interval: config.metricsInterval,
    onDropped: (lines) => dropped.of([backend]).add(lines),
    onTrouble: ({ message }) => log.warning('metrics cannot be sent; trying again', { backend, error: message }),
    onOver: () => log.info('metrics are sent again', { backend }),
  });
  const { statsdAddress, statsiteAddress, datadogAddress } = config;
  const backends: (Backend | undefined)[] = [];
  if (statsdAddress) backends.push(new Statsd({ ...optionsOf('statsd'), address: statsdAddress }));
  if (statsiteAddress) backends.push(new Statsite({ ...optionsOf('statsite'), address: statsiteAddress }));
  if (datadogAddress) backends.push(new DogStatsD({ ...optionsOf('datadog'), address: datadogAddress }));

  const parts = { ...common, config, version, host: hostname(), log };
  backends.push(startOtlp({ ...parts, onDropped: (points) => dropped.of(['otlp']).add(points) }));
  backends.push(startNewRelic({ ...parts, onDropped: (points) => dropped.of(['new-relic']).add(points) }));
  return backends.filter((backend) => backend !== undefined);
}
