/** `metadataproxy check`: whether this host is set up correctly, and how to fix what is not. */

import { systemClock } from '../util/clock.ts';
import type { Config } from '../config/config.ts';
import { DockerEngine } from '../docker/client.ts';
import type { AwsClients } from '../credentials/aws/clients.ts';
import { awsClients, credentialFetcher, hostProcesses } from '../wiring.ts';
import { inDefaultAccount } from '../roles/role-reference.ts';
import { roleRequest } from '../roles/role-request.ts';
import type { Log } from '../log/log.ts';
import { Imds } from '../imds/client.ts';
import { startMockImds } from '../imds/mock.ts';
import { checkFirewall, checkPort, checkRawSockets } from './check-firewall.ts';
import type { CheckResult } from './check-result.ts';
import { table } from './table.ts';

export interface CheckReport {
  readonly ok: boolean;
  readonly text: string;
}

const OUTCOME = { ok: 'ok', warning: 'warning', failed: 'FAILED', unknown: '?' } as const;

/** @returns the report, which is `ok` unless a check failed */
export async function check(config: Config, log: Log, json: boolean): Promise<CheckReport> {
  const mock = config.mockApi ? await startMockImds(config.mockedInstanceId) : undefined;
  const imds = new Imds({ url: mock?.url ?? config.metadataUrl, clock: systemClock });
  const clients = awsClients(config, imds);
  try {
    const results = (await Promise.all([
      checkDocker(config),
      checkImds(imds),
      checkSourceCredentials(config, clients),
      checkDefaultRole(config, clients, log),
      checkFirewall(config.port, process.env['FIREWALL_OPTIONS']),
      checkPort(config.port),
      ...(config.hostNetwork === 'nobody' ? [] : [checkHostNetwork(config)]),
    ])).flat();
    const ok = results.every(({ outcome }) => outcome !== 'failed');
    return { ok, text: json ? `${JSON.stringify({ ok, checks: results }, null, 2)}\n` : report(results) };
  } finally {
    imds.close();
    mock?.close();
  }
}

function report(results: readonly CheckResult[]): string {
  const rows = results.map(({ name, outcome, detail }) => [name, OUTCOME[outcome], detail]);
  const advised = results.filter(({ advice }) => advice !== undefined);
  const paragraphs = advised.map(({ name, advice }) => `\n${name}: ${advice}\n`);
  return table(['CHECK', 'RESULT', 'DETAIL'], rows) + paragraphs.join('');
}

async function checkDocker({ docker }: Config): Promise<CheckResult[]> {
  const name = 'Docker Engine';
  const engine = new DockerEngine(docker);
  try {
    const { length } = await engine.runningContainers();
    const answers = { name, outcome: 'ok', detail: `${docker.url} answers; ${length} running` } as const;
    const rawSockets = await checkRawSockets(engine);
    return rawSockets ? [answers, rawSockets] : [answers];
  } catch (error) {
    const advice = 'Is the daemon running, does DOCKER_URL name its socket, and may this user (group docker) use the socket?';
    return [{ name, outcome: 'failed', detail: (error as Error).message, advice }];
  } finally {
    engine.close();
  }
}

async function checkImds(imds: Imds): Promise<CheckResult> {
  const name = 'metadata service';
  const versions = await imds.versions();
  if (versions instanceof Error) {
    const advice = 'Is this an EC2 instance with IMDS enabled? Elsewhere set METADATA_URL, or use --mock.';
    return { name, outcome: 'failed', detail: versions.message, advice };
  }
  const { v1, v2 } = versions;
  if (!v1 && !v2) return { name, outcome: 'failed', detail: 'answers neither IMDSv1 nor IMDSv2' };
  const detail = v1 && v2 ? 'IMDSv1 and IMDSv2' : v2 ? 'IMDSv2 only' : 'IMDSv1 only';
  return { name, outcome: 'ok', detail };
}

async function checkSourceCredentials({ mockCredentials }: Config, clients: AwsClients): Promise<CheckResult> {
  const name = "the proxy's credentials";
  if (mockCredentials) return { name, outcome: 'ok', detail: 'not needed with --mock-credentials' };
  try {
    const { Arn } = await clients.callerIdentity();
    return { name, outcome: 'ok', detail: `${Arn} in ${await clients.region()}` };
  } catch (error) {
    const advice = 'Attach an instance profile, or set AWS_PROFILE or AWS_ACCESS_KEY_ID for the proxy.';
    return { name, outcome: 'failed', detail: (error as Error).message, advice };
  }
}

async function checkDefaultRole(config: Config, clients: AwsClients, log: Log): Promise<CheckResult> {
  const name = 'default role';
  const { defaultRole, defaultAccountId, allowedRoles } = config;
  if (!defaultRole) return { name, outcome: 'ok', detail: 'not set; containers without a role get 404' };
  const { text } = defaultRole;
  const request = roleRequest({
    role: inDefaultAccount(defaultRole, defaultAccountId),
    sessionName: 'metadataproxy-check',
    externalId: undefined,
    policy: config.defaultPolicy,
    durationSeconds: config.roleDuration,
    sourceIdentity: undefined,
    tags: new Map(),
    transitiveTags: false,
    allowed: allowedRoles ? [allowedRoles] : [],
  });
  try {
    const { roleArn } = await credentialFetcher(config, clients, log)(request);
    return { name, outcome: 'ok', detail: `${roleArn} can be assumed` };
  } catch (error) {
    const advice = `Does "${text}" exist, does its trust policy name the proxy's role, and does the proxy's role allow sts:AssumeRole on it?`;
    return { name, outcome: 'failed', detail: (error as Error).message, advice };
  }
}

async function checkHostNetwork(config: Config): Promise<CheckResult> {
  const name = 'host network';
  if (config.hostNetwork === 'users and root' && process.getuid?.() === 0) {
    const advice = 'Run the proxy as its own user: the firewall cannot redirect root and exempt the proxy at the same time.';
    return { name, outcome: 'failed', detail: 'HOST_NETWORK=root, and the proxy runs as root', advice };
  }
  try {
    const count = await (await hostProcesses(config)).survey();
    return { name, outcome: 'ok', detail: `this user can inspect all ${count} processes` };
  } catch (error) {
    const advice = 'Give the proxy these capabilities, or set HOST_NETWORK=false.';
    return { name, outcome: 'failed', detail: (error as Error).message, advice };
  }
}
