/**
 * The composition root: constructs the components, each after those that it needs, and starts, reloads and stops them.
 */

import { AdminServer } from './admin/server.ts';
import { isReady, makeStatus, readiness, type StatusSources } from './admin/status.ts';
import { RoleAssignments } from './assignments.ts';
import type { DemoCaller } from './caller.ts';
import type { AddressMapping } from './callers/address-mapping.ts';
import { HostAddresses } from './callers/host/addresses.ts';
import { hostProcess } from './callers/host/network.ts';
import { CallerResolver } from './callers/resolver.ts';
import type { Config } from './config/config.ts';
import { SourceCredentials } from './credentials/aws/source-credentials.ts';
import { CredentialStore } from './credentials/store.ts';
import { DockerEngine } from './docker/client.ts';
import { ContainerDirectory } from './docker/directory.ts';
import type { Events } from './events.ts';
import { firewallState } from './firewall-state.ts';
import { Admission } from './http/admission.ts';
import { CredentialService } from './http/credential-service.ts';
import { credentialHandlers } from './http/handlers/credentials.ts';
import { metrics } from './http/handlers/metrics.ts';
import { passThrough } from './http/handlers/pass-through.ts';
import { sessionToken } from './http/handlers/session-token.ts';
import { MetadataServer } from './http/server.ts';
import { SessionTokens } from './http/session-tokens.ts';
import { Imds } from './imds/client.ts';
import { startMockImds } from './imds/mock.ts';
import type { Log } from './log/log.ts';
import type { RoleRequest } from './roles/role-request.ts';
import { Telemetry } from './telemetry/telemetry.ts';
import { AfterBurst } from './util/after-burst.ts';
import { systemClock as clock } from './util/clock.ts';
import { hostAndPort, normalAddress } from './util/ip-address.ts';
import * as wiring from './wiring.ts';

/** The proxy cannot start; the message says why. */
export class StartFailure extends Error {}

export interface RunningProxy {
  /** Reads every watched file again. */
  reload(): void;
  /** Resolves when all requests in flight are answered. */
  stop(): Promise<void>;
}

/** Concurrent STS calls: far below the quota of STS, enough for a host that starts all its containers. */
const MAX_CONCURRENT_STS_CALLS = 16;

/** The caller in a demonstration, which needs no Docker. */
const DEMO: DemoCaller = { kind: 'demo', id: 'demo00000000'.padEnd(64, '0'), name: 'demo' };

/**
 * @param inheritedFd the listening socket that the service manager passed on, if it did
 * @throws ConfigError, StartFailure
 */
