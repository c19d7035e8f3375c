import { existsSync, readFileSync, rmSync } from 'node:fs';
import { collectsOnSignal } from '../support/forced-collection.ts';
import { residentMB } from './process-usage.ts';
import { pause, until, type Program } from './programs.ts';
import { median } from '../support/statistics.ts';
import { ratioRow, short, spreadOf, type Row } from './row.ts';
import { CREDENTIALS_PATH, warmHost } from './warm-host.ts';
import { wrk } from './wrk.ts';

const WARM_UP_MS = 2_000;
/** V8 returns memory after the process has been idle for some seconds. */
const IDLE_MS = 10_000;
const MAX_GROWTH_MB = 5;
const LOAD_SECONDS = 3;

/** B8: resident memory with the SDK loaded, compared with the bare server: idle, peak under load, and after the load. */
export async function residentMemory(rounds: number): Promise<Row[]> {
  const idle = { proxy: [] as number[], baseline: [] as number[] };
  const loaded = { proxy: [] as number[], baseline: [] as number[] };
  const after = { proxy: [] as number[], baseline: [] as number[] };
  for (let round = 0; round < rounds; round += 1) {
    const host = await warmHost(1);
    try {
      await pause(WARM_UP_MS);
      const [proxy, baseline] = [residentMB(host.proxy.pid), residentMB(host.bare.pid)];
      idle.proxy.push(proxy);
      idle.baseline.push(baseline);
      loaded.proxy.push(await peakUnderLoad(host.proxy));
      const ended = performance.now();
      loaded.baseline.push(await peakUnderLoad(host.bare));
      const baselineEnded = performance.now();
      await pause(ended + IDLE_MS - performance.now());
      after.proxy.push(residentMB(host.proxy.pid) - proxy);
      await pause(baselineEnded + IDLE_MS - performance.now());
      after.baseline.push(residentMB(host.bare.pid) - baseline);
    } finally {
      await host.stop();
    }
  }
  const value = median(after.proxy);
  return [
    ratioRow('B8', 'resident memory, idle, SDK loaded', 'MB', idle, { atMost: 1.35 }),
    ratioRow('B8', 'peak resident memory under B1\'s load', 'MB', loaded, { atMost: 1.35 }),
    {
      benchmark: 'B8', what: 'growth of resident memory after the load (10 s later)', proxy: `${short(value)} MB`,
      comparedWith: `${short(median(after.baseline))} MB`, value, spread: spreadOf(after.proxy),
      target: `≤ ${MAX_GROWTH_MB} MB`, met: value <= MAX_GROWTH_MB,
    },
  ];
}

async function peakUnderLoad(program: Program): Promise<number> {
  let peak = 0;
  const sampling = setInterval(() => (peak = Math.max(peak, residentMB(program.pid))), 50);
  await wrk(program, { path: CREDENTIALS_PATH, connections: 16, seconds: LOAD_SECONDS });
  clearInterval(sampling);
  return peak;
}

const FEW = 1000;
const MANY = 5000;
const HEAP_FILE = 'build/bench/heap';
const COLLECTION = collectsOnSignal(`
      const { heapUsed, external } = process.memoryUsage();
      writeFileSync('${HEAP_FILE}.new', String(heapUsed + external));
      renameSync('${HEAP_FILE}.new', '${HEAP_FILE}');`);

/**
 * B9: memory per known container, as the difference between 1,000 and 5,000: of V8's heap and its external memory after a
 * collection, and of resident memory. With SESSION_NAME=shared it is the container alone, else also its credentials.
 */
export async function memoryPerContainer(rounds: number): Promise<Row[]> {
  const rows: Row[] = [];
  for (const session of ['shared', 'container']) {
    const heap: number[] = [];
    const resident: number[] = [];
    for (let round = 0; round < rounds; round += 1) {
      const [few, many] = [await memoryOf(FEW, session), await memoryOf(MANY, session)];
      heap.push((many.heap - few.heap) / (MANY - FEW));
      resident.push((many.resident - few.resident) / (MANY - FEW));
    }
    const value = median(heap) / 1024;
    rows.push({
      benchmark: 'B9', what: `memory per known container, SESSION_NAME=${session}`, proxy: `${short(value)} kB of heap`,
      comparedWith: `${short(median(resident) / 1024)} kB resident`, value,
      spread: spreadOf(heap.map((bytes) => bytes / 1024)), target: '≤ 2 kB', met: value <= 2,
    });
  }
  return rows;
}

async function memoryOf(containers: number, session: string): Promise<{ heap: number; resident: number }> {
  const host = await warmHost(containers, {
    SESSION_NAME: session,
    NODE_OPTIONS: COLLECTION,
  });
  try {
    // Until all credentials are stored.
    const expected = session === 'shared' ? 1 : containers;
    await until(() => Promise.resolve(host.sts.issued.entries.length >= expected), 'credentials are missing');
    await pause(1000);
    const measure = async (): Promise<number> => {
      rmSync(HEAP_FILE, { force: true });
      process.kill(host.proxy.pid, 'SIGUSR2');
      await until(() => Promise.resolve(existsSync(HEAP_FILE)), 'no garbage was collected');
      return Number(readFileSync(HEAP_FILE, 'utf8'));
    };
    const heaps = [await measure(), await measure(), await measure()];
    return { heap: Math.min(...heaps), resident: residentMB(host.proxy.pid) * 1024 * 1024 };
  } finally {
    await host.stop();
  }
}
