import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpuSeconds } from './process-usage.ts';
import { pause } from './programs.ts';

export interface Load {
  readonly path: string;
  readonly seconds: number;
  readonly connections: number;
  /** Opens a connection per request. */
  readonly close?: boolean;
}

export interface Loaded {
  readonly perSecond: number;
  /** Shares of one core during the load, of the server and of wrk. If wrk's is below 1, wrk waited for the server. */
  readonly serverCpu: number;
  readonly clientCpu: number;
}

/** Installs Debian's wrk if it is missing. */
export function installWrk(): void {
  try {
    execFileSync('wrk', ['--version'], { stdio: 'ignore' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') return; // It prints its version and exits with 1.
    execFileSync('apt-get', ['update', '-qq'], { stdio: 'inherit' });
    execFileSync('apt-get', ['install', '-qq', '-y', '--no-install-recommends', 'wrk'], { stdio: 'inherit' });
  }
}

/** Closed-loop load: one request at a time per connection, from one thread. */
export async function wrk(server: { readonly pid: number; readonly port: number }, load: Load): Promise<Loaded> {
  const { path, seconds, connections, close = false } = load;
  const child = spawn('wrk', [
    '-t1', `-c${connections}`, `-d${seconds}s`, ...(close ? ['-H', 'Connection: close'] : []),
    `http://127.0.0.1:${server.port}${path}`,
  ], { stdio: ['ignore', 'pipe', 'inherit'] });
  let printed = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (printed += text));
  const ended = once(child, 'close');
  const sample = () => ({ at: performance.now(), server: cpuSeconds(server.pid), client: cpuSeconds(child.pid ?? 0) });
  await pause(seconds * 150);
  const before = sample();
  await pause(seconds * 700);
  const after = sample();
  await ended;
  // With a connection per request, some end with a reset, because wrk closes first.
  if (/Non-2xx|timeout [1-9]/.test(printed)) throw new Error(`not every answer was a success:\n${printed}`);
  const perSecond = Number(/Requests\/sec:\s+([\d.]+)/.exec(printed)?.[1]);
  if (!(perSecond > 0)) throw new Error(`no requests were answered:\n${printed}`);
  const span = (after.at - before.at) / 1000;
  return { perSecond, serverCpu: (after.server - before.server) / span, clientCpu: (after.client - before.client) / span };
}
