/** From the configuration to components and their options, for the running proxy and for its commands. */

import { hostname } from 'node:os';
import type { HostProcess } from './caller.ts';
import { parseAddressMapping, type AddressMapping } from './callers/address-mapping.ts';
import { HostNetwork, type HostNetworkOptions } from './callers/host/network.ts';
import type { HostProcesses } from './callers/host/processes.ts';
import type { OtherSource } from './callers/resolver.ts';
import { WatchedFile, type WatchedFileOptions } from './config/watched-file.ts';
import type { ContainerDirectory } from './docker/directory.ts';
import { systemClock } from './util/clock.ts';
import type { Config } from './config/config.ts';
import { describeContainer, type Container, type RetainedFields } from './docker/container.ts';
import type { DockerEngine } from './docker/client.ts';
import type { EngineContainer } from './docker/engine.ts';
import { AwsClients, type AwsOptions } from './credentials/aws/clients.ts';
import type { Credentials } from './credentials/credentials.ts';
import { mockFetcher } from './credentials/aws/mock.ts';
import { stsFetcher } from './credentials/aws/assume-role.ts';
import { CLAIM_LABELS, CLAIM_VARIABLES } from './roles/role-claim.ts';
import { RoleResolver } from './credentials/aws/get-role.ts';
import type { RoleRequest } from './roles/role-request.ts';
import { parseRoleRules, type RoleRule } from './roles/role-rules.ts';
import type { RoleSettings } from './roles/role-settings.ts';
import type { Log } from './log/log.ts';
import type { Imds } from './imds/client.ts';

export function roleSettings(config: Config, rules: readonly RoleRule[]): RoleSettings {
  return {
    defaultRole: config.defaultRole,
    defaultAccountId: config.defaultAccountId,
    defaultPolicy: config.defaultPolicy,
    accounts: config.accountNames,
    allowed: config.allowedRoles,
    rules,
    sessionNaming: config.sessionNaming,
    sessionKey: config.sessionKey,
    tags: config.sessionTags,
    transitiveTags: config.transitiveTags,
    sourceIdentity: config.sourceIdentity,
    durationSeconds: config.roleDuration,
    host: hostname(),
  };
}

/** Makes the function that keeps what the program needs of an inspected container. */
export function containerReader(config: Config, engine: DockerEngine) {
  const retained = retainedFields(config);
  return async (found: EngineContainer): Promise<Container> => {
    const claims = config.ignoreImageRoles ? await withoutImageClaims(found, engine) : found;
    return describeContainer(claims, retained);
  };
}

/** Removes the variables and labels of the image: its author chose them, not whoever started the container. */
async function withoutImageClaims(found: EngineContainer, engine: DockerEngine): Promise<EngineContainer> {
  const image = await engine.image(found.imageId);
  // Anything may come from an image that cannot be read.
  if (!image) return { ...found, env: new Map(), labels: new Map() };
  const startersOwn = (values: ReadonlyMap<string, string>, ofImage: ReadonlyMap<string, string>) =>
    new Map([...values].filter(([name, value]) => ofImage.get(name) !== value));
  return { ...found, env: startersOwn(found.env, image.env), labels: startersOwn(found.labels, image.labels) };
}

function retainedFields({ sessionKey, sessionTags, sessionNaming, sourceIdentity, roleRules, ...config }: Config): RetainedFields {
  const templates = [sourceIdentity, sessionNaming.kind === 'template' ? sessionNaming.template : undefined];
  const named = templates.filter((template) => template !== undefined);
  const env = [
    ...CLAIM_VARIABLES,
    ...(sessionKey?.kind === 'env' ? [sessionKey.name] : []),
    ...(sessionTags?.env ?? []),
    ...named.flatMap((template) => template.env),
    ...config.copyDockerEnv,
  ];
  const labels = [
    ...CLAIM_LABELS,
    ...(sessionKey?.kind === 'label' ? [sessionKey.name] : []),
    ...(sessionTags?.labels ?? []),
    ...named.flatMap((template) => template.labels),
    ...config.copyDockerLabels,
  ];
  // A reloaded rule may match any label.
  return { env: new Set(env), labels: roleRules === undefined ? new Set(labels) : 'all' };
}

