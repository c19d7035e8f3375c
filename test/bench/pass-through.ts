import { DockerEngine } from '../support/docker-engine.ts';
import { startBuilt, startProxy } from './programs.ts';
import type { Row } from './row.ts';
import { throughputRows } from './throughput.ts';

const BODIES = { '/latest/meta-data/instance-id': 19, '/latest/user-data': 10 * 1024 * 1024 };

/** B3: proxied requests, compared with the smallest correct proxy, both in front of the same server. */
export async function passThrough(rounds: number): Promise<Row[]> {
  const server = await startBuilt('metadata-server', { bodies: BODIES });
  const docker = await DockerEngine.start();
  docker.host.start(docker.host.create({ address: '127.0.0.1' }));
  const proxy = await startProxy({ docker, metadataUrl: `http://127.0.0.1:${server.port}` });
  const smallest = await startBuilt('streaming-proxy', { upstreamPort: server.port });
  try {
    const rows: Row[] = [];
    for (const [what, path, connections] of [
      ['pass-through of 19 bytes, 16 connections', '/latest/meta-data/instance-id', 16],
      ['pass-through of 10 MB, 2 connections', '/latest/user-data', 2],
    ] as const) {
      rows.push(...await throughputRows('B3', what, rounds, proxy, smallest, { path, connections, seconds: 2 }));
    }
    return rows;
  } finally {
    await Promise.all([proxy.stop(), smallest.stop(), server.stop(), docker.close()]);
  }
}
