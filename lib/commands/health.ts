/**
 * `metadataproxy check --health`: whether the proxy that runs on this host is alive. It is what an image's HEALTHCHECK
 * and a scheduler's probe run, so it asks for no more than /healthz: they replace what they find unhealthy, and that
 * would not bring back a Docker or an STS that is away, but take the credentials that are still good.
 */

import { urlOf, type Config } from '../config/config.ts';
import { httpGet } from '../util/http-get.ts';
import type { CheckReport } from './check.ts';

/** The answer takes a millisecond; a proxy that is busier than this is of no use to anybody. */
const TIMEOUT_MS = 3_000;
const MAX_ANSWER_LENGTH = 4_096;

/** @returns `ok` if the proxy answers on its operator's listener (ADMIN_ADDR) */
export async function askHealth({ adminAddress }: Pick<Config, 'adminAddress'>): Promise<CheckReport> {
  if (adminAddress === 'off') return { ok: false, text: 'unknown: ADMIN_ADDR is off, so nobody can be asked\n' };
  const url = urlOf(adminAddress, '/healthz');
  try {
    const { status } = await httpGet(url, TIMEOUT_MS, MAX_ANSWER_LENGTH);
    if (status === 200) return { ok: true, text: 'alive\n' };
    return { ok: false, text: `not alive: ${url.href} answers ${status}\n` };
  } catch (error) {
    return { ok: false, text: `not alive: ${url.href}: ${(error as Error).message}\n` };
  }
}
