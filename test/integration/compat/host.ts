import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DockerEngine, type EngineOptions } from '../../support/docker-engine.ts';
import { Imds, type ImdsOptions } from '../../support/imds.ts';
import {
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
import { jsonOf } from '../host.ts';

export { INSTANCE_ID_PATH, jsonOf, SECURITY_CREDENTIALS, until } from '../host.ts';

export const ACCOUNT = '123456789012';
/** The role `name` in the account of all these tests. */
export const arnOf = (name: string): string => `arn:aws:iam::${ACCOUNT}:role/${name}`;
export const POLICY =
  '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Resource":"*","Action":"ec2:*"}}';

/** The services around the program. */
export interface Fakes {
  readonly docker: DockerEngine;
  readonly imds: Imds;
  readonly sts: Sts;
}

/** The program under test with the fakes, and a container's requests. */
export interface Host extends Fakes {
  readonly proxy: Proxy;
  ask(
    from: string,
    path: string,
    headers?: Readonly<Record<string, string>>,
    method?: string,
  ): Promise<Response>;
  /** The AssumeRole call whose credentials a caller gets. */
  callFor(from: string): Promise<StsCall>;
  /** The status of a caller's credential request. */
  statusFor(from: string): Promise<number>;
}

export interface HostOptions extends ProxyOptions {
  readonly engine?: EngineOptions;
  readonly metadata?: ImdsOptions;
  /** Runs before the program starts. */
  readonly before?: (fakes: Fakes) => void | Promise<void>;
}

export async function startFakes(
  t: Test,
  options: Pick<HostOptions, 'engine' | 'metadata'> = {},
): Promise<Fakes> {
  const [docker, imds, sts] = await Promise.all([
    DockerEngine.start(options.engine),
    Imds.start(options.metadata),
    Sts.start(),
  ]);
  t.after(async () => void (await Promise.all([docker.close(), imds.close(), sts.close()])));
  return { docker, imds, sts };
}

/** Starts the fakes and the program. Resolves when it knows the containers. `docker: undefined` omits Docker. */
export async function host(t: Test, options: HostOptions = {}): Promise<Host> {
  const { engine, metadata, before, ...rest } = options;
  const fakes = await startFakes(t, { ...(engine && { engine }), ...(metadata && { metadata }) });
  await before?.(fakes);
  const proxy = await startProxy(t, { ...fakes, ...rest });
  await proxy.awaitLog('containers known');
  return hostOf(proxy, fakes);
}

export function hostOf(proxy: Proxy, fakes: Fakes): Host {
  const ask: Host['ask'] = (from, path, headers = {}, method = 'GET') =>
    request({ port: proxy.port, path, headers, method, ...(from.includes(':') ? { host: from } : { from }) });
  const callFor = async (from: string): Promise<StsCall> => {
    const answer = await ask(from, '/creds');
    if (answer.status !== 200) throw new Error(`no credentials: ${answer.status} ${answer.body}`);
    return fakes.sts.issuedAs(jsonOf(answer)['AccessKeyId'] ?? '').call;
  };
  return { ...fakes, proxy, ask, callFor, statusFor: async (from) => (await ask(from, '/creds')).status };
}

/** A file that is removed at the end of the test. */
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

/** The error lines of a program that rejects its settings. They are not part of its log. */
export async function refusal(options: ProxyOptions): Promise<{ code: number | null; lines: string[] }> {
  const { code, stderr } = await runToEnd(options);
  return { code, lines: stderr.split('\n').filter((line) => line.startsWith('metadataproxy: ')) };
}

export const isMessage =
  (message: string) =>
  ({ msg }: LogLine): boolean =>
    msg === message;
