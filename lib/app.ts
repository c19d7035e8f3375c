/**
 * The whole program but for its process: wires the parts together, and owns start, reload and stop.
 */

import { AdminServer } from './admin/server.ts';
import { AfterBurst } from './util/after-burst.ts';
import { isReady, makeStatus, readiness, type StatusSources } from './admin/status.ts';
import { CallerResolver, type OtherSource } from './callers/resolver.ts';
import { HostNetwork, hostCaller } from './callers/host/network.ts';
import { MesosTasks } from './callers/mesos.ts';
import { systemClock as clock } from './util/clock.ts';
import type { Config } from './config/config.ts';
import type { Container } from './docker/container.ts';
import { ContainerDirectory } from './docker/directory.ts';
import { DockerEngine } from './docker/client.ts';
import { SourceCredentials } from './credentials/aws/source-credentials.ts';
import { CredentialStore } from './credentials/store.ts';
import { Admission } from './http/admission.ts';
import type { Connection } from './http/connections.ts';
import { CredentialService } from './http/credential-service.ts';
import { containerCredentials } from './http/handlers/container-credentials.ts';
import { iamInfo } from './http/handlers/iam-info.ts';
import { iamListing } from './http/handlers/iam-listing.ts';
import { metrics as scrape } from './http/handlers/metrics.ts';
import { passThrough } from './http/handlers/pass-through.ts';
import { roleCredentials } from './http/handlers/role-credentials.ts';
import { roleNameListing } from './http/handlers/role-name.ts';
import { sessionToken } from './http/handlers/session-token.ts';
import { MetadataServer } from './http/server.ts';
import { SessionTokens } from './http/session-tokens.ts';
import { hostAndPort, isLoopback, normalAddress } from './util/ip-address.ts';
import { awsClients, containerReader, credentialFetcher, hostProcesses, roleSettings } from './wiring.ts';
import { parseAddressMapping, type AddressMapping } from './callers/address-mapping.ts';
import { RoleAssignments } from './assignments.ts';
import type { RoleRequest } from './roles/role-request.ts';
import { parseRoleRules, type RoleRule } from './roles/role-rules.ts';
import { WatchedFile } from './config/watched-file.ts';
import type { Log } from './log/log.ts';
import type { Events } from './events.ts';
import { Telemetry } from './telemetry/telemetry.ts';
import { firewallState } from './firewall-state.ts';
import { Imds } from './imds/client.ts';
import { startMockImds } from './imds/mock.ts';

/** A failed start; the message says what could not be had and why. */
export class StartFailure extends Error {}

export interface RunningProxy {
  /** Reads every file anew. */
  reload(): void;
  /** Resolves when everything in flight is finished. */
  stop(): Promise<void>;
}

/** How many calls of STS are under way at once, at the most: far below its quota, enough for a host that starts up. */
const MAX_CONCURRENT_STS_CALLS = 16;

/** Who is asking in a demonstration, where there need be no Docker. */
const DEMO_CONTAINER: Container = {
  id: 'demo00000000'.padEnd(64, '0'),
  shortId: 'demo00000000',
  name: 'demo',
  image: 'demo',
  hostname: '',
  env: new Map(),
  labels: new Map(),
  labelledAddress: undefined,
  networks: [],
  network: 'own',
};

/**
 * @param inheritedFd the listening socket that the service manager passed on, if it did
 * @throws ConfigError, StartFailure
 */
