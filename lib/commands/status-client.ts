/** Fetches the status of the proxy that runs on this host, from its operator's endpoint (ADMIN_ADDR). */

import type { Status } from '../admin/status.ts';
import { urlOf, type Config } from '../config/config.ts';
import { hostAndPort } from '../util/ip-address.ts';
import { httpGet } from '../util/http-get.ts';
import { object } from '../util/json.ts';

/** No proxy gives its status. The message has the reason and the next step. */
export class NoStatus extends Error {}

export interface FetchedStatus {
  /** The JSON text. */
  readonly text: string;
  readonly status: Status;
  /** `host:port` */
  readonly address: string;
}

const TIMEOUT_MS = 5_000;
/** The status of a thousand containers is about half a megabyte. */
const MAX_STATUS_LENGTH = 64 * 1024 * 1024;

/** @throws NoStatus */
export async function fetchStatus({ adminAddress }: Pick<Config, 'adminAddress'>): Promise<FetchedStatus> {
  if (adminAddress === 'off') throw new NoStatus('no status: ADMIN_ADDR is "off"');
  const address = hostAndPort(adminAddress.host, adminAddress.port);
  let text: string;
  try {
    ({ text } = await httpGet(urlOf(adminAddress, '/status'), TIMEOUT_MS, MAX_STATUS_LENGTH));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new NoStatus(`no proxy answers on ${address} (${code ?? message}): is it running, and is ADMIN_ADDR the same here?`);
  }
  const status = parseStatus(text);
  if (!status) throw new NoStatus(`the server on ${address} is not this version of metadataproxy`);
  return { text, status, address };
}

/** Checks the shape only: an answer with these fields comes from a proxy of this version. */
function parseStatus(text: string): Status | undefined {
  try {
    const answer = object(JSON.parse(text));
    const lists = [answer['containers'], answer['roles']];
    const isStatus = typeof answer['ready'] === 'boolean' && lists.every(Array.isArray) && 'last_hour' in answer;
    return isStatus ? (answer as unknown as Status) : undefined;
  } catch {
    return undefined;
  }
}
