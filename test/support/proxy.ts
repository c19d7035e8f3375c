import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { once } from 'node:events';
import type { Server } from 'node:net';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { request } from './client.ts';
import type { DockerEngine } from './docker-engine.ts';
import { freePort } from './free-port.ts';
import type { Imds } from './imds.ts';
import { Journal } from './journal.ts';
import type { Sts } from './sts.ts';

export { raw, request } from './client.ts';

/** The built program, from the repository's root. */
const PROGRAM = 'bin/metadataproxy';

/** Nothing listens there, so a service that the test does not provide is unreachable, and never the real one. */
const NOWHERE = 'http://127.0.0.1:1';

/** The source credentials of every proxy under test. */
export const SOURCE_ACCESS_KEY = 'AKIABASE';
export const SOURCE_SECRET_KEY = 'BaseSecret';

export interface LogLine {
  /** The whole line. */
  readonly text: string;
  /** `msg` and `level` of a JSON line; '' for other lines. */
  readonly msg: string;
  readonly level: string;
  /** All fields of a JSON line. */
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface ProxyOptions {
  readonly docker?: DockerEngine;
  readonly imds?: Imds;
  readonly sts?: Sts;
  /** Overrides the defaults; undefined removes a variable. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly args?: readonly string[];
  /** A listening socket that the program inherits, as from systemd. */
  readonly inherited?: Server;
}

/** The part of a TestContext that ends the program. */
export interface Test {
  after(end: () => Promise<void>): void;
}

export interface Proxy {
  /** The containers' port, on 127.0.0.1. */
  readonly port: number;
  /** The operator's port, 0 if ADMIN_ADDR is "off". */
  readonly adminPort: number;
  readonly pid: number;
  /** The lines that it wrote to stderr. */
  readonly logs: Journal<LogLine>;
  /** The first line that matches (or whose message is `what`), written or future. */
  awaitLog(what: string | ((line: LogLine) => boolean)): Promise<LogLine>;
  /** Sends the signal and waits for the exit. A second call gives the same result. */
  stop(signal?: NodeJS.Signals): Promise<Exit>;
  /** SIGHUP: the proxy reads its files again and logs the result. */
  reload(): void;
  /** Any other signal, such as SIGUSR2. */
  signal(signal: NodeJS.Signals): void;
}

/**
 * Starts the built program on free ports of 127.0.0.1 and resolves when it listens. Of this machine's environment it gets
 * only PATH: no setting, credential or AWS profile reaches it, and it reaches no real endpoint. It is killed at the end
 * of the test. Rejects with its output if it exits before it listens.
 */
export async function startProxy(test: Test, options: ProxyOptions = {}): Promise<Proxy> {
  const env = environment(options);
  const child = start(env, options);
  const logs = new Journal<LogLine>('a log line');
  createInterface({ input: child.stderr }).on('line', (text) => logs.add(parseLine(text)));
  const exit = exitOf(child);
  test.after(async () => {
    child.kill('SIGKILL');
    await exit;
  });

  void exit.then(({ code, signal }) => logs.end(`the proxy has ended (${code ?? signal})`));
  const [port, adminPort] = await Promise.all([
    portIn(logs, 'listening'),
    env['ADMIN_ADDR'] === 'off' ? 0 : portIn(logs, 'admin listening'),
  ]);

  return {
    port,
    adminPort,
    pid: child.pid ?? 0,
    logs,
    awaitLog: (what) => logs.first(typeof what === 'string' ? ({ msg }) => msg === what : what),
    stop: (signal = 'SIGTERM') => {
      child.kill(signal);
      return exit;
    },
    reload: () => void child.kill('SIGHUP'),
    signal: (signal) => void child.kill(signal),
  };
}

/** A program whose log a test reads line by line, if at all. */
export interface RawProxy {
  readonly port: number;
  /** 0 if ADMIN_ADDR is "off". */
  readonly adminPort: number;
  readonly pid: number;
  readonly lines: Journal<string>;
  stop(signal?: NodeJS.Signals): Promise<Exit>;
  signal(signal: NodeJS.Signals): void;
}

/**
 * Starts the built program on chosen ports, for log levels and formats from which startProxy() cannot read them.
 * Resolves when it answers containers.
 */
export async function startProxyWithRawLog(test: Test, options: ProxyOptions): Promise<RawProxy> {
  const [port, freeAdminPort] = [await freePort(), await freePort()];
  const env = { PORT: String(port), ADMIN_ADDR: `127.0.0.1:${freeAdminPort}`, ...options.env };
  const adminPort = env.ADMIN_ADDR === 'off' ? 0 : freeAdminPort;
  const child = start(environment({ ...options, env }), options);
  const lines = new Journal<string>('a log line');
  createInterface({ input: child.stderr }).on('line', (line) => lines.add(line));
  const exit = exitOf(child);
  let hasEnded = false;
  void exit.then(({ code, signal }) => {
    hasEnded = true;
    lines.end(`the proxy has ended (${code ?? signal})`);
  });
  test.after(async () => {
    child.kill('SIGKILL');
    await exit;
  });
  const status = (): Promise<number> => request({ port, path: '/healthcheck' }).then((answer) => answer.status, () => 0);
  while (await status() !== 200) {
    if (hasEnded) throw new Error(`the proxy has ended: ${lines.entries.join('\n')}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const stop = (signal: NodeJS.Signals = 'SIGTERM'): Promise<Exit> => {
    child.kill(signal);
    return exit;
  };
  return { port, adminPort, pid: child.pid ?? 0, lines, stop, signal: (signal) => void child.kill(signal) };
}

/** Runs the program to its end: for --help, --version and invalid settings. */
export async function runToEnd(
  options: ProxyOptions = {},
): Promise<Exit & { readonly stdout: string; readonly stderr: string }> {
  const child = spawn(process.execPath, [PROGRAM, ...options.args ?? []], {
    env: environment(options), stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  return { ...await exitOf(child), stdout, stderr };
}

function start(env: Record<string, string>, { args = [], inherited }: ProxyOptions): ChildProcess & { stderr: Readable } {
  const command = [process.execPath, PROGRAM, ...args];
  if (!inherited) {
    return spawn(process.execPath, command.slice(1), { env, stdio: ['ignore', 'ignore', 'pipe'] });
  }
  // exec keeps the shell's process ID.
  const announcing = ['-c', 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', 'sh', ...command];
  const { fd } = (inherited as Server & { readonly _handle: { readonly fd: number } })._handle;
  const stdio: StdioOptions = ['ignore', 'ignore', 'pipe', fd];
  return spawn('/bin/sh', announcing, { env, stdio }) as ChildProcess & { stderr: Readable };
}

/** The environment of a proxy under test. */
export function environment({ docker, imds, sts, env = {} }: ProxyOptions): Record<string, string> {
  const settings: Record<string, string | undefined> = {
    PATH: process.env['PATH'],
    HOST: '127.0.0.1',
    PORT: '0',
    ADMIN_ADDR: '127.0.0.1:0',
    LOG_FORMAT: 'json',
    DOCKER_URL: docker?.url ?? 'unix:///nonexistent/docker.sock',
    METADATA_URL: imds?.url ?? NOWHERE,
    AWS_ENDPOINT_URL_STS: sts?.url ?? NOWHERE,
    AWS_ENDPOINT_URL_IAM: sts?.url ?? NOWHERE,
    AWS_ACCESS_KEY_ID: SOURCE_ACCESS_KEY,
    AWS_SECRET_ACCESS_KEY: SOURCE_SECRET_KEY,
    // The SDK finds the home directory even without HOME.
    AWS_CONFIG_FILE: '/dev/null',
    AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
    ...env,
    AWS_EC2_METADATA_DISABLED: 'true',
  };
  const given: Record<string, string> = {};
  for (const [name, value] of Object.entries(settings)) {
    if (value !== undefined) given[name] = value;
  }
  return given;
}

async function exitOf(child: ChildProcess): Promise<Exit> {
  // Not "exit": output may arrive after it.
  const [code, signal] = await once(child, 'close') as [number | null, NodeJS.Signals | null];
  return { code, signal };
}

/** The port in a JSON line's field `address`, or at the end of a text line. */
async function portIn(logs: Journal<LogLine>, message: string): Promise<number> {
  const inText = new RegExp(`(?<!admin )\\b${message} address=`);
  const { text, fields } = await logs.first((line) => line.msg === message || inText.test(line.text));
  const address = typeof fields['address'] === 'string' ? fields['address'] : text;
  const port = /:(\d+)\s*$/.exec(address)?.[1];
  if (port === undefined) throw new Error(`no port in ${text}`);
  return Number(port);
}

function parseLine(text: string): LogLine {
  const fields = parseObject(text);
  const { msg = '', level = '' } = fields;
  return { text, fields, msg: String(msg), level: String(level) };
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
}