export function awsClients(config: Config, imds: Imds, events?: AwsOptions['events']): AwsClients {
  return new AwsClients({ region: config.region, hostRegion: () => imds.region(), clock: systemClock, events });
}

/** The store's source of credentials: STS, or the mock. */
export function credentialFetcher(
  config: Config,
  clients: AwsClients,
  log: Log,
): (request: RoleRequest) => Promise<Credentials> {
  if (config.mockCredentials) return mockFetcher(systemClock.now);
  const resolver = new RoleResolver(clients, systemClock);
  return stsFetcher({
    clients,
    resolve: ({ role }) => resolver.resolve(role),
    clock: systemClock,
    onShortened: ({ arn }, seconds) => {
      log.warning('the role allows no session that long; it gets 1 hour', { role_arn: arn, seconds });
    },
  });
}

/**
 * The addresses that the firewall script redirects for certain. It redirects 169.254.170.2 (ECS) only on request, and
 * HostProcesses must not take a socket to it for a redirected one.
 */
const REDIRECTED = ['169.254.169.254', 'fd00:ec2::254'].map((address) => ({ address, port: 80 }));

export async function hostProcesses({ hostNetwork }: Config): Promise<HostProcesses> {
  const { HostProcesses } = await import('./callers/host/processes.ts');
  // The firewall never redirects the proxy's own user, or the proxy would only reach itself.
  const exempt = new Set([process.getuid?.() ?? 0]);
  if (hostNetwork !== 'users and root') exempt.add(0);
  return new HostProcesses({ clock: systemClock, redirected: REDIRECTED, exempt });
}

/** @returns undefined without HOST_NETWORK */
export async function hostNetwork(
  config: Config,
  engine: DockerEngine,
  directory: ContainerDirectory,
  hostProcess: HostProcess | undefined,
  events: HostNetworkOptions['events'],
): Promise<HostNetwork | undefined> {
  if (config.hostNetwork === 'nobody') return undefined;
  const processes = await hostProcesses(config);
  // Report a missing permission at start, not with the first request.
  processes.survey().catch(({ message }: Error) => events.hostNetworkFailed(message));
  return new HostNetwork({
    processes,
    containerById: (id) => directory.byId(id),
    firstProcessOf: (id) => engine.firstProcessOf(id),
    hostProcess,
    events,
  });
}

export async function otherSources(config: Config, directory: ContainerDirectory): Promise<OtherSource[]> {
  const sources: OtherSource[] = [];
  if (config.reverseLookup) {
    const { ReverseDns } = await import('./callers/reverse-dns.ts');
    const containers = function* (): Generator<Container> {
      for (const { container } of directory.started()) yield container;
    };
    sources.push(new ReverseDns({ containers, pattern: config.hostnamePattern, clock: systemClock }));
  }
  if (config.mesosLookup) {
    const { MesosTasks } = await import('./callers/mesos.ts');
    sources.push(new MesosTasks({ url: config.mesosUrl, timeout: config.mesosTimeout * 1000, clock: systemClock }));
  }
  return sources;
}

type FileEvents = WatchedFileOptions<unknown>['events'];

export function roleRules({ roleRules: path, accountNames }: Config, events: FileEvents): WatchedFile<RoleRule[]> | undefined {
  if (path === undefined) return undefined;
  return new WatchedFile({ setting: 'ROLE_RULES', path, parse: (text) => parseRoleRules(text, accountNames), events });
}

export function addressMapping({ roleMapping: path, accountNames }: Config, events: FileEvents): WatchedFile<AddressMapping> | undefined {
  if (path === undefined) return undefined;
  return new WatchedFile({ setting: 'ROLE_MAPPING_FILE', path, parse: (text) => parseAddressMapping(text, accountNames), events });
}
