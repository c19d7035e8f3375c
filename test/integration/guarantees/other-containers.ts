import { setTimeout as pause } from 'node:timers/promises';
import { INSTANCE_ID } from '../../support/imds.ts';
import { INSTANCE_ID_PATH } from '../host.ts';
import { KeepAliveClient } from './keep-alive-client.ts';

export interface OthersOptions {
  readonly port: number;
  readonly addresses: readonly string[];
  /** Per address. */
  readonly requests: number;
}

export interface OthersResult {
  /** The milliseconds of each credential request and of each pass-through request. */
  readonly credentials: readonly number[];
  readonly metadata: readonly number[];
  /** The distinct access keys by address. */
  readonly accessKeys: Readonly<Record<string, readonly string[]>>;
  /** Unexpected answers. */
  readonly wrong: readonly string[];
}

/** The time between two requests of a container: below the rate limit, and the machine stays mostly idle. */
const PAUSE_MS = 10;

/** Sends alternating credential and pass-through requests over keep-alive connections, as SDKs do. */
export async function requestAsOthers({ port, addresses, requests }: OthersOptions): Promise<OthersResult> {
  const [credentials, metadata]: [number[], number[]] = [[], []];
  const wrong: string[] = [];
  const accessKeys: Record<string, string[]> = {};
  await Promise.all(addresses.map(async (address) => {
    const client = new KeepAliveClient(port, address);
    const keys = new Set<string>();
    for (let n = 0; n < requests; n += 1) {
      const path = n % 2 === 1 ? INSTANCE_ID_PATH : '/creds';
      // Some requests need a new connection.
      if (n % 5 === 0) client.close();
      const began = performance.now();
      const { status, body, failure } = await client.ask(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
      (path === '/creds' ? credentials : metadata).push(performance.now() - began);
      if (status !== 200) wrong.push(`${path} for ${address}: ${status} ${failure}`);
      else if (path === '/creds') keys.add((JSON.parse(body) as { AccessKeyId: string }).AccessKeyId);
      else if (body !== INSTANCE_ID) wrong.push(`${path} for ${address}: ${body}`);
      await pause(PAUSE_MS);
    }
    client.close();
    accessKeys[address] = [...keys];
  }));
  return { credentials, metadata, accessKeys, wrong };
}
