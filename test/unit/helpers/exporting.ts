import { MetricsRegistry } from '../../../lib/telemetry/metrics/registry.ts';
import type { ExporterOptions } from '../../../lib/telemetry/export/exporter.ts';
import { Journal } from '../../support/journal.ts';
import { ManualClock } from './manual-clock.ts';

export const INTERVAL = 10_000;

export interface Exporting {
  readonly clock: ManualClock;
  readonly metrics: MetricsRegistry;
  readonly options: ExporterOptions;
  /** Lines or points reported as dropped, in all. */
  readonly dropped: () => number;
  /** "failed: …" and "recovered, … dropped", in order. */
  readonly outages: Journal<string>;
}

/** What an exporter is given, and what it reports. */
export function exporting(start?: number): Exporting {
  const clock = new ManualClock(start);
  const metrics = new MetricsRegistry();
  const outages = new Journal<string>('an outage');
  let dropped = 0;
  return {
    clock,
    metrics,
    outages,
    dropped: () => dropped,
    options: {
      metrics,
      clock,
      random: () => 0,
      interval: INTERVAL,
      onDropped: (points) => (dropped += points),
      onFailed: ({ message }) => outages.add(`failed: ${message}`),
      onRecovered: (points) => outages.add(`recovered, ${points} dropped`),
    },
  };
}
