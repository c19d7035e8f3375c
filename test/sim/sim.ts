// `make sim`: the load that a fleet of hosts puts on STS, and what STS failures do to the fleet. The hosts run the real
// credential store; clock, STS and containers are simulated. HOSTS, REQUESTS (distinct role requests on a host) and SEED
// change the fleet; the same values give the same results. UPDATE_README=1 writes them to README.md.

import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { HOUR, type History } from './ledger.ts';
import { writeReadmeSection } from '../bench/readme-section.ts';
import { markdown } from '../bench/table.ts';
import { findings, play, SCENES, type Findings, type PlayOptions, type Scene } from './scenes.ts';
import { KEY, lines, plotScene } from './plot.ts';
import { QUOTA_PER_SECOND } from './sts-with-quota.ts';

// There are millions of failures, and their stacks are never read.
Error.stackTraceLimit = 0;

const OUT = 'build/sim';
/** The limit of the peak after a restart, from the second refresh on, as a multiple of the steady rate. */
const MAX_PEAK_RATIO = 3;

const size = {
  hosts: numberFrom('HOSTS', 10_000),
  containersPerHost: 50,
  requestsPerHost: numberFrom('REQUESTS', 10),
};
const seed = numberFrom('SEED', 1);
// A smaller fleet has a proportionally smaller quota.
const stsPerSecond = QUOTA_PER_SECOND * size.hosts / 10_000;
const only = process.env['SCENE'];

/** The task of one thread: a scene, as its index in SCENES. */
interface Task {
  readonly scene: number;
  readonly options: PlayOptions;
}

if (isMainThread) await main();
else {
  const { scene, options } = workerData as Task;
  const played = SCENES[scene];
  if (played !== undefined) parentPort?.postMessage(await play(played, options));
}

async function main(): Promise<void> {
  const began = performance.now();
  const chosen = SCENES.flatMap(({ name }, scene) => only === undefined || only === name ? [scene] : []);
  console.log(`${size.hosts} hosts with ${size.containersPerHost} containers and ${size.requestsPerHost} role requests ` +
    `each; STS answers ${stsPerSecond} calls a second; seed ${seed}`);
  const tasks = chosen.flatMap((scene) => [true, false].map((jitter): Task => (
    { scene, options: { ...size, seed, jitter, stsPerSecond } }
  )));
  const histories = await inThreads(tasks);

  mkdirSync(OUT, { recursive: true });
  const broken: string[] = [];
  const report: Record<string, { jitter: Findings; none: Findings }> = {};
  const plots: string[] = [];
  for (const [at, index] of chosen.entries()) {
    const [scene, jitter, none] = [SCENES[index], histories[2 * at], histories[2 * at + 1]];
    if (scene === undefined || jitter === undefined || none === undefined) continue;
    writeFileSync(`${OUT}/${scene.name}.svg`, plotScene(scene, jitter, none, stsPerSecond));
    plots.push(`${scene.title} (${scene.duration / HOUR} h)\n${lines(jitter, none)}`);
    const found = { jitter: findings(scene, jitter), none: findings(scene, none) };
    report[scene.name] = found;
    print(`\n${scene.title}`, 'with jitter', 'without');
    for (const [name, text] of linesOf(scene)) print(`  ${text}`, format(found.jitter[name]), format(found.none[name]));
    for (const problem of problems(scene.name, found.jitter)) broken.push(`${scene.title}: ${problem}`);
  }
  writeFileSync(`${OUT}/sim.json`, `${JSON.stringify({ ...size, stsPerSecond, seed, scenes: report }, null, 2)}\n`);
  const text = `${KEY}\n\n${plots.join('\n\n')}`;
  console.log(`\n${text}`);
  if (process.env['UPDATE_README'] === '1') writeReadmeSection('sim', `${summary(report)}\n\n\`\`\`text\n${text}\n\`\`\``);
  for (const line of broken) console.error(`\nNOT MET: ${line}`);
  if (broken.length === 0) console.log(`\nAll conditions are met. Plots: ${OUT}/*.svg`);
  console.log(`${Math.round((performance.now() - began) / 1000)} s`);
  process.exitCode = broken.length === 0 ? 0 : 1;
}

/** Runs each task in a thread, one thread per processor. @returns the results in the tasks' order */
async function inThreads(tasks: readonly Task[]): Promise<History[]> {
  const results: History[] = [];
  const queue = [...tasks.entries()];
  const work = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const [at, task] = next;
      const thread = new Worker(fileURLToPath(import.meta.url), { workerData: task });
      results[at] = await new Promise<History>((resolve, reject) => {
        thread.once('message', resolve);
        thread.once('error', reject);
      });
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  return results;
}

/** README's table. */
function summary(report: Readonly<Record<string, { jitter: Findings; none: Findings }>>): string {
  const columns = ['scene', 'jitter', 'steady', 'peak', 'peak from the second refresh on', 'below 15 minutes', 'expired'];
  return markdown(columns, SCENES.flatMap(({ name, title }) => {
    const both = report[name];
    if (both === undefined) return [];
    return ([['with', both.jitter], ['without', both.none]] as const).map(([jitter, found]) => {
      const ratio = (found.peakFromSecondRefresh / found.steady).toFixed(1);
      const { steady, peak, peakFromSecondRefresh, low, expired } = found;
      return [
        title, jitter, `${format(steady)}/s`, `${format(peak)}/s`, `${format(peakFromSecondRefresh)}/s (${ratio} ×)`,
        format(low), format(expired),
      ];
    });
  }));
}

function linesOf({ name }: Scene): [keyof Findings, string][] {
  return [
    ['steady', 'calls/s, steady'],
    ['peak', 'calls/s, peak'],
    ['peakFromFirstRefresh', '  from the first refresh on'],
    ['peakFromSecondRefresh', '  from the second refresh on'],
    ['calls', 'calls'],
    ['throttled', '  throttled'],
    ...(name === 'restart' ? [['allServedAfter', 'seconds until all have credentials'] as [keyof Findings, string]] : []),
    ['low', 'below 15 minutes, maximum'],
    ['expired', 'expired, maximum'],
    ['expiredThoughReachable', '  although STS was reachable in the hour before'],
  ];
}

function* problems(name: string, found: Findings): Generator<string> {
  const ratio = found.peakFromSecondRefresh / found.steady;
  if (name === 'restart' && !(ratio < MAX_PEAK_RATIO)) {
    yield `the peak from the second refresh on is ${ratio.toFixed(2)} times the steady rate, not below ${MAX_PEAK_RATIO}`;
  }
  if (found.expiredThoughReachable > 0) {
    yield `${found.expiredThoughReachable} credentials had expired although STS was reachable in the hour before`;
  }
}

function print(text: string, jitter: string, none: string): void {
  console.log(`${text.padEnd(46)}${jitter.padStart(14)}${none.padStart(14)}`);
}

function format(value: number): string {
  return value < 1000 && !Number.isInteger(value) ? value.toFixed(1) : Math.round(value).toLocaleString('en');
}

function numberFrom(name: string, fallback: number): number {
  const given = process.env[name];
  const value = given === undefined || given === '' ? fallback : Number(given);
  if (!Number.isInteger(value) || value < 1) throw new Error(`${name} is ${given}, expected a whole number from 1 on`);
  return value;
}
