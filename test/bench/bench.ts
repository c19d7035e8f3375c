// `make bench`: README's benchmark table. A row is a ratio of two results, measured alternately in one run, or an amount.
//
//   ONLY=B1,B2       only these; B5 needs root, and B6c (B6 with a session per container) runs only on demand
//   ROUNDS=9         more than 5 rounds
//   B10_SECONDS=300  the full length of B10
//   UPDATE_README=1  also writes the table to README.md

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { allExporters } from './exporters.ts';
import { crowd } from './crowd.ts';
import { firstRequest } from './first-request.ts';
import { idleCpu } from './idle.ts';
import { flatLatency } from './latency.ts';
import { memoryPerContainer, residentMemory } from './memory.ts';
import { passThrough } from './pass-through.ts';
import { NODE, shebangFlags } from './programs.ts';
import { writeReadmeSection } from './readme-section.ts';
import type { Row } from './row.ts';
import { size } from './size.ts';
import { startUp } from './startup.ts';
import { table } from './table.ts';
import { keepAliveConnections, newConnections } from './throughput.ts';
import { installWrk } from './wrk.ts';

const OUT = process.env['BENCH_OUT'] ?? 'build/bench.json';
const ROUNDS = Number(process.env['ROUNDS'] ?? 5);
/** B9 varies by only 1 %, and each of its rounds starts the proxy with 5,000 containers. */
const SLOW_ROUNDS = 3;

const BENCHMARKS: Readonly<Record<string, { readonly always: boolean; readonly measure: () => Promise<Row[]> | Row[] }>> = {
  B1: { always: true, measure: () => keepAliveConnections(ROUNDS) },
  B2: { always: true, measure: () => newConnections(ROUNDS) },
  B3: { always: true, measure: () => passThrough(ROUNDS) },
  B4: { always: true, measure: () => flatLatency(2 * ROUNDS - 1) },
  B5: { always: process.getuid?.() === 0, measure: firstRequest },
  B6: { always: true, measure: () => crowd('shared') },
  B6c: { always: false, measure: () => crowd('container') },
  B7: { always: true, measure: () => startUp(ROUNDS) },
  B8: { always: true, measure: () => residentMemory(ROUNDS) },
  B9: { always: true, measure: () => memoryPerContainer(SLOW_ROUNDS) },
  B10: { always: true, measure: idleCpu },
  B11: { always: true, measure: size },
  M: { always: true, measure: () => allExporters(ROUNDS) },
};

const only = process.env['ONLY']?.split(',').map((name) => name.trim()).filter((name) => name !== '');
const unknown = only?.find((name) => BENCHMARKS[name] === undefined);
if (unknown !== undefined) throw new Error(`ONLY has ${unknown}, expected some of ${Object.keys(BENCHMARKS).join(',')}`);

process.env['AWS_EC2_METADATA_DISABLED'] = 'true';
installWrk();
mkdirSync('build/bench', { recursive: true });
const began = performance.now();
const rows: Row[] = [];
for (const [name, { always, measure }] of Object.entries(BENCHMARKS)) {
  if (only === undefined ? !always : !only.includes(name)) continue;
  const at = performance.now();
  const measured = await measure();
  rows.push(...measured);
  console.log(`${table(measured).split('\n').slice(2).join('\n')}  (${Math.round((performance.now() - at) / 1000)} s)`);
}
const machine = {
  processor: `${cpus().length} × ${cpus()[0]?.model.trim()}`,
  memoryMB: Math.round(totalmem() / 1024 / 1024),
  kernel: readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim(),
  node: execFileSync(NODE, ['--version']).toString().trim(),
  flags: shebangFlags(),
  commit: execFileSync('git', ['describe', '--always', '--dirty', '--abbrev=10']).toString().trim(),
  date: new Date().toISOString(),
  rounds: ROUNDS,
  seconds: Math.round((performance.now() - began) / 1000),
};
const heading = `${machine.processor}, Node ${machine.node}${machine.flags.map((flag) => ` ${flag}`).join('')}, commit ` +
  `${machine.commit}, ${machine.rounds} alternating rounds, medians:`;
const whole = `${heading}\n\n${table(rows)}`;
console.log(`\n${whole}\n\n${rows.filter(({ met }) => met === false).length} targets not met; ${machine.seconds} s; ${OUT}`);
writeFileSync(OUT, `${JSON.stringify({ ...machine, rows }, null, 2)}\n`);
if (process.env['UPDATE_README'] === '1') writeReadmeSection('bench', whole);
process.exit(0);
