import { scheduledNanoseconds } from './process-usage.ts';
import { pause } from './programs.ts';
import { short, type Row } from './row.ts';
import { warmHost } from './warm-host.ts';

const CONTAINERS = 50;
/** V8 collects garbage once more some seconds after the start. That is not part of the idle time. */
const WARM_UP_MS = 30_000;
const MAX_PERCENT = 0.05;

/** B10: the CPU time of a proxy without requests, over B10_SECONDS (60). */
export async function idleCpu(): Promise<Row[]> {
  const seconds = Number(process.env['B10_SECONDS'] ?? 60);
  const host = await warmHost(CONTAINERS);
  try {
    await pause(WARM_UP_MS);
    const before = scheduledNanoseconds(host.proxy.pid);
    await pause(seconds * 1000);
    const value = (scheduledNanoseconds(host.proxy.pid) - before) / 1e9 / seconds * 100;
    return [{
      benchmark: 'B10', what: `CPU time while idle, ${CONTAINERS} containers, ${seconds} s`, proxy: `${short(value)} %`,
      comparedWith: 'of a core', value, spread: [value, value], target: `≤ ${MAX_PERCENT} %`, met: value <= MAX_PERCENT,
    }];
  } finally {
    await host.stop();
  }
}
