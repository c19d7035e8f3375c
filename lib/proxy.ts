/**
 * The whole program but for its process: wires the parts together, and owns start and stop.
 */

import { AdminServer, type Check } from './admin/server.ts';
import { systemClock } from './clock.ts';
import type { Config } from './config.ts';
import { describeContainer, shortId, type Container } from './containers/container.ts';
import { ContainerDirectory, type DirectoryState } from './containers/directory.ts';
import { DockerEngine } from './containers/docker.ts';
import { AwsClients } from './credentials/aws.ts';
import { mockFetcher } from './credentials/mock.ts';
import { CredentialStore } from './credentials/store.ts';
import { stsFetcher } from './credentials/sts.ts';
import { Callers } from './http/callers.ts';
import { containerCredentials } from './http/handlers/container-credentials.ts';
import { iamInfo } from './http/handlers/iam-info.ts';
import { iamListing } from './http/handlers/iam-listing.ts';
import { passThrough } from './http/handlers/pass-through.ts';
import { roleCredentials } from './http/handlers/role-credentials.ts';
import { roleNameListing } from './http/handlers/role-name.ts';
import { sessionToken } from './http/handlers/session-token.ts';
import { MetadataServer } from './http/server.ts';
import { SessionTokens } from './http/session-tokens.ts';
import { isLoopback } from './ip-address.ts';
import { EXTERNAL_ID_VARIABLE, ROLE_VARIABLE, RoleAssignments } from './roles/assignments.ts';
import { RoleResolver } from './roles/resolver.ts';
import type { RoleRequest } from './roles/role-request.ts';
import type { Log } from './telemetry/log.ts';
import { Imds } from './upstream/imds.ts';
import { startMockImds } from './upstream/mock-imds.ts';

/** A failed start; the message says what could not be had and why. */
export class StartFailure extends Error {}

export interface RunningProxy {
  /** Resolves when everything in flight is finished. */
  stop(): Promise<void>;
}

/** How many calls of STS are under way at once, at the most: far below its quota, enough for a host that starts up. */
const STS_CALLS_AT_ONCE = 16;

/** Who is asking in a demonstration, where there need be no Docker. */
const DEMO_CONTAINER: Container = {
  id: 'demo00000000'.padEnd(64, '0'),
  name: 'demo',
  image: 'demo',
  env: new Map(),
  network: 'own',
};

/** @throws StartFailure */
export async function startProxy(config: Config, log: Log, version: string): Promise<RunningProxy> {
  const clock = systemClock;
  const random = Math.random;
  const mock = config.mockApi ? await startMockImds(config.mockedInstanceId) : undefined;
  const imds = new Imds({
    url: mock?.url ?? config.metadataUrl,
    clock,
    onTokenless: (reason) => log.info('no session token from the metadata service', { reason }),
  });

  const store = makeStore(config, log, imds);
  const assignments = new RoleAssignments({
    store,
    defaultRole: config.defaultRole,
    defaultAccountId: config.defaultAccountId,
    onBadRole: (container, { message }) => log.error('bad role', { ...named(container), error: message }),
  });
  const engine = new DockerEngine(config.docker);
  const variables = new Set([ROLE_VARIABLE, EXTERNAL_ID_VARIABLE]);
  const directory = new ContainerDirectory({
    engine,
    describe: (found) => describeContainer(found, variables),
    clock,
    random,
    onKnown: (container) => assignments.known(container),
    onStarted: (container) => assignments.started(container),
    onEnded: (container) => assignments.ended(container),
    onState: (state, { count, error }) => logDirectoryState(log, state, count, error),
  });

  const find = (address: string) =>
    config.mockCredentials && isLoopback(address) ? DEMO_CONTAINER : directory.find(address);
  const callers = new Callers({ directory: { find }, assignments, store });
  const tokens = new SessionTokens(clock.now);
  const server = new MetadataServer({
    handlers: {
      sessionToken: sessionToken(tokens, (exchange) => server.holderOf(exchange)),
      iamListing: iamListing(callers),
      iamInfo: iamInfo(callers),
      roleName: roleNameListing(callers),
      roleCredentials: roleCredentials(callers),
      containerCredentials: containerCredentials(callers),
      passThrough: passThrough(imds),
    },
    tokens,
    tokenRequired: config.imdsv2Required,
    glance: (address) => directory.glance(address),
    maxConnections: config.maxConnections,
    maxConnectionsPerAddress: config.maxConnectionsPerAddress,
    log,
  });

  const readiness = (): Record<string, Check> => ({
    docker: { ok: directory.state === 'synced' || config.mockCredentials, detail: directory.state },
  });
  const admin = new AdminServer({
    readiness,
    status: () => ({
      version,
      uptime_seconds: Math.floor(process.uptime()),
      checks: readiness(),
      containers: [...directory.started()].map(({ id, name, image }) => ({ id, name, image })),
      credentials: store.size,
    }),
  });

  const stop = async (): Promise<void> => {
    admin.close();
    await server.close();
    directory.close();
    engine.close();
    store.close();
    imds.close();
    mock?.close();
  };
  try {
    directory.start();
    await listen(log, 'listening', server, config);
    if (config.adminAddress !== 'off') await listen(log, 'admin listening', admin, config.adminAddress);
    return { stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function makeStore(config: Config, log: Log, imds: Imds): CredentialStore<RoleRequest> {
  const clients = new AwsClients({ region: config.region, hostRegion: () => imds.region() });
  const resolver = new RoleResolver(clients, systemClock);
  const { now } = systemClock;
  const fetch = config.mockCredentials
    ? mockFetcher(now)
    : stsFetcher({ clients, resolve: ({ role }) => resolver.resolve(role), now });
  return new CredentialStore<RoleRequest>({
    fetch,
    clock: systemClock,
    random: Math.random,
    offset: config.roleCacheOffset,
    concurrency: STS_CALLS_AT_ONCE,
    onFetched: ({ sessionName }, { roleArn, expiration }, ms) => {
      const expires = new Date(expiration).toISOString();
      log.info('role assumed', { role_arn: roleArn, session_name: sessionName, expires, ms });
    },
    onFailed: ({ role, sessionName }, { message }, retryIn) => {
      const fields = { role: role.text, session_name: sessionName, retry_in_ms: Math.round(retryIn), error: message };
      log.error('role not assumed', fields);
    },
  });
}

type Listener = { listen(host: string, port: number): Promise<number> };

async function listen(log: Log, message: string, listener: Listener, at: { host: string; port: number }): Promise<void> {
  try {
    const port = await listener.listen(at.host, at.port);
    log.info(message, { address: hostAndPort(at.host, port) });
  } catch (error) {
    const { code, message: reason } = error as NodeJS.ErrnoException;
    throw new StartFailure(`cannot listen on ${hostAndPort(at.host, at.port)}: ${LISTEN_ERRORS[code ?? ''] ?? reason}`);
  }
}

const LISTEN_ERRORS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'the port is in use',
  EACCES: 'permission denied (a port below 1024 needs root or CAP_NET_BIND_SERVICE)',
  EADDRNOTAVAIL: 'this host has no such address',
};

function hostAndPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function logDirectoryState(log: Log, state: DirectoryState, count: number, error: Error | undefined): void {
  if (state === 'synced') log.info('containers known', { count });
  else log.warning('the Docker Engine cannot be followed; trying again', { state, count, error: error?.message });
}

function named(container: Container): { container: string; container_id: string } {
  return { container: container.name, container_id: shortId(container) };
}
