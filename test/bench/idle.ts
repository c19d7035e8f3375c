import { scheduledNanoseconds } from './process-figures.ts';
import { pause } from './programs.ts';
import { short, type Row } from './row.ts';
import { warmHost } from './warm-host.ts';

const CONTAINERS = 50;
/** After its start V8 collects garbage once more; that is none of the idle hours. */
const SETTLES_MS = 30_000;
const AT_MOST_PERCENT = 0.05;

/** B10: the processor time of a proxy that nobody asks anything: B10_SECONDS long, 60 by default. */
export async function idleCpu(): Promise<Row[]> {
  const seconds = Number(process.env['B10_SECONDS'] ?? 60);
  const host = await warmHost(CONTAINERS);
  try {
    await pause(SETTLES_MS);
    const before = scheduledNanoseconds(host.proxy.pid);
    await pause(seconds * 1000);
    const value = (scheduledNanoseconds(host.proxy.pid) - before) / 1e9 / seconds * 100;
    return [{
      figure: 'B10', what: `processor time while idle, ${CONTAINERS} containers, ${seconds} s`, ours: `${short(value)} %`,
      against: 'of a core', value, spread: [value, value], target: `≤ ${AT_MOST_PERCENT} %`, met: value <= AT_MOST_PERCENT,
    }];
  } finally {
    await host.stop();
  }
}
