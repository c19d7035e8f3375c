import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { once } from 'node:events';
import type { Server } from 'node:net';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import type { DockerEngine } from './docker-engine.ts';
import type { Imds } from './imds.ts';
import { Journal } from './journal.ts';
import type { Sts } from './sts.ts';

export { raw, request } from './client.ts';

/** The built program, from the repository's root. */
const PROGRAM = 'bin/metadataproxy';

/** Nothing listens there: what a test does not provide is refused at once, and never the real thing. */
const NOWHERE = 'http://127.0.0.1:1';

/** The base credentials that every proxy under test has. */
export const BASE_ACCESS_KEY = 'AKIABASE';
export const BASE_SECRET_KEY = 'BaseSecret';

export interface LogLine {
  /** As it was written. */
  readonly text: string;
  /** `msg` and `level` of a JSON line, '' of another. */
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
  /** Over everything that is set by default; undefined takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly args?: readonly string[];
  /** A listening socket that the program inherits, as from systemd. */
  readonly inherited?: Server;
}

/** What of a test's context is needed here: the place to hang the end of the program on. */
export interface Test {
  after(end: () => Promise<void>): void;
}

export interface Proxy {
  /** The containers' port, on 127.0.0.1. */
  readonly port: number;
  /** The operator's port, 0 if ADMIN_ADDR is "off". */
  readonly adminPort: number;
  readonly pid: number;
  /** What it wrote on stderr, line by line. */
  readonly logs: Journal<LogLine>;
  /** The first line that matches (or whose message is `what`), written or to come. */
  awaitLog(what: string | ((line: LogLine) => boolean)): Promise<LogLine>;
  /** Signals it to end and waits until it has; a second call gives the same. */
  stop(signal?: NodeJS.Signals): Promise<Exit>;
  /** SIGHUP: reads its files again. What that did is in the log. */
  reload(): void;
  /** Any other signal, such as SIGUSR2. */
  signal(signal: NodeJS.Signals): void;
}

/**
 * Starts the built program on free ports of 127.0.0.1 and resolves when it listens. Its environment is clean
 * but for PATH: no setting, credential or AWS profile of this machine reaches it, and nothing of it reaches a
 * real endpoint. It is killed at the test's end. Rejects with what it wrote if it ends before it listens.
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

/** Runs the program to its end: for --help, --version and what it refuses. */
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
  // The shell knows its process number, which stays the same.
  const announcing = ['-c', 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', 'sh', ...command];
  const { fd } = (inherited as Server & { readonly _handle: { readonly fd: number } })._handle;
  const stdio: StdioOptions = ['ignore', 'ignore', 'pipe', fd];
  return spawn('/bin/sh', announcing, { env, stdio }) as ChildProcess & { stderr: Readable };
}

function environment({ docker, imds, sts, env = {} }: ProxyOptions): Record<string, string> {
  const settings: Record<string, string | undefined> = {
    PATH: process.env['PATH'],
    HOST: '127.0.0.1',
    PORT: '0',
    ADMIN_ADDR: '127.0.0.1:0',
    LOG_FORMAT: 'json',
    DOCKER_URL: docker?.url ?? 'unix:///nonexistent/docker.sock',
    // The stand-in's socket is its own.
    DOCKER_CONFIRM: 'never',
    METADATA_URL: imds?.url ?? NOWHERE,
    AWS_ENDPOINT_URL_STS: sts?.url ?? NOWHERE,
    AWS_ENDPOINT_URL_IAM: sts?.url ?? NOWHERE,
    AWS_ACCESS_KEY_ID: BASE_ACCESS_KEY,
    AWS_SECRET_ACCESS_KEY: BASE_SECRET_KEY,
    // The SDK finds the home directory without HOME, too.
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
  // Not "exit": its output may come after that.
  const [code, signal] = await once(child, 'close') as [number | null, NodeJS.Signals | null];
  return { code, signal };
}

/** From a JSON line's field `address`, or from the end of a text line's. */
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
