/**
 * What the running proxy and its commands have in common, each made from the configuration.
 */

import { hostname } from 'node:os';
import type { HostProcesses } from './callers/host/processes.ts';
import { systemClock } from './util/clock.ts';
import type { Config } from './config/config.ts';
import { describeContainer, type Container, type RetainedFields } from './docker/container.ts';
import type { DockerEngine } from './docker/client.ts';
import type { EngineContainer } from './docker/engine.ts';
import { AwsClients, type AwsOptions } from './credentials/aws/clients.ts';
import type { Credentials } from './credentials/credentials.ts';
import { mockFetcher } from './credentials/aws/mock.ts';
import { stsFetcher } from './credentials/aws/assume-role.ts';
import { CLAIM_LABELS, CLAIM_VARIABLES } from './roles/container-request.ts';
import { RoleResolver } from './roles/resolver.ts';
import type { RoleRequest } from './roles/role-request.ts';
import type { RoleRule } from './roles/role-rules.ts';
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

/** From what the engine shows of a container to what is kept of it. */
export function containerReader(config: Config, engine: DockerEngine) {
  const retained = retainedFields(config);
  return async (found: EngineContainer): Promise<Container> => {
    const own = config.ignoreImageRoles ? await withoutImageClaims(found, engine) : found;
    return describeContainer(own, retained);
  };
}

/** What came with the image was chosen by whoever made the image, not by whoever started the container. */
async function withoutImageClaims(found: EngineContainer, engine: DockerEngine): Promise<EngineContainer> {
  const image = await engine.image(found.imageId);
  // Of an image that cannot be read anything might come.
  if (!image) return { ...found, env: new Map(), labels: new Map() };
  const own = (values: ReadonlyMap<string, string>, ofImage: ReadonlyMap<string, string>) =>
    new Map([...values].filter(([name, value]) => ofImage.get(name) !== value));
  return { ...found, env: own(found.env, image.env), labels: own(found.labels, image.labels) };
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
  // A rule that comes with the next reading of the file may ask for any label.
  return { env: new Set(env), labels: roleRules === undefined ? new Set(labels) : 'all' };
}

export function awsClients(config: Config, imds: Imds, events?: AwsOptions['events']): AwsClients {
  return new AwsClients({ region: config.region, hostRegion: () => imds.region(), clock: systemClock, events });
}

/** How credentials are got: from STS, or made up. */
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
 * Where the firewall script redirects connections from on the host. Not 169.254.170.2 (ECS), which is redirected only
 * if it is told so: see HostProcesses for what would come of it.
 */
const REDIRECTED = ['169.254.169.254', 'fd00:ec2::254'].map((address) => ({ address, port: 80 }));

/** Who is behind the host's own addresses, as far as the firewall redirects their connections. */
export async function hostProcesses({ hostNetwork }: Config): Promise<HostProcesses> {
  const { HostProcesses } = await import('./callers/host/processes.ts');
  // The proxy's own user never is, or the proxy would only reach itself.
  const exempt = new Set([process.getuid?.() ?? 0]);
  if (hostNetwork !== 'users and root') exempt.add(0);
  return new HostProcesses({ clock: systemClock, redirected: REDIRECTED, exempt });
}
