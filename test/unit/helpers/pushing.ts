import { MetricsRegistry } from '../../../lib/telemetry/metrics/registry.ts';
import type { PushOptions } from '../../../lib/telemetry/export/push.ts';
import { Journal } from '../../support/journal.ts';
import { ManualClock } from './manual-clock.ts';

export const INTERVAL = 10_000;

export interface Told {
  readonly clock: ManualClock;
  readonly metrics: MetricsRegistry;
  readonly options: PushOptions;
  /** Lines that were told of as dropped, in all. */
  readonly dropped: () => number;
  /** "trouble: …" and "over", in order. */
  readonly spells: Journal<string>;
}

/** What a backend is given, and what it tells. */
export function told(): Told {
  const clock = new ManualClock();
  const metrics = new MetricsRegistry();
  const spells = new Journal<string>('a spell');
  let dropped = 0;
  return {
    clock,
    metrics,
    spells,
    dropped: () => dropped,
    options: {
      metrics,
      clock,
      random: () => 0,
      interval: INTERVAL,
      onDropped: (lines) => (dropped += lines),
      onError: ({ message }) => spells.add(`trouble: ${message}`),
      onRecovered: () => spells.add('over'),
    },
  };
}
