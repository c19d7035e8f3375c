/**
 * The whole program but for its process: wires the parts together, and owns start, reload and stop.
 */

import { AdminServer } from './admin/server.ts';
import type { DemoCaller, HostProcess } from './caller.ts';
import { AfterBurst } from './util/after-burst.ts';
import { isReady, makeStatus, readiness, type StatusSources } from './admin/status.ts';
import { CallerResolver, type OtherSource } from './callers/resolver.ts';
import { HostAddresses } from './callers/host/addresses.ts';
import { HostNetwork, hostProcess, type HostNetworkOptions } from './callers/host/network.ts';
import { MesosTasks } from './callers/mesos.ts';
import { normalAddress } from './util/ip-address.ts';
import { systemClock as clock } from './util/clock.ts';
import { hostAndPort, type Config } from './config/config.ts';
import type { Container } from './docker/container.ts';
import { ContainerDirectory } from './docker/directory.ts';
import { DockerEngine } from './docker/client.ts';
import { SourceCredentials } from './credentials/aws/source-credentials.ts';
import { CredentialStore } from './credentials/store.ts';
import { Admission } from './http/admission.ts';
import { CredentialService } from './http/credential-service.ts';
import { credentialHandlers } from './http/handlers/credentials.ts';
import { metrics as scrape } from './http/handlers/metrics.ts';
import { passThrough } from './http/handlers/pass-through.ts';
import { sessionToken } from './http/handlers/session-token.ts';
import { MetadataServer } from './http/server.ts';
import { SessionTokens } from './http/session-tokens.ts';
import { awsClients, containerReader, credentialFetcher, hostProcesses, roleSettings } from './wiring.ts';
import { parseAddressMapping, type AddressMapping } from './callers/address-mapping.ts';
import { RoleAssignments } from './assignments.ts';
import type { RoleRequest } from './roles/role-request.ts';
import { parseRoleRules, type RoleRule } from './roles/role-rules.ts';
import { WatchedFile } from './config/watched-file.ts';
import type { Log } from './log/log.ts';
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

/** The caller in a demonstration, which needs no Docker. */
const DEMO: DemoCaller = { kind: 'demo', id: 'demo00000000'.padEnd(64, '0'), name: 'demo' };

/**
 * @param inheritedFd the listening socket that the service manager passed on, if it did
 * @throws ConfigError, StartFailure
 */
