import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpuSeconds } from './process-figures.ts';
import { pause } from './programs.ts';

export interface Load {
  readonly path: string;
  readonly seconds: number;
  readonly connections: number;
  /** A connection for each request. */
  readonly close?: boolean;
}

export interface Loaded {
  readonly perSecond: number;
  /** Of one core, while it lasted: the server's and wrk's own. Below 1 wrk was waiting for the server. */
  readonly serverCpu: number;
  readonly clientCpu: number;
}

/** Debian's wrk, installed if it is not there. */
export function installWrk(): void {
  try {
    execFileSync('wrk', ['--version'], { stdio: 'ignore' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') return; // It prints its version and exits with 1.
    execFileSync('apt-get', ['update', '-qq'], { stdio: 'inherit' });
    execFileSync('apt-get', ['install', '-qq', '-y', '--no-install-recommends', 'wrk'], { stdio: 'inherit' });
  }
}

/** As many requests as are answered, one at a time on each connection, by one thread. */
export async function wrk(server: { readonly pid: number; readonly port: number }, load: Load): Promise<Loaded> {
  const { path, seconds, connections, close = false } = load;
  const child = spawn('wrk', [
    '-t1', `-c${connections}`, `-d${seconds}s`, ...(close ? ['-H', 'Connection: close'] : []),
    `http://127.0.0.1:${server.port}${path}`,
  ], { stdio: ['ignore', 'pipe', 'inherit'] });
  let printed = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (printed += text));
  const ended = once(child, 'close');
  const look = () => ({ at: performance.now(), server: cpuSeconds(server.pid), client: cpuSeconds(child.pid ?? 0) });
  await pause(seconds * 150);
  const before = look();
  await pause(seconds * 700);
  const after = look();
  await ended;
  // A new connection for each request ends with a reset now and then, as wrk closes first.
  if (/Non-2xx|timeout [1-9]/.test(printed)) throw new Error(`not every answer was a success:\n${printed}`);
  const perSecond = Number(/Requests\/sec:\s+([\d.]+)/.exec(printed)?.[1]);
  if (!(perSecond > 0)) throw new Error(`no requests were answered:\n${printed}`);
  const span = (after.at - before.at) / 1000;
  return { perSecond, serverCpu: (after.server - before.server) / span, clientCpu: (after.client - before.client) / span };
}
