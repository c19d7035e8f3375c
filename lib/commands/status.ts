/** `metadataproxy status`: a summary of the running proxy's status for a terminal. */

import type { HealthRow, Status } from '../admin/status.ts';
import type { Config } from '../config/config.ts';
import { ago, duration, latency, timeLeft, formatInteger } from '../util/format.ts';
import { printable } from '../util/printable.ts';
import { fetchStatus } from './status-client.ts';
import { table } from './table.ts';

const WIDTH = 100;
/** The page and --json show more. */
const MAX_ERRORS = 5;

export interface StatusReport {
  readonly ready: boolean;
  readonly text: string;
}

/** @throws NoStatus */
export async function status(config: Config, json: boolean): Promise<StatusReport> {
  const { text, status: current, address } = await fetchStatus(config);
  return { ready: current.ready, text: json ? text : summary(current, address) };
}

function summary(answer: Status, address: string): string {
  const { version, node, ready, checks, directory, docker, sts, upstream, last_hour: hour, roles, errors, time } = answer;
  const failing = Object.entries(checks).filter(([, { ok }]) => !ok);
  const facts: [string, string][] = [
    ['proxy', `${version} on Node ${node}, ${address}, up ${duration(answer.uptime_seconds)}`],
    ['state', ready ? 'ready' : `NOT READY: ${failing.map(([name, { detail }]) => `${name}: ${detail}`).join('; ')}`],
    ['containers', `${formatInteger(directory.containers)}, with ${formatInteger(roles.length)} roles`],
    ['requests', `${formatInteger(hour.requests)} in the last hour, ${formatInteger(hour.refused)} refused, ` +
      `${formatInteger(hour.failed)} failed; p50 ${latency(hour.p50)}, p99 ${latency(hour.p99)}`],
    ['Docker', health(docker, time)],
    ['STS', health(sts, time)],
    ['IMDS', health(upstream, time)],
  ];
  const lines = facts.map(([name, value]) => cut(`${name.padEnd(12)}${printable(value)}`));
  if (roles.length > 0) {
    const rows = roles.map(({ role, containers, credentials, expires, error }) => [
      shorten(role, 44),
      formatInteger(containers),
      credentials,
      expires === null ? '-' : timeLeft(expires, time),
      shorten(error ?? '', 40),
    ]);
    lines.push('', ...table(['ROLE', 'CONTAINERS', 'CREDENTIALS', 'EXPIRES IN', 'ERROR'], rows).trimEnd().split('\n').map(cut));
  }
  if (errors.length > 0) {
    const rows = errors.slice(0, MAX_ERRORS).map(({ message, about, error, count, last }) => [
      ago(last, time),
      `${count}x`,
      [message, about, error].filter((part) => part !== '').join(': '),
    ]);
    lines.push('', ...table(['RECENT ERRORS', '', ''], rows).trimEnd().split('\n').map(cut));
  }
  return `${lines.join('\n')}\n`;
}

const HEALTH_WORDS: Readonly<Record<HealthRow['state'], string>> = {
  ok: 'ok',
  failing: 'FAILING',
  unknown: 'no call yet',
  off: 'off',
  mock: 'mock',
};

function health({ state, last_success: success, last_error: error }: HealthRow, now: string): string {
  const words = [HEALTH_WORDS[state]];
  if (success !== null) words.push(`last success ${ago(success, now)}`);
  if (error !== null) words.push(`last error ${ago(error.time, now)}: ${error.message}`);
  return words.join(', ');
}

function cut(line: string): string {
  return shorten(line, WIDTH);
}

function shorten(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, width - 1)}…`;
}
