import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { DockerEngine } from '../support/docker-engine.ts';
import { freePort } from '../support/free-port.ts';
import { environment } from '../support/proxy.ts';
import type { Sts } from '../support/sts.ts';

const PROXY = 'bin/metadataproxy';
const BUILT = 'build/bench';
/** The Node that runs proxy and baseline. `make test-matrix` sets it to each version. */
export const NODE = process.env['BENCH_NODE'] ?? process.execPath;
/** Additional flags for proxy and baseline, for experiments. */
const EXTRA_FLAGS = (process.env['BENCH_FLAGS'] ?? '').split(' ').filter((flag) => flag !== '');
const START_TIMEOUT_MS = 90_000;

export interface Program {
  readonly pid: number;
  readonly port: number;
  /** The operator's port, of a proxy. */
  readonly adminPort: number;
  stop(): Promise<void>;
}

export interface ProxyOptions {
  readonly docker?: DockerEngine;
  readonly sts?: Sts;
  readonly metadataUrl?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** The flags in the first line of bin/metadataproxy. The baseline gets the same. */
export function shebangFlags(): string[] {
  const first = readFileSync(PROXY, 'utf8').split('\n', 1)[0] ?? '';
  return [...first.split(' ').filter((word) => word.startsWith('--')), ...EXTRA_FLAGS];
}

/** The arguments of `node` and the environment that run the proxy. Only PATH comes from this machine. */
export function proxyCommand(
  port: number, adminPort: number, { docker, sts, metadataUrl, env }: ProxyOptions,
): { args: string[]; env: Record<string, string> } {
  const settings = {
    PORT: String(port),
    ADMIN_ADDR: adminPort === 0 ? 'off' : `127.0.0.1:${adminPort}`,
    LOG_FORMAT: undefined,
    AWS_REGION: 'eu-west-1',
    // The load comes from one address.
    MAX_REQUESTS_PER_SECOND: '0',
    ...(metadataUrl !== undefined && { METADATA_URL: metadataUrl }),
    ...env,
  };
  return {
    args: [...shebangFlags(), PROXY],
    env: environment({ ...(docker && { docker }), ...(sts && { sts }), env: settings }),
  };
}

/** Starts the built program as a service does, with its log in a file. Resolves when it is ready. */
export async function startProxy(options: ProxyOptions): Promise<Program> {
  const [port, adminPort] = [await freePort(), await freePort()];
  const command = proxyCommand(port, adminPort, options);
  const program = await start(command.args, port, command.env, adminPort);
  const isReady = async (): Promise<boolean> => (await fetch(`http://127.0.0.1:${adminPort}/readyz`)).ok;
  if (options.docker !== undefined) await until(isReady, 'the proxy does not become ready');
  return program;
}

/** Starts a server from servers/, with its options as JSON. */
export async function startBuilt(name: string, options: object): Promise<Program> {
  const port = await freePort();
  const args = [...shebangFlags(), `${BUILT}/servers/${name}.cjs`, JSON.stringify({ ...options, port })];
  return start(args, port, { PATH: process.env['PATH'] ?? '' });
}

/** Runs a program from this folder to its end. @returns the JSON that it printed */
export async function runBuilt(name: string, options: object): Promise<unknown> {
  const child = spawn(process.execPath, [`${BUILT}/${name}.mjs`, JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let printed = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (printed += text));
  const [code] = await once(child, 'close') as [number | null];
  if (code !== 0) throw new Error(`${name} ended with ${code}`);
  return JSON.parse(printed);
}

async function start(
  args: readonly string[], port: number, env: Record<string, string>, adminPort = 0,
): Promise<Program> {
  mkdirSync(BUILT, { recursive: true });
  const log = openSync(`${BUILT}/programs.log`, 'a');
  const child = spawn(NODE, args, { env, stdio: ['ignore', log, log] });
  closeSync(log);
  const ended = once(child, 'exit');
  // The program must not outlive the benchmark, however that ends.
  const kill = (): void => void child.kill('SIGKILL');
  process.once('exit', kill);
  await until(() => accepts(port), `${args.join(' ')} does not listen; see ${BUILT}/programs.log`);
  return {
    pid: child.pid ?? 0,
    port,
    adminPort,
    stop: async () => {
      process.removeListener('exit', kill);
      child.kill('SIGKILL');
      await ended;
    },
  };
}

export function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('close', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

export async function until(condition: () => Promise<boolean>, failure: string): Promise<void> {
  for (const deadline = Date.now() + START_TIMEOUT_MS; !await condition().catch(() => false);) {
    if (Date.now() > deadline) throw new Error(failure);
    await pause(5);
  }
}

export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