export async function startProxy(config: Config, log: Log, version: string, inheritedFd?: number): Promise<RunningProxy> {
  for (const notice of config.notices) log.warning(notice);
  const { accountNames } = config;
  const telemetry = new Telemetry({
    config,
    log,
    clock,
    gauges: {
      version,
      ready: () => isReady(readiness(sources)),
      directory: () => ({ state: directory.state, containers: [...directory.started()].length }),
      credentials: () => store.values(),
      firewall: () => firewallState(clock.now()),
    },
    requestFor: (caller) => assignments.assignmentOf(caller).request,
  });
  const parseRules = (text: string): RoleRule[] => parseRoleRules(text, accountNames);
  const parseMapping = (text: string): AddressMapping => parseAddressMapping(text, accountNames);
  const rules = follow(log, telemetry, 'ROLE_RULES', config.roleRules, parseRules, (now) => {
    assignments.replaceSettings(roleSettings(config, now));
  });
  const mock = config.mockApi ? await startMockImds(config.mockedInstanceId) : undefined;
  const imds = new Imds({
    url: mock?.url ?? config.metadataUrl,
    clock,
    events: { upstreamTokenFailed: (reason) => telemetry.noUpstreamToken(reason) },
  });
  const clients = awsClients(config, imds, { awsCallEnded: (...call) => telemetry.called(...call) });
  const sourceCredentials = new SourceCredentials({
    clients,
    clock,
    random: Math.random,
    events: { sourceCredentialsFailed: (error) => telemetry.noSourceCredentials(error) },
  });
  const store = new CredentialStore<RoleRequest>({
    fetch: credentialFetcher(config, clients, log),
    clock,
    random: Math.random,
    offset: config.roleCacheOffset,
    concurrency: MAX_CONCURRENT_STS_CALLS,
    events: {
      credentialsFetched: (...fetched) => telemetry.fetched(...fetched),
      credentialsFailed: (...failed) => telemetry.notFetched(...failed),
    },
  });
  const engine = new DockerEngine(config.docker, { engineEventReceived: (at) => telemetry.eventSent(at) });
  const directory = new ContainerDirectory({
    engine,
    describe: containerReader(config, engine),
    clock,
    random: Math.random,
    resyncEvery: config.dockerSyncPeriod,
    events: { directoryStateChanged: (state, detail) => telemetry.directory(state, detail) },
  });
  const assignments = new RoleAssignments({
    store,
    settings: roleSettings(config, rules?.value ?? []),
    hostNetwork: config.hostNetwork !== 'nobody',
    directory,
    events: { roleRequestInvalid: (caller, error) => telemetry.badRequest(caller, error) },
  });
  const mapping = follow(log, telemetry, 'ROLE_MAPPING_FILE', config.roleMapping, parseMapping, (now, before) => {
    for (const caller of now.values()) assignments.started(caller);
    for (const caller of before.values()) assignments.ended(caller);
  });
  for (const caller of mapping?.value.values() ?? []) assignments.started(caller);

  const hostAddresses = new HostAddresses(clock);
  const hostNetworkFailed = (reason: string): void => telemetry.hostNetworkFailed(reason);
  const hostNetwork = await followHostNetwork(config, { hostNetworkFailed }, engine, directory);
  if (hostNetwork?.host) assignments.started(hostNetwork.host);
  const resolver = new CallerResolver({
    directory,
    mapping: () => mapping?.value,
    others: await otherSources(config, directory),
    hostAddresses,
    hostNetwork: hostNetwork?.network,
    demo: config.mockCredentials ? DEMO : undefined,
  });
  const credentialService = new CredentialService({ resolver, assignments, store });
  const tokens = new SessionTokens(clock.now);
  const afterBurst = new AfterBurst(clock);
  const admission = new Admission({ maxRequestsPerSecond: config.maxRequestsPerSecond, clock, random: Math.random });
  const server = new MetadataServer({
    handlers: {
      sessionToken: sessionToken(tokens),
      ...credentialHandlers(credentialService),
      metrics: scrape(telemetry.expose, (address) => resolver.isHost(address)),
      passThrough: passThrough(
        imds,
        { disabled: config.disableUpstream, allow: config.passThroughAllow, deny: config.passThroughDeny },
        admission,
      ),
    },
    tokens,
    tokenRequired: config.imdsv2Required,
    admission,
    resolver,
    maxConnections: config.maxConnections,
    maxConnectionsPerAddress: config.maxConnectionsPerAddress,
    clock,
    readTimeout: config.readTimeout,
    writeTimeout: config.writeTimeout,
    events: {
      requestAnswered: (exchange, route, failure, seconds) => {
        telemetry.answered(exchange, route, failure, seconds);
        afterBurst.answered();
      },
    },
    log,
  });

  const sources: StatusSources = { version, config, clock, log, directory, assignments, store, sourceCredentials, telemetry, firewall: () => firewallState(clock.now()) };
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

/** Follows the file that a setting names, if it names one. */
function follow<T>(
  log: Log,
  telemetry: Telemetry,
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
      log.info('file read', { setting, path });
      use(now, before);
    },
    onBroken: (error) => telemetry.fileBroken(setting, path, error),
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

/** @returns undefined without HOST_NETWORK */
async function followHostNetwork(
  config: Config,
  events: HostNetworkOptions['events'],
  engine: DockerEngine,
  directory: ContainerDirectory,
): Promise<{ network: HostNetwork; host: HostProcess | undefined } | undefined> {
  if (config.hostNetwork === 'nobody') return undefined;
  const processes = await hostProcesses(config);
  // Report a missing permission at start, not with the first request.
  processes.survey().catch(({ message }: Error) => events.hostNetworkFailed(message));
  const host = config.hostRole && hostProcess(config.hostRole);
  const network = new HostNetwork({
    processes,
    containerById: (id) => directory.byId(id),
    firstProcessOf: (id) => engine.firstProcessOf(id),
    hostProcess: host,
    events,
  });
  return { network, host };
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
