import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DockerEngine, type EngineOptions } from '../../support/docker-engine.ts';
import { Imds, type ImdsOptions } from '../../support/imds.ts';
import { Journal } from '../../support/journal.ts';
import {
  BASE_ACCESS_KEY,
  BASE_SECRET_KEY,
  request,
  runToEnd,
  startProxy,
  type LogLine,
  type Proxy,
  type ProxyOptions,
  type Test,
} from '../../support/proxy.ts';
import type { Response } from '../../support/client.ts';
import { Sts, type StsCall } from '../../support/sts.ts';

export const ACCOUNT = '123456789012';
/** The role `name` in the account of all these tests. */
export const arnOf = (name: string): string => `arn:aws:iam::${ACCOUNT}:role/${name}`;
export const SECURITY_CREDENTIALS = '/latest/meta-data/iam/security-credentials/';
export const INSTANCE_ID_PATH = '/latest/meta-data/instance-id';
export const POLICY =
  '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Resource":"*","Action":"ec2:*"}}';

export interface StandIns {
  readonly docker: DockerEngine;
  readonly imds: Imds;
  readonly sts: Sts;
}

/** The program under test between the stand-ins, with questions that a container would ask. */
export interface Host extends StandIns {
  readonly proxy: Proxy;
  ask(
    from: string,
    path: string,
    headers?: Readonly<Record<string, string>>,
    method?: string,
  ): Promise<Response>;
  /** The AssumeRole call whose credentials a caller is given. */
  callFor(from: string): Promise<StsCall>;
  /** The status of a caller's request for credentials. */
  statusFor(from: string): Promise<number>;
}

export interface HostOptions extends ProxyOptions {
  readonly engine?: EngineOptions;
  readonly metadata?: ImdsOptions;
  /** Made before the program starts. */
  readonly before?: (standIns: StandIns) => void | Promise<void>;
}

export async function standIns(
  t: Test,
  options: Pick<HostOptions, 'engine' | 'metadata'> = {},
): Promise<StandIns> {
  const [docker, imds, sts] = await Promise.all([
    DockerEngine.start(options.engine),
    Imds.start(options.metadata),
    Sts.start(),
  ]);
  t.after(async () => void (await Promise.all([docker.close(), imds.close(), sts.close()])));
  return { docker, imds, sts };
}

/** Stand-ins and the program, which knows the containers; `docker: undefined` leaves Docker out. */
export async function host(t: Test, options: HostOptions = {}): Promise<Host> {
  const { engine, metadata, before, ...rest } = options;
  const others = await standIns(t, { ...(engine && { engine }), ...(metadata && { metadata }) });
  await before?.(others);
  const proxy = await startProxy(t, { ...others, ...rest });
  await proxy.awaitLog('containers known');
  return hostOf(proxy, others);
}

export function hostOf(proxy: Proxy, others: StandIns): Host {
  const ask: Host['ask'] = (from, path, headers = {}, method = 'GET') =>
    request({ port: proxy.port, path, headers, method, ...(from.includes(':') ? { host: from } : { from }) });
  const callFor = async (from: string): Promise<StsCall> => {
    const answer = await ask(from, '/creds');
    if (answer.status !== 200) throw new Error(`no credentials: ${answer.status} ${answer.body}`);
    return others.sts.issuedAs(jsonOf(answer)['AccessKeyId'] ?? '').call;
  };
  return { ...others, proxy, ask, callFor, statusFor: async (from) => (await ask(from, '/creds')).status };
}

export function jsonOf(answer: Response): Record<string, string> {
  return JSON.parse(answer.body) as Record<string, string>;
}

/** A file that is gone at the test's end. */
export function fileWith(t: Test, text: string, name = 'file.json'): string {
  const path = join(directory(t), name);
  writeFileSync(path, text);
  return path;
}

export function directory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'metadataproxy-test-'));
  t.after(async () => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** What the program writes of itself, not as a log, when it refuses its settings. */
export async function refusal(options: ProxyOptions): Promise<{ code: number | null; lines: string[] }> {
  const { code, stderr } = await runToEnd(options);
  return { code, lines: stderr.split('\n').filter((line) => line.startsWith('metadataproxy: ')) };
}

/** Take it after the stand-ins have theirs: they are given any that is free. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/**
 * The program on ports that are chosen here, for logs in which startProxy() would not find them; resolves when it
 * answers on the containers' port.
 */
export async function startWithLogs(
  t: Test,
  { docker, imds, sts }: StandIns,
  settings: Readonly<Record<string, string>>,
): Promise<{ port: number; pid: number; lines: Journal<string>; stop(): Promise<void> }> {
  const port = await freePort();
  const child = spawn(process.execPath, ['bin/metadataproxy'], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: {
      HOST: '127.0.0.1',
      PORT: String(port),
      ADMIN_ADDR: 'off',
      DOCKER_URL: docker.url,
      DOCKER_CONFIRM: 'never',
      METADATA_URL: imds.url,
      AWS_ENDPOINT_URL_STS: sts.url,
      AWS_ENDPOINT_URL_IAM: sts.url,
      AWS_ACCESS_KEY_ID: BASE_ACCESS_KEY,
      AWS_SECRET_ACCESS_KEY: BASE_SECRET_KEY,
      AWS_CONFIG_FILE: '/dev/null',
      AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
      ...settings,
      AWS_EC2_METADATA_DISABLED: 'true',
    },
  });
  const lines = new Journal<string>('a line of the log');
  createInterface({ input: child.stderr }).on('line', (line) => lines.add(line));
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  void ended.then(() => lines.end('the program has ended'));
  t.after(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  await until(
    () =>
      request({ port, path: '/healthcheck' }).then(
        ({ status }) => status,
        () => 0,
      ),
    (status) => status === 200,
  );
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    await ended;
  };
  return { port, pid: child.pid ?? 0, lines, stop };
}

/** Asks again and again until the answer is as wanted; for what no event tells of. */
export async function until<T>(ask: () => T | Promise<T>, isWanted: (answer: T) => boolean): Promise<T> {
  for (const giveUp = Date.now() + 20_000; ;) {
    const answer = await ask();
    if (isWanted(answer)) return answer;
    if (Date.now() > giveUp) throw new Error(`in vain; last: ${JSON.stringify(answer)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export const isMessage =
  (message: string) =>
  ({ msg }: LogLine): boolean =>
    msg === message;
