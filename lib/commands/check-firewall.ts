/** The parts of `metadataproxy check` that concern the way of the containers' packets: rules, port and raw sockets. */

import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import type { DockerEngine } from '../docker/client.ts';
import { firewallState } from '../firewall-state.ts';
import type { CheckResult } from './check-result.ts';
import { portOwners, type PortOwner } from './port-owner.ts';

const run = promisify(execFile);

/** The packages' name of iptables/setup. */
const FIREWALL_SCRIPT = 'metadataproxy-firewall';
const METADATA_ADDRESS = '169.254.169.254';
/** The script lists some 30 problems where there are no rules at all; the first ones say enough. */
const MAX_PROBLEMS = 3;
/** The proxy's user in packaging/image. */
const IMAGE_UID = 16925;
/** Source: capabilities(7), CAP_NET_RAW. */
const CAP_NET_RAW = 1n << 13n;

/**
 * Asks whoever knows most: the firewall script, then the state file of its watcher, then the rules themselves.
 *
 * @param options FIREWALL_OPTIONS, as the service's environment file has them
 */
export async function checkFirewall(port: number, options = ''): Promise<CheckResult> {
  return (await checkByScript(port, options)) ?? checkByState() ?? checkByRules(port);
}

async function checkByScript(port: number, options: string): Promise<CheckResult | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const args = ['status', '--proxy-port', String(port), ...options.split(/\s+/).filter((word) => word !== '')];
  try {
    const { stdout } = await run(FIREWALL_SCRIPT, args);
    return result('ok', stdout.trim());
  } catch (error) {
    const { code, stdout, stderr } = error as { code?: number | string; stdout?: string; stderr?: string };
    if (typeof code !== 'number') return undefined;
    const problems = `${stdout ?? ''}${stderr ?? ''}`.trim().split('\n');
    const more = problems.length > MAX_PROBLEMS ? `; and ${problems.length - MAX_PROBLEMS} more` : '';
    const detail = `${problems.slice(0, MAX_PROBLEMS).join('; ')}${more}`;
    return result('failed', detail, `Run "${FIREWALL_SCRIPT} ${args.join(' ')}" for all, and "systemctl restart metadataproxy-firewall" to repair.`);
  }
}

function checkByState(): CheckResult | undefined {
  const state = firewallState(Date.now());
  if (!state) return undefined;
  return result(state.ok ? 'ok' : 'failed', state.detail, state.ok ? undefined : `Run "${FIREWALL_SCRIPT} status" as root.`);
}

/** Only whether something redirects, and where to; the script knows better. */
async function checkByRules(port: number): Promise<CheckResult> {
  const [nft, iptables] = await Promise.all([
    run('nft', ['list', 'table', 'inet', 'metadataproxy']).then(({ stdout }) => stdout, () => ''),
    run('iptables', ['-w', '-t', 'nat', '-S']).then(({ stdout }) => stdout, (error: NodeJS.ErrnoException) => error),
  ]);
  if (nft === '' && iptables instanceof Error) {
    const detail = iptables.code === 'ENOENT' ? 'this host has no iptables' : 'cannot read the iptables rules';
    return result('unknown', detail, 'To check the rules, run this command as root on the host.');
  }
  const rules = `${nft}\n${iptables instanceof Error ? '' : iptables}`.split('\n').map((rule) => rule.trim());
  const redirects = rules.filter((rule) => /-j (?:REDIRECT|DNAT)|\b(?:redirect|dnat ip) to /.test(rule));
  const redirect = redirects.find((rule) => rule.includes(METADATA_ADDRESS));
  if (redirect === undefined) {
    const advice = 'Containers reach the upstream IMDS directly: run the firewall script (see README).';
    return result('failed', `no rule redirects ${METADATA_ADDRESS}`, advice);
  }
  if (!new RegExp(`(?:--to-ports |:)${port}\\b`).test(redirect)) {
    return result('failed', `the rule redirects to another port: ${redirect}`, `The rule must redirect to port ${port} (PORT).`);
  }
  return result('ok', redirect);
}

function result(outcome: CheckResult['outcome'], detail: string, advice?: string): CheckResult {
  return { name: 'firewall', outcome, detail, ...(advice !== undefined && { advice }) };
}

/** Whoever holds the port answers the containers: it must be the proxy, or systemd for it. */
export async function checkPort(port: number): Promise<CheckResult> {
  const name = 'port';
  const owners = await portOwners(port);
  if (owners.length === 0) {
    return { name, outcome: 'unknown', detail: `nothing listens on port ${port}: the proxy does not run` };
  }
  const trusted = new Set([0, process.getuid?.(), IMAGE_UID, await uidOf('metadataproxy')]);
  const stranger = owners.find(({ uid }) => !trusted.has(uid));
  if (stranger) {
    const advice = `End that process: containers get their credentials from it. metadataproxy.socket keeps the port taken.`;
    return { name, outcome: 'failed', detail: `port ${port} belongs to another user: ${described(stranger)}`, advice };
  }
  return { name, outcome: 'ok', detail: owners.map(described).join('; ') };
}

function described({ uid, processes }: PortOwner): string {
  const holders = processes.map(({ pid, command }) => `${command} (PID ${pid})`).join(', ');
  return `user ${uid}${holders === '' ? '' : `, ${holders}`}`;
}

async function uidOf(user: string): Promise<number | undefined> {
  const passwd = await readFile('/etc/passwd', 'utf8').catch(() => '');
  const line = passwd.split('\n').find((candidate) => candidate.startsWith(`${user}:`));
  return line === undefined ? undefined : Number(line.split(':')[2]);
}

/**
 * Containers on the host's network that may open raw sockets: no firewall rule sees the packets that they send by them.
 *
 * @returns undefined where there are none
 */
export async function checkRawSockets(engine: DockerEngine, proc = '/proc'): Promise<CheckResult | undefined> {
  const found: string[] = [];
  for (const { id, name, networkMode } of await engine.runningContainers()) {
    if (networkMode !== 'host') continue;
    const pid = await engine.firstProcessOf(id);
    const status = pid === undefined ? '' : await readFile(`${proc}/${pid}/status`, 'utf8').catch(() => '');
    const bounding = /^CapBnd:\s*([0-9a-f]+)$/m.exec(status)?.[1];
    if (bounding !== undefined && (BigInt(`0x${bounding}`) & CAP_NET_RAW) !== 0n) found.push(name);
  }
  if (found.length === 0) return undefined;
  return {
    name: 'raw sockets',
    outcome: 'warning',
    detail: `containers on the host's network with NET_RAW: ${found.join(', ')}`,
    advice: 'Raw packets pass the firewall, and reach the upstream IMDS. Run these containers with --cap-drop NET_RAW.',
  };
}
