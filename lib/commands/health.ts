/**
 * `metadataproxy check --health`: whether the running proxy is alive, for an image's HEALTHCHECK or a scheduler's probe.
 * It asks only /healthz: a scheduler replaces an unhealthy container. While Docker or STS fails, that would repair nothing
 * and would drop the credentials that are still valid.
 */

import { urlOf, type Config } from '../config/config.ts';
import { httpGet } from '../util/http-get.ts';
import type { CheckReport } from './check.ts';

/** The answer takes a millisecond, so a proxy that needs longer than this is stuck. */
const TIMEOUT_MS = 3_000;
const MAX_ANSWER_LENGTH = 4_096;

/** @returns `ok` if the proxy answers on its operator's endpoint (ADMIN_ADDR) */
export async function checkHealth({ adminAddress }: Pick<Config, 'adminAddress'>): Promise<CheckReport> {
  if (adminAddress === 'off') return { ok: false, text: 'unknown: ADMIN_ADDR is off, so the proxy has no health endpoint\n' };
  const url = urlOf(adminAddress, '/healthz');
  try {
    const { status } = await httpGet(url, TIMEOUT_MS, MAX_ANSWER_LENGTH);
    if (status === 200) return { ok: true, text: 'alive\n' };
    return { ok: false, text: `not alive: ${url.href} answers ${status}\n` };
  } catch (error) {
    return { ok: false, text: `not alive: ${url.href}: ${(error as Error).message}\n` };
  }
}
