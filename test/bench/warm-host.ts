import { DockerEngine } from '../support/docker-engine.ts';
import { request } from '../support/client.ts';
import { Sts } from '../support/sts.ts';
import { startBuilt, startProxy, until, type Program } from './programs.ts';

export const CREDENTIALS_PATH = '/latest/meta-data/iam/security-credentials/app';

export interface WarmHost {
  readonly proxy: Program;
  readonly docker: DockerEngine;
  readonly sts: Sts;
  /** A bare server that answers what the proxy answers on CREDENTIALS_PATH. */
  readonly bare: Program;
  stop(): Promise<void>;
}

/** The n-th container's address, from 0: n = 0 is 127.0.0.1, where wrk's requests come from. */
export function addressOf(n: number): string {
  return n === 0 ? '127.0.0.1' : `127.1.${n >> 8}.${n & 255}`;
}

/** A proxy with so many known containers, all with the same role, and its credentials stored; and a bare server. */
export async function warmHost(containers: number, env: Readonly<Record<string, string>> = {}): Promise<WarmHost> {
  const [docker, sts] = [await DockerEngine.start(), await Sts.start()];
  for (let n = 0; n < containers; n += 1) {
    const container = docker.host.create({
      name: `container-${n}`, address: addressOf(n), env: { IAM_ROLE: 'app@123456789012' },
    });
    docker.host.start(container);
  }
  const proxy = await startProxy({ docker, sts, env });
  const send = () => request({ port: proxy.port, path: CREDENTIALS_PATH });
  await until(async () => (await send()).status === 200 && sts.inFlight === 0, 'no credentials');
  const { rawHeaders, body } = await send();
  // node:http writes these headers itself.
  const automatic = new Set(['date', 'connection', 'keep-alive']);
  const given = rawHeaders.filter((_, at) => !automatic.has((rawHeaders[at - at % 2] ?? '').toLowerCase()));
  const bare = await startBuilt('bare-server', { rawHeaders: given, body });
  return {
    proxy, docker, sts, bare,
    stop: async () => void await Promise.all([proxy.stop(), bare.stop(), docker.close(), sts.close()]),
  };
}
