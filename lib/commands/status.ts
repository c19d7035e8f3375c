/** `metadataproxy status`: the essentials of what the running proxy says of itself, for a terminal. */

import type { HealthRow, Status } from '../admin/status.ts';
import { hostAndPort, urlOf, type Config } from '../config/config.ts';
import { ago, duration, latency, timeLeft, formatInteger } from '../util/format.ts';
import { httpGet } from '../util/http-get.ts';
import { object } from '../util/json.ts';
import { printable } from '../util/printable.ts';
import { NoStatus } from './no-status.ts';
import { table } from './table.ts';

const TIMEOUT_MS = 5_000;
/** A thousand containers are about half a megabyte. */
const MAX_STATUS_LENGTH = 64 * 1024 * 1024;
const WIDTH = 100;
/** More are on the page and in --json. */
const MAX_ERRORS = 5;

export interface StatusReport {
  readonly ready: boolean;
  readonly text: string;
}

/** @throws NoStatus */
export async function status(config: Config, json: boolean): Promise<StatusReport> {
  const { text, status: answer, where } = await ask(config);
  return { ready: answer.ready, text: json ? text : readable(answer, where) };
}

async function ask({ adminAddress }: Config): Promise<{ text: string; status: Status; where: string }> {
  if (adminAddress === 'off') throw new NoStatus('ADMIN_ADDR is "off", so no proxy can be asked for its status');
  const where = hostAndPort(adminAddress.host, adminAddress.port);
  const url = urlOf(adminAddress, '/status');
  let text: string;
  try {
    ({ text } = await httpGet(url, TIMEOUT_MS, MAX_STATUS_LENGTH));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const advice = 'is it running, and is ADMIN_ADDR the same here?';
    throw new NoStatus(`no proxy answers on ${where} (${code ?? message}): ${advice}`);
  }
  const answer = parse(text);
  if (!answer) throw new NoStatus(`what answers on ${where} is not this version of metadataproxy`);
  return { text, status: answer, where };
}

/** It is the same program; only whether it is needs to be looked at. */
function parse(text: string): Status | undefined {
  try {
    const answer = object(JSON.parse(text));
    const isStatus = typeof answer['ready'] === 'boolean' && Array.isArray(answer['roles']) && 'last_hour' in answer;
    return isStatus ? (answer as unknown as Status) : undefined;
  } catch {
    return undefined;
  }
}

function readable(answer: Status, where: string): string {
  const { version, node, ready, checks, directory, docker, sts, upstream, last_hour: hour, roles, errors, time } = answer;
  const failing = Object.entries(checks).filter(([, { ok }]) => !ok);
  const facts: [string, string][] = [
    ['proxy', `${version} on Node ${node}, ${where}, up ${duration(answer.uptime_seconds)}`],
    ['state', ready ? 'ready' : `NOT READY: ${failing.map(([name, { detail }]) => `${name}: ${detail}`).join('; ')}`],
    ['containers', `${formatInteger(directory.containers)}, with ${formatInteger(roles.length)} roles`],
    ['requests', `${formatInteger(hour.requests)} in the last hour, ${formatInteger(hour.refused)} refused, ` +
      `${formatInteger(hour.failed)} failed; p50 ${latency(hour.p50)}, p99 ${latency(hour.p99)}`],
    ['Docker', health(docker, time)],
    ['STS', health(sts, time)],
    ['metadata', health(upstream, time)],
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
    lines.push('', ...table(['LAST ERRORS', '', ''], rows).trimEnd().split('\n').map(cut));
  }
  return `${lines.join('\n')}\n`;
}

const HEALTH_WORDS: Readonly<Record<HealthRow['state'], string>> = {
  ok: 'ok',
  failing: 'FAILING',
  unknown: 'not asked yet',
  off: 'off',
  mock: 'built in',
};

function health({ state, last_success: success, last_error: error }: HealthRow, now: string): string {
  const words = [HEALTH_WORDS[state]];
  if (success !== null) words.push(`last good ${ago(success, now)}`);
  if (error !== null) words.push(`last error ${ago(error.time, now)}: ${error.message}`);
  return words.join(', ');
}

function cut(line: string): string {
  return shorten(line, WIDTH);
}

function shorten(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, width - 1)}…`;
}
