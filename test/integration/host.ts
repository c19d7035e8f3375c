import { DockerEngine, type EngineOptions } from '../support/docker-engine.ts';
import { Imds, type ImdsOptions } from '../support/imds.ts';
import { request, startProxy, type Proxy, type ProxyOptions, type Test } from '../support/proxy.ts';
import type { Response } from '../support/client.ts';
import { Sts } from '../support/sts.ts';

export const SECURITY_CREDENTIALS = '/latest/meta-data/iam/security-credentials/';
export const INSTANCE_ID_PATH = '/latest/meta-data/instance-id';
export const TOKEN_PATH = '/latest/api/token';
export const TOKEN = 'x-aws-ec2-metadata-token';
export const TTL = 'x-aws-ec2-metadata-token-ttl-seconds';

export type Headers = Readonly<Record<string, string | string[]>>;

/** An EC2 host: the program under test with a fake Docker, IMDS and STS, and a container's requests. */
export interface Host {
  readonly docker: DockerEngine;
  readonly imds: Imds;
  readonly sts: Sts;
  readonly proxy: Proxy;
  /** Sends a request from a source address. */
  ask(from: string, path: string, headers?: Headers, method?: string): Promise<Response>;
  /** Requests a session token, as an SDK does. */
  sessionToken(from: string, seconds?: number): Promise<string>;
  /** The ARN of the role whose credentials a caller gets, from STS's record. */
  roleGiven(from: string): Promise<string | undefined>;
  /** Sends a request to the operator's listener. */
  askOperator(path: string, headers?: Headers, method?: string): Promise<Response>;
}

export interface HostOptions extends ProxyOptions {
  readonly engine?: EngineOptions;
  readonly metadata?: ImdsOptions;
  /** False: do not wait until the containers are known. */
  readonly synced?: boolean;
}

/** @param t a test, or `{ after }` of node:test for a host that all tests of a file share */
export async function host(t: Test, options: HostOptions = {}): Promise<Host> {
  const { engine, metadata, synced = true, ...rest } = options;
  const [docker, imds, sts] = [
    options.docker ?? await DockerEngine.start(engine), await Imds.start(metadata), await Sts.start(),
  ];
  const close = async (): Promise<void> => void await Promise.all([docker.close(), imds.close(), sts.close()]);
  const proxy = await startProxy(t, { docker, imds, sts, ...rest }).catch(async (error: unknown) => {
    await close();
    throw error;
  });
  // This hook runs after the one that ends the program, so that no connection must be reset.
  t.after(async () => {
    await until(() => imds.openConnections, (open) => open === 0);
    await close();
  });
  if (synced) await proxy.awaitLog('containers known');
  return around(proxy, docker, imds, sts);
}

/** Another run of the program with the same fakes. */
export async function anotherProxy(t: Test, { docker, imds, sts }: Host, options: ProxyOptions = {}): Promise<Host> {
  const proxy = await startProxy(t, { docker, imds, sts, ...options });
  await proxy.awaitLog('containers known');
  return around(proxy, docker, imds, sts);
}

function around(proxy: Proxy, docker: DockerEngine, imds: Imds, sts: Sts): Host {
  const ask = (from: string, path: string, headers: Headers = {}, method = 'GET'): Promise<Response> =>
    request({ port: proxy.port, path, headers, method, ...(from.includes(':') ? { host: from } : { from }) });
  return {
    docker,
    imds,
    sts,
    proxy,
    ask,
    sessionToken: async (from, seconds = 21_600) => {
      const answer = await ask(from, TOKEN_PATH, { [TTL]: String(seconds) }, 'PUT');
      if (answer.status !== 200) throw new Error(`no session token: ${answer.status}`);
      return answer.body;
    },
    roleGiven: async (from) => {
      const answer = await ask(from, '/creds');
      if (answer.status !== 200) throw new Error(`no credentials: ${answer.status} ${answer.body}`);
      return sts.issuedAs(accessKeyIn(answer)).call.roleArn;
    },
    askOperator: (path, headers = {}, method = 'GET') =>
      request({ port: proxy.adminPort, path, headers, method }),
  };
}

export function jsonOf(answer: Response): Record<string, string> {
  return JSON.parse(answer.body) as Record<string, string>;
}

export function accessKeyIn(answer: Response): string {
  return jsonOf(answer)['AccessKeyId'] ?? '';
}

/** Polls until the answer is as expected, where no event reports it. */
export async function until<T>(
  ask: () => T | Promise<T>, isExpected: (answer: T) => boolean, timeout = 20_000,
): Promise<T> {
  for (const deadline = Date.now() + timeout; ;) {
    const answer = await ask();
    if (isExpected(answer)) return answer;
    if (Date.now() > deadline) throw new Error(`timeout after ${timeout} ms; last answer: ${JSON.stringify(answer)}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
