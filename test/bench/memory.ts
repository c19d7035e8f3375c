import { existsSync, readFileSync, rmSync } from 'node:fs';
import { residentMB } from './process-figures.ts';
import { pause, until, type Program } from './programs.ts';
import { median, ratioRow, short, spreadOf, type Row } from './row.ts';
import { CREDENTIALS_PATH, warmHost } from './warm-host.ts';
import { wrk } from './wrk.ts';

const SETTLES_MS = 2_000;
/** V8 gives memory back when the process has been idle for some seconds. */
const RESTS_MS = 10_000;
const BACK_TO_MB = 5;
const LOAD_SECONDS = 3;

/** B8: resident memory with the SDK loaded, next to the bare server: idle, at most under load, and after that. */
export async function residentMemory(rounds: number): Promise<Row[]> {
  const idle = { ours: [] as number[], theirs: [] as number[] };
  const loaded = { ours: [] as number[], theirs: [] as number[] };
  const after = { ours: [] as number[], theirs: [] as number[] };
  for (let round = 0; round < rounds; round += 1) {
    const host = await warmHost(1);
    try {
      await pause(SETTLES_MS);
      const [ours, theirs] = [residentMB(host.proxy.pid), residentMB(host.bare.pid)];
      idle.ours.push(ours);
      idle.theirs.push(theirs);
      loaded.ours.push(await mostUnderLoad(host.proxy));
      const ended = performance.now();
      loaded.theirs.push(await mostUnderLoad(host.bare));
      const theirsEnded = performance.now();
      await pause(ended + RESTS_MS - performance.now());
      after.ours.push(residentMB(host.proxy.pid) - ours);
      await pause(theirsEnded + RESTS_MS - performance.now());
      after.theirs.push(residentMB(host.bare.pid) - theirs);
    } finally {
      await host.stop();
    }
  }
  const value = median(after.ours);
  return [
    ratioRow('B8', 'resident memory, idle, SDK loaded', 'MB', idle, { atMost: 1.35 }),
    ratioRow('B8', 'resident memory, at most under B1\'s load', 'MB', loaded, { atMost: 1.35 }),
    {
      figure: 'B8', what: 'resident memory after the load (10 s), beyond that before it', ours: `${short(value)} MB`,
      against: `${short(median(after.theirs))} MB`, value, spread: spreadOf(after.ours),
      target: `≤ ${BACK_TO_MB} MB`, met: value <= BACK_TO_MB,
    },
  ];
}

async function mostUnderLoad(program: Program): Promise<number> {
  let most = 0;
  const look = setInterval(() => (most = Math.max(most, residentMB(program.pid))), 50);
  await wrk(program, { path: CREDENTIALS_PATH, connections: 16, seconds: LOAD_SECONDS });
  clearInterval(look);
  return most;
}

const FEW = 1000;
const MANY = 5000;
const HEAP_FILE = 'build/bench/heap';
// V8 would hold garbage for as long as there is room; what stays after a collection is what is kept.
const COLLECT_ON_DEMAND = `
  import { writeFileSync, renameSync } from 'node:fs';
  import { setFlagsFromString } from 'node:v8';
  import { runInNewContext } from 'node:vm';
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc');
  process.on('SIGUSR2', () => {
    collect();
    collect();
    const { heapUsed, external } = process.memoryUsage();
    writeFileSync('${HEAP_FILE}.new', String(heapUsed + external));
    renameSync('${HEAP_FILE}.new', '${HEAP_FILE}');
  });`;

/**
 * B9: what each more container costs, between 1,000 and 5,000 that are known: of V8's heap (and what hangs on it) after a
 * collection, and of resident memory. With SESSION_NAME=shared that is the container alone, else with its credentials.
 */
export async function memoryPerContainer(rounds: number): Promise<Row[]> {
  const rows: Row[] = [];
  for (const session of ['shared', 'container']) {
    const heap: number[] = [];
    const resident: number[] = [];
    for (let round = 0; round < rounds; round += 1) {
      const [few, many] = [await kept(FEW, session), await kept(MANY, session)];
      heap.push((many.heap - few.heap) / (MANY - FEW));
      resident.push((many.resident - few.resident) / (MANY - FEW));
    }
    const value = median(heap) / 1024;
    rows.push({
      figure: 'B9', what: `memory for each known container, SESSION_NAME=${session}`, ours: `${short(value)} kB of heap`,
      against: `${short(median(resident) / 1024)} kB resident`, value,
      spread: spreadOf(heap.map((bytes) => bytes / 1024)), target: '≤ 2 kB', met: value <= 2,
    });
  }
  return rows;
}

async function kept(containers: number, session: string): Promise<{ heap: number; resident: number }> {
  const host = await warmHost(containers, {
    SESSION_NAME: session,
    NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(COLLECT_ON_DEMAND)}`,
  });
  try {
    // Until everybody's credentials are there.
    const expected = session === 'shared' ? 1 : containers;
    await until(() => Promise.resolve(host.sts.issued.entries.length >= expected), 'credentials are missing');
    await pause(1000);
    const look = async (): Promise<number> => {
      rmSync(HEAP_FILE, { force: true });
      process.kill(host.proxy.pid, 'SIGUSR2');
      await until(() => Promise.resolve(existsSync(HEAP_FILE)), 'no garbage was collected');
      return Number(readFileSync(HEAP_FILE, 'utf8'));
    };
    const heaps = [await look(), await look(), await look()];
    return { heap: Math.min(...heaps), resident: residentMB(host.proxy.pid) * 1024 * 1024 };
  } finally {
    await host.stop();
  }
}