export async function startProxy(config: Config, log: Log, version: string, inheritedFd?: number): Promise<RunningProxy> {
  for (const notice of config.notices) log.warning(notice);
  const { random } = Math;
  const firewall = () => firewallState(clock.now());
  const telemetry = new Telemetry({ config, log, clock, version });
  const events: Events = telemetry;

  // What callers ask for: credentials, and the upstream IMDS.
  const mock = config.mockApi ? await startMockImds(config.mockedInstanceId) : undefined;
  const imds = new Imds({ url: mock?.url ?? config.metadataUrl, clock, events });
  const clients = wiring.awsClients(config, imds, events);
  const sourceCredentials = new SourceCredentials({ clients, clock, random, events });
  const store = new CredentialStore<RoleRequest>({
    fetch: wiring.credentialFetcher(config, clients, log),
    clock,
    random,
    offset: config.roleCacheOffset,
    concurrency: MAX_CONCURRENT_STS_CALLS,
    events,
  });

  // Who the callers are, and which role each has.
  const engine = new DockerEngine(config.docker, events);
  const describe = wiring.containerReader(config, engine);
  const directory = new ContainerDirectory({ engine, describe, clock, random, resyncEvery: config.dockerSyncPeriod, events });
  const rules = wiring.roleRules(config, events);
  const assignments = new RoleAssignments({
    directory,
    store,
    settings: wiring.roleSettings(config, rules?.value ?? []),
    hostNetwork: config.hostNetwork !== 'nobody',
    events,
  });
  rules?.follow((now) => assignments.replaceSettings(wiring.roleSettings(config, now)));
  const mapping = wiring.addressMapping(config, events);
  const retainMapped = (now: AddressMapping, before?: AddressMapping): void => {
    for (const caller of now.values()) assignments.started(caller);
    for (const caller of before?.values() ?? []) assignments.ended(caller);
  };
  if (mapping) retainMapped(mapping.value);
  mapping?.follow(retainMapped);
  const host = config.hostNetwork !== 'nobody' && config.hostRole ? hostProcess(config.hostRole) : undefined;
  if (host) assignments.started(host);
  const resolver = new CallerResolver({
    directory,
    mapping: () => mapping?.value,
    others: await wiring.otherSources(config, directory),
    hostAddresses: new HostAddresses(clock),
    hostNetwork: await wiring.hostNetwork(config, engine, directory, host, events),
    demo: config.mockCredentials ? DEMO : undefined,
  });

  // The listeners.
  const admission = new Admission({ maxRequestsPerSecond: config.maxRequestsPerSecond, clock, random });
  const tokens = new SessionTokens(clock.now);
  const { disableUpstream: disabled, passThroughAllow: allow, passThroughDeny: deny } = config;
  const server = new MetadataServer({
    admission,
    resolver,
    tokens,
    tokenRequired: config.imdsv2Required,
    handlers: {
      ...credentialHandlers(new CredentialService({ resolver, assignments, store })),
      sessionToken: sessionToken(tokens),
      metrics: metrics(telemetry.expose, (address) => resolver.isHost(address)),
      passThrough: passThrough(imds, { disabled, allow, deny }, admission),
    },
    maxConnections: config.maxConnections,
    maxConnectionsPerAddress: config.maxConnectionsPerAddress,
    readTimeout: config.readTimeout,
    writeTimeout: config.writeTimeout,
    clock,
    events: answerEvents(events, assignments),
    log,
  });
  const sources: StatusSources = {
    version, config, clock, log, directory, assignments, store, sourceCredentials, firewall, telemetry,
  };
  telemetry.observe({
    ready: () => isReady(readiness(sources)),
    directory: () => ({ state: directory.state, containers: [...directory.started()].length }),
    credentials: () => store.values(),
    firewall,
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
  } catch (error) {
    await stop();
    throw error;
  }
  const reload = (): void => {
    rules?.reload();
    mapping?.reload();
  };
  return { stop, reload };
}

/** Adds the role of a caller that requested no credentials, for metrics and the log. */
function answerEvents(events: Pick<Events, 'requestAnswered'>, assignments: RoleAssignments): Pick<Events, 'requestAnswered'> {
  const afterBurst = new AfterBurst(clock);
  return {
    requestAnswered: (exchange, route, failure, seconds) => {
      const { caller } = exchange;
      exchange.roleRequest ??= caller && assignments.peekRequest(caller);
      events.requestAnswered(exchange, route, failure, seconds);
      afterBurst.answered();
    },
  };
}

/** Takes over the inherited socket if its address is that of the settings. Otherwise listens on a socket of its own. */
async function listenForContainers(log: Log, server: MetadataServer, { host, port }: Config, fd?: number): Promise<void> {
  if (fd !== undefined) {
    const bound = await server.listenOn(fd);
    const [socket, settings] = [hostAndPort(bound.address, bound.port), hostAndPort(host, port)];
    if (bound.port === port && normalAddress(bound.address) === normalAddress(host)) {
      return log.info('listening', { address: socket, inherited: true });
    }
    await server.stopListening();
    log.warning('metadataproxy.socket listens elsewhere than HOST and PORT say: the port is not held over restarts', {
      socket,
      settings,
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
