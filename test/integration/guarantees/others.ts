import { setTimeout as pause } from 'node:timers/promises';
import { INSTANCE_ID } from '../../support/imds.ts';
import { INSTANCE_ID_PATH } from '../host.ts';
import { Lane } from './lane.ts';

export interface OthersOptions {
  readonly port: number;
  readonly addresses: readonly string[];
  /** For each address. */
  readonly requests: number;
}

export interface OthersResult {
  /** Milliseconds, of each request for credentials, and of each for what the metadata service answers. */
  readonly credentials: readonly number[];
  readonly metadata: readonly number[];
  /** What each address was given, without repetition. */
  readonly accessKeys: Readonly<Record<string, readonly string[]>>;
  /** Whatever was not answered as it should be. */
  readonly wrong: readonly string[];
}

/** Between two requests of one container: no more than it may ask, and the machine is idle for the most part. */
const PAUSE_MS = 10;

/** They ask on connections that are kept for a while, as SDKs do, for credentials and for other things in turn. */
export async function askAsOthers({ port, addresses, requests }: OthersOptions): Promise<OthersResult> {
  const [credentials, metadata]: [number[], number[]] = [[], []];
  const wrong: string[] = [];
  const accessKeys: Record<string, string[]> = {};
  await Promise.all(addresses.map(async (address) => {
    const lane = new Lane(port, address);
    const keys = new Set<string>();
    for (let n = 0; n < requests; n += 1) {
      const path = n % 2 === 1 ? INSTANCE_ID_PATH : '/creds';
      // New connections have to get through as well.
      if (n % 5 === 0) lane.close();
      const began = performance.now();
      const { status, body, failure } = await lane.ask(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
      (path === '/creds' ? credentials : metadata).push(performance.now() - began);
      if (status !== 200) wrong.push(`${path} for ${address}: ${status} ${failure}`);
      else if (path === '/creds') keys.add((JSON.parse(body) as { AccessKeyId: string }).AccessKeyId);
      else if (body !== INSTANCE_ID) wrong.push(`${path} for ${address}: ${body}`);
      await pause(PAUSE_MS);
    }
    lane.close();
    accessKeys[address] = [...keys];
  }));
  return { credentials, metadata, accessKeys, wrong };
}
