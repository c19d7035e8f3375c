// `make bench`: how many requests a second, next to a bare server that answers the same bytes. Ratios, taken in turns in
// one run, because machines are shared and noisy.

import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const ROUNDS = 5;
const SECONDS = 2;
const PATH = '/latest/meta-data/iam/security-credentials/demo-role';

installWrk();
const children = [];
try {
  const proxy = await start('bin/metadataproxy', ['--mock', '--mock-credentials', '--server', '127.0.0.1:0'], {
    ADMIN_ADDR: 'off', LOG_LEVEL: 'error', LOG_FORMAT: 'json', MAX_REQUESTS_PER_SECOND: '0', DOCKER_URL: 'unix:///none',
  });
  const answer = await (await fetch(`http://127.0.0.1:${proxy}${PATH}`)).text();
  const bare = await start(process.execPath, ['test/bench/bare-server.mjs', answer], {});
  const figures = [
    await compare('B1 warm credentials, keep-alive, 16 connections', proxy, bare, []),
    await compare('B2 warm credentials, a new connection a request', proxy, bare, ['-H', 'Connection: close']),
  ];
  const machine = `${cpus().length} × ${cpus()[0]?.model.trim()}, Node ${process.version}`;
  console.log(`\n${machine}, ${ROUNDS} rounds of ${SECONDS} s in turns\n`);
  for (const { name, ratio, least, most, proxy: ours, bare: theirs } of figures) {
    console.log(`${name}\n  ${ours} against ${theirs} requests/s: ratio ${ratio} (${least} to ${most})`);
  }
  mkdirSync('build', { recursive: true });
  writeFileSync('build/bench.json', `${JSON.stringify({ machine, rounds: ROUNDS, seconds: SECONDS, figures }, null, 2)}\n`);
} finally {
  for (const child of children) child.kill();
}

function installWrk() {
  try {
    execFileSync('wrk', ['--version'], { stdio: 'ignore' });
  } catch (error) {
    if (error.code !== 'ENOENT') return; // It prints its version and exits with 1.
    execFileSync('apt-get', ['update'], { stdio: 'inherit' });
    execFileSync('apt-get', ['install', '-y', '--no-install-recommends', 'wrk'], { stdio: 'inherit' });
  }
}

/** @returns the port that the program says it listens on: in a line of its own, or at the end of the log's */
async function start(program, args, env) {
  const options = { env: { PATH: process.env.PATH, AWS_EC2_METADATA_DISABLED: 'true', ...env, LOG_LEVEL: 'info' } };
  const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  children.push(child);
  const port = (line) => /^\d+$|"address":".*:(\d+)"/.exec(line);
  const found = Promise.withResolvers ? Promise.withResolvers() : withResolvers();
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      const match = port(line);
      if (match) found.resolve(Number(match[1] ?? match[0]));
    });
  }
  void once(child, 'exit').then(() => found.reject(new Error(`${program} ended`)));
  return found.promise;
}

function withResolvers() {
  let resolve;
  let reject;
  const promise = new Promise((...both) => ([resolve, reject] = both));
  return { promise, resolve, reject };
}

async function compare(name, proxy, bare, more) {
  const rounds = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const [ours, theirs] = [await load(proxy, more), await load(bare, more)];
    rounds.push({ ours, theirs, ratio: ours / theirs });
  }
  const middle = (key) => rounds.map((round) => round[key]).sort((a, b) => a - b)[Math.floor(ROUNDS / 2)];
  const ratios = rounds.map(({ ratio }) => ratio);
  const round2 = (number) => Math.round(number * 100) / 100;
  return {
    name,
    proxy: Math.round(middle('ours')),
    bare: Math.round(middle('theirs')),
    ratio: round2(middle('ratio')),
    least: round2(Math.min(...ratios)),
    most: round2(Math.max(...ratios)),
  };
}

async function load(port, more) {
  const args = ['-t1', '-c16', `-d${SECONDS}s`, ...more, `http://127.0.0.1:${port}${PATH}`];
  const { stdout } = await promisify(execFile)('wrk', args);
  if (/Non-2xx/.test(stdout)) throw new Error(`not every answer was a success:\n${stdout}`);
  return Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]);
}