export async function startProxy(config: Config, log: Log, version: string, inheritedFd?: number): Promise<RunningProxy> {
  for (const notice of config.notices) log.warning(notice);
  const { accountNames } = config;
  const peek = (address: string): Container | undefined => directory.peek(address);
  const telemetry = new Telemetry({
    config,
    log,
    clock,
    version,
  });
  const parseRules = (text: string): RoleRule[] => parseRoleRules(text, accountNames);
  const parseMapping = (text: string): AddressMapping => parseAddressMapping(text, accountNames);
  const rules = follow(telemetry, 'ROLE_RULES', config.roleRules, parseRules, (now) => {
    assignments.replaceSettings(roleSettings(config, now));
  });
  const mock = config.mockApi ? await startMockImds(config.mockedInstanceId) : undefined;
  const imds = new Imds({
    url: mock?.url ?? config.metadataUrl,
    clock,
    events: { upstreamTokenFailed: (reason) => telemetry.upstreamTokenFailed(reason) },
  });
  const clients = awsClients(config, imds, { awsCallEnded: (...call) => telemetry.awsCallEnded(...call) });
  const sourceCredentials = new SourceCredentials({
    clients,
    clock,
    random: Math.random,
    events: { sourceCredentialsFailed: (error) => telemetry.sourceCredentialsFailed(error) },
  });
  const store = new CredentialStore<RoleRequest>({
    fetch: credentialFetcher(config, clients, log),
    clock,
    random: Math.random,
    offset: config.roleCacheOffset,
    concurrency: MAX_CONCURRENT_STS_CALLS,
    events: {
      credentialsFetched: (...fetched) => telemetry.credentialsFetched(...fetched),
      credentialsFailed: (...failed) => telemetry.credentialsFailed(...failed),
    },
  });
  const assignments = new RoleAssignments({
    store,
    settings: roleSettings(config, rules?.value ?? []),
    hostNetwork: config.hostNetwork !== 'nobody',
    onBadRequest: (container, error) => telemetry.roleRequestInvalid(container, error),
  });
  const engine = new DockerEngine(config.docker, { engineEventReceived: (at) => telemetry.engineEventReceived(at) });
  const directory = new ContainerDirectory({
    engine,
    describe: containerReader(config, engine),
    clock,
    random: Math.random,
    resyncEvery: config.dockerSyncPeriod,
    events: { directoryStateChanged: (state, detail) => telemetry.directoryStateChanged(state, detail) },
  });
  directory.subscribe(assignments);
  const mapping = follow(telemetry, 'ROLE_MAPPING_FILE', config.roleMapping, parseMapping, (now, before) => {
    for (const caller of now.values()) assignments.started(caller);
    for (const caller of before.values()) assignments.ended(caller);
  });
  for (const caller of mapping?.value.values() ?? []) assignments.started(caller);

  const resolver = new CallerResolver({
    directory,
    mapping: () => mapping?.value,
    others: await otherSources(config, directory),
    hostNetwork: await followHostNetwork(config, telemetry, engine, directory, assignments),
  });
  const resolve: CallerResolver['resolve'] = (address, connection) =>
    config.mockCredentials && isLoopback(address) ? DEMO_CONTAINER : resolver.resolve(address, connection);
  const peekCaller = (connection: Connection): Container | undefined => {
    try {
      return resolver.peek(connection.address, connection);
    } catch {
      return undefined; // The host's addresses cannot be read.
    }
  };
  const peersKnown: CallerResolver['peersKnown'] = (container) => resolver.peersKnown(container);
  const credentialService = new CredentialService({ resolver: { resolve, peersKnown }, assignments, store });
  const tokens = new SessionTokens(clock.now);
  const afterBurst = new AfterBurst(clock);
  const admission = new Admission({ maxRequestsPerSecond: config.maxRequestsPerSecond, clock, random: Math.random });
  const server = new MetadataServer({
    handlers: {
      sessionToken: sessionToken(tokens),
      iamListing: iamListing(credentialService),
      iamInfo: iamInfo(credentialService),
      roleName: roleNameListing(credentialService),
      roleCredentials: roleCredentials(credentialService),
      containerCredentials: containerCredentials(credentialService),
      metrics: scrape(telemetry.expose, (address) => peek(address) !== undefined),
      passThrough: passThrough(
        imds,
        { disabled: config.disableUpstream, allow: config.passThroughAllow, deny: config.passThroughDeny },
        admission,
      ),
    },
    tokens,
    tokenRequired: config.imdsv2Required,
    admission,
    resolver: {
      peek: peekCaller,
      ensureResolved: (connection) => resolver.ensureResolved(connection.address, connection),
    },
    maxConnections: config.maxConnections,
    maxConnectionsPerAddress: config.maxConnectionsPerAddress,
    clock,
    readTimeout: config.readTimeout,
    writeTimeout: config.writeTimeout,
    events: {
      requestAnswered: (exchange, route, failure, seconds) => {
        exchange.container ??= peekCaller(exchange.connection);
        exchange.roleRequest ??= roleRequestOf(assignments, exchange.container);
        telemetry.requestAnswered(exchange, route, failure, seconds);
        afterBurst.answered();
      },
    },
    log,
  });

  const sources: StatusSources = { version, config, clock, log, directory, assignments, store, sourceCredentials, telemetry, firewall: () => firewallState(clock.now()) };
  telemetry.observe({
    ready: () => isReady(readiness(sources)),
    directory: () => ({ state: directory.state, containers: [...directory.started()].length }),
    credentials: () => store.values(),
    firewall: () => firewallState(clock.now()),
  });
  const admin = new AdminServer({
    readiness: () => readiness(sources),
    status: () => makeStatus(sources),
    metrics: telemetry.expose,
  });

  const stop = async (): Promise<void> => {
    rules?.close();
    mapping?.close();
    admin.close();
    await server.close();
    await telemetry.close();
    directory.close();
    engine.close();
    store.close();
    sourceCredentials.close();
    imds.close();
    mock?.close();
  };
  try {
    await listenForContainers(log, server, config, inheritedFd);
    await telemetry.start();
    directory.start();
    if (config.adminAddress !== 'off') await listen(log, 'admin listening', admin, config.adminAddress);
    if (!config.mockCredentials) void sourceCredentials.start();
    const reload = (): void => {
      rules?.reload();
      mapping?.reload();
    };
    return { stop, reload };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The role of a caller that requested no credentials, for metrics and the log. */
function roleRequestOf(assignments: RoleAssignments, container: Container | undefined): RoleRequest | undefined {
  try {
    return container && assignments.requestFor(container);
  } catch {
    return undefined;
  }
}

/** Follows the file that a setting names, if it names one. */
function follow<T>(
  events: Pick<Events, 'fileReloaded' | 'fileReloadFailed'>,
  setting: string,
  path: string | undefined,
  parse: (text: string) => T,
  use: (now: T, before: T) => void,
): WatchedFile<T> | undefined {
  if (path === undefined) return undefined;
  return new WatchedFile({
    setting,
    path,
    parse,
    onChange: (now, before) => {
      events.fileReloaded(setting, path);
      use(now, before);
    },
    onBroken: (error) => events.fileReloadFailed(setting, path, error),
  });
}

async function otherSources(config: Config, directory: ContainerDirectory): Promise<OtherSource[]> {
  const sources: OtherSource[] = [];
  if (config.reverseLookup) {
    const { ReverseDns } = await import('./callers/reverse-dns.ts');
    const containers = function* (): Generator<Container> {
      for (const { container } of directory.started()) yield container;
    };
    sources.push(new ReverseDns({ containers, pattern: config.hostnamePattern, clock }));
  }
  if (config.mesosLookup) {
    sources.push(new MesosTasks({ url: config.mesosUrl, timeout: config.mesosTimeout * 1000, clock }));
  }
  return sources;
}

/** @returns undefined when nobody's connections are redirected on the host itself */
async function followHostNetwork(
  config: Config,
  events: Pick<Events, 'hostNetworkFailed'>,
  engine: DockerEngine,
  directory: ContainerDirectory,
  assignments: RoleAssignments,
): Promise<HostNetwork | undefined> {
  if (config.hostNetwork === 'nobody') return undefined;
  const processes = await hostProcesses(config);
  const onError = (reason: string): void => events.hostNetworkFailed(reason);
  // What is wrong for all of them is better known now than when somebody asks.
  processes.survey().catch(({ message }: Error) => onError(message));
  const host = config.hostRole && hostCaller(config.hostRole);
  if (host) assignments.started(host);
  return new HostNetwork({
    processes,
    containerById: (id) => directory.byId(id),
    firstProcessOf: (id) => engine.firstProcessOf(id),
    host,
    clock,
    onError,
  });
}

/** Takes over the inherited socket if it is where the settings say, else listens by itself. */
async function listenForContainers(log: Log, server: MetadataServer, { host, port }: Config, fd?: number): Promise<void> {
  if (fd !== undefined) {
    const bound = await server.listenOn(fd);
    const [socketAt, settingsAt] = [hostAndPort(bound.address, bound.port), hostAndPort(host, port)];
    if (bound.port === port && normalAddress(bound.address) === normalAddress(host)) {
      return log.info('listening', { address: socketAt, inherited: true });
    }
    await server.stopListening();
    log.warning('metadataproxy.socket listens elsewhere than HOST and PORT say: the port is not held over restarts', {
      socket: socketAt,
      settings: settingsAt,
      remedy: 'systemctl daemon-reload && systemctl restart metadataproxy.socket metadataproxy',
    });
  }
  await listen(log, 'listening', server, { host, port });
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
