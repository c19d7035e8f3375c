import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { freePort } from '../support/free-port.ts';
import { accepts, NODE, proxyCommand, shebangFlags } from './programs.ts';
import { alternate, ratioRow, type Row } from './row.ts';

/** A single start is short, and its time varies a lot. */
const STARTS_PER_ROUND = 4;

/** B7: from the start of the process to the first connection that it accepts. */
export async function startUp(rounds: number): Promise<Row[]> {
  const bare = ['build/bench/servers/bare-server.cjs'];
  const proxy = () => timed((port) => proxyCommand(port, 0, {}));
  const baseline = () => timed((port) => ({
    args: [...shebangFlags(), ...bare, JSON.stringify({ port, rawHeaders: [], body: '' })],
    env: { PATH: process.env['PATH'] ?? '' },
  }));
  await proxy();
  await baseline();
  const samples = await alternate(rounds * STARTS_PER_ROUND, proxy, baseline);
  return [ratioRow('B7', 'from exec to listening', 'ms', samples, { atMost: 1.25 })];
}

async function timed(command: (port: number) => { args: string[]; env: Record<string, string> }): Promise<number> {
  const port = await freePort();
  const { args, env } = command(port);
  const began = performance.now();
  const child = spawn(NODE, args, { env, stdio: 'ignore' });
  const ended = once(child, 'exit');
  // The kernel refuses a connection immediately, so the resolution is about a millisecond.
  while (!await accepts(port)) {
    if (child.exitCode !== null) throw new Error(`${args.join(' ')} ended`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  const took = performance.now() - began;
  child.kill('SIGKILL');
  await ended;
  return took;
}
