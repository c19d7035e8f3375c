/**
 * The whole program but for its process: wires the parts together, and owns start, reload and stop.
 */

import { answerWatch } from './admin/answer-watch.ts';
import { AdminServer } from './admin/server.ts';
import { isReady, makeStatus, readiness, type StatusSources } from './admin/status.ts';
import { CallerFinder, type OtherSource } from './callers/finder.ts';
import { HostNetwork, hostCaller } from './callers/host/network.ts';
import { MesosTasks } from './callers/mesos.ts';
import { ReverseLookup } from './callers/reverse-lookup.ts';
import { systemClock as clock } from './clock.ts';
import { hostAndPort, type Config } from './config.ts';
import type { Container } from './containers/container.ts';
import { ContainerDirectory, type DirectoryState } from './containers/directory.ts';
import { DockerEngine } from './containers/docker.ts';
import type { AwsClients } from './credentials/aws.ts';
import { AssumeRoleDenied, ROLE_NOT_ALLOWED } from './credentials/credentials.ts';
import { OwnCredentials } from './credentials/own-credentials.ts';
import { CredentialStore } from './credentials/store.ts';
import { AnswerLog } from './http/answer-log.ts';
import { Callers } from './http/callers.ts';
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
import { isLoopback } from './ip-address.ts';
import { awsClients, containerReader, credentialFetcher, hostProcesses, roleSettings } from './parts.ts';
import { parseAddressMapping, type AddressMapping } from './roles/address-mapping.ts';
import { RoleAssignments } from './roles/assignments.ts';
import type { RoleRequest } from './roles/role-request.ts';
import { parseRoleRules, type RoleRule } from './roles/role-rules.ts';
import { SettingFile } from './setting-file.ts';
import { Activity } from './telemetry/activity.ts';
import { startBackends } from './telemetry/backends.ts';
import { Health } from './telemetry/health.ts';
import type { Log } from './telemetry/log.ts';
import { Metrics } from './telemetry/metrics.ts';
import { ProgramMetrics } from './telemetry/program-metrics.ts';
import { exposition } from './telemetry/prometheus.ts';
import { RequestMetrics } from './telemetry/request-metrics.ts';
import { Troubles } from './telemetry/troubles.ts';
import { Imds } from './upstream/imds.ts';
import { startMockImds } from './upstream/mock-imds.ts';

/** A failed start; the message says what could not be had and why. */
export class StartFailure extends Error {}

export interface RunningProxy {
  /** Reads every file anew. */
  reload(): void;
  /** Resolves when everything in flight is finished. */
  stop(): Promise<void>;
}

/** How many calls of STS are under way at once, at the most: far below its quota, enough for a host that starts up. */
const STS_CALLS_AT_ONCE = 16;

/** Different reasons why callers on the host are not told that are logged; there are few, but for a daemon's errors. */
const MOST_TROUBLES = 100;

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

/** @throws ConfigError, StartFailure */
export async function startProxy(config: Config, log: Log, version: string): Promise<RunningProxy> {
  for (const notice of config.notices) log.warning(notice);
  const { accountNames } = config;
  const troubles = new Troubles(log, clock);
  const [docker, sts, upstream] = [new Health(clock.now), new Health(clock.now), new Health(clock.now)];
  const activity = new Activity();
  const parseRules = (text: string): RoleRule[] => parseRoleRules(text, accountNames);
  const parseMapping = (text: string): AddressMapping => parseAddressMapping(text, accountNames);
  const rules = follow(log, troubles, 'ROLE_RULES', config.roleRules, parseRules, (now) => {
    assignments.replaceSettings(roleSettings(config, now));
  });
  const metrics = new Metrics();
  const programMetrics = new ProgramMetrics(metrics, clock, {
    version,
    ready: () => isReady(readiness(sources)),
    directory: () => ({ state: directory.state, containers: [...directory.started()].length }),
    credentials: () => store.held(),
  });
  const expose = config.prometheus ? (accept: string) => exposition(metrics.read(), accept) : undefined;
  const mock = config.mockApi ? await startMockImds(config.mockedInstanceId) : undefined;
  const imds = new Imds({
    url: mock?.url ?? config.metadataUrl,
    clock,
    onTokenless: (reason) => troubles.tell('info', 'no session token from the metadata service', '', { reason }),
  });
  const clients = awsClients(config, imds, {
    onCall: (...call) => programMetrics.called(...call),
    onOwnWorked: () => ownCredentials.worked(),
    onOwnFailed: (message, refused) => ownCredentials.failed(message, refused),
  });
  const ownCredentials = new OwnCredentials({
    resolve: () => clients.ownAccessKey(),
    forget: () => clients.forget(),
    clock,
    random: Math.random,
    onFailed: ({ message: error }) => troubles.tell('warning', "the proxy's own credentials cannot be had", '', { error }),
  });
  const store = makeStore(config, log, clients, { sts, troubles, metrics: programMetrics });
  const assignments = new RoleAssignments({
    store,
    settings: roleSettings(config, rules?.value ?? []),
    hostNetwork: config.hostNetwork !== 'nobody',
    onBadRequest: ({ name, shortId }, { message }) => {
      troubles.tell('error', 'bad role', name, { container: name, container_id: shortId, error: message });
    },
  });
  const engine = new DockerEngine(config.docker, (at) => programMetrics.eventSent(at));
  const directory = new ContainerDirectory({
    engine,
    describe: containerReader(config, engine),
    clock,
    random: Math.random,
    resyncEvery: config.dockerSyncPeriod,
    onKnown: (container) => assignments.known(container),
    onStarted: (container) => assignments.started(container),
    onEnded: (container) => assignments.ended(container),
    onState: (state, { count, error }) => {
      if (state === 'synced') programMetrics.synced();
      if (state === 'synced') docker.worked();
      else docker.failed(error?.message ?? state);
      tellDirectoryState(log, troubles, state, count, error);
    },
  });
  const mapping = follow(log, troubles, 'ROLE_MAPPING_FILE', config.roleMapping, parseMapping, (now, before) => {
    for (const caller of now.values()) assignments.started(caller);
    for (const caller of before.values()) assignments.ended(caller);
  });
  for (const caller of mapping?.value.values() ?? []) assignments.started(caller);

  const finder = new CallerFinder({
    directory,
    mapping: () => mapping?.value,
    others: otherSources(config, directory),
    hostNetwork: followHostNetwork(config, log, engine, directory, assignments),
  });
  const find: CallerFinder['find'] = (address, connection) =>
    config.mockCredentials && isLoopback(address) ? DEMO_CONTAINER : finder.find(address, connection);
  const callers = new Callers({ directory: { find }, assignments, store });
  const tokens = new SessionTokens(clock.now);
  const glance = (address: string): Container | undefined => directory.glance(address);
  const answerLog = new AnswerLog(log, clock);
  const requestMetrics = new RequestMetrics({
    metrics,
    labels: config.metricsLabels,
    copied: { labels: config.copyDockerLabels, env: config.copyDockerEnv, headers: config.copyRequestHeaders },
    separator: config.labelSeparator,
    glance,
    requestFor: (container) => assignments.requestFor(container),
    now: clock.now,
  });
  const watch = answerWatch({ activity, upstream, troubles, glance });
  const server = new MetadataServer({
    handlers: {
      sessionToken: sessionToken(tokens, (exchange) => server.holderOf(exchange)),
      iamListing: iamListing(callers),
      iamInfo: iamInfo(callers),
      roleName: roleNameListing(callers),
      roleCredentials: roleCredentials(callers),
      containerCredentials: containerCredentials(callers),
      metrics: scrape(expose, (address) => glance(address) !== undefined),
      passThrough: passThrough(
        imds,
        { disabled: config.disableUpstream, allow: config.passThroughAllow, deny: config.passThroughDeny },
        config.maxRequestsPerSecond === 0 ? undefined : (exchange) => server.moreWork(exchange),
      ),
    },
    tokens,
    tokenRequired: config.imdsv2Required,
    glance: (address, connection) => finder.glance(address, connection),
    settle: (address, connection) => finder.settle(address, connection),
    maxConnections: config.maxConnections,
    maxConnectionsPerAddress: config.maxConnectionsPerAddress,
    maxRequestsPerSecond: config.maxRequestsPerSecond,
    readTimeout: config.readTimeout,
    writeTimeout: config.writeTimeout,
    onAnswered: (exchange, found, failure, seconds) => {
      answerLog.answered(exchange, found, failure, seconds);
      requestMetrics.answered(exchange, found, failure, seconds);
      watch(exchange, found, failure, seconds);
    },
    log,
  });

  const sources: StatusSources = {
    version, config, clock, log, directory, assignments, store, ownCredentials, docker, sts, upstream, activity, troubles,
  };
  const admin = new AdminServer({
    readiness: () => readiness(sources),
    status: () => makeStatus(sources),
    metrics: expose,
  });

  const backends = startBackends(config, metrics, log, clock, version);
  const stop = async (): Promise<void> => {
    rules?.close();
    mapping?.close();
    admin.close();
    await server.close();
    await Promise.all(backends.map((backend) => backend.close()));
    programMetrics.close();
    directory.close();
    engine.close();
    store.close();
    ownCredentials.close();
    imds.close();
    mock?.close();
  };
  try {
    directory.start();
    programMetrics.start();
    await listen(log, 'listening', server, config);
    if (config.adminAddress !== 'off') await listen(log, 'admin listening', admin, config.adminAddress);
    if (!config.mockCredentials) void ownCredentials.start();
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
  troubles: Troubles,
  setting: string,
  path: string | undefined,
  parse: (text: string) => T,
  use: (now: T, before: T) => void,
): SettingFile<T> | undefined {
  if (path === undefined) return undefined;
  return new SettingFile({
    setting,
    path,
    parse,
    onChange: (now, before) => {
      log.info('file read', { setting, path });
      use(now, before);
    },
    onBroken: ({ message }) => {
      troubles.tell('error', 'file not read; what it said before stays', setting, { setting, path, error: message });
    },
  });
}

function otherSources(config: Config, directory: ContainerDirectory): OtherSource[] {
  const sources: OtherSource[] = [];
  if (config.reverseLookup) {
    const containers = function* (): Generator<Container> {
      for (const { container } of directory.started()) yield container;
    };
    sources.push(new ReverseLookup({ containers, pattern: config.hostnamePattern, clock }));
  }
  if (config.mesosLookup) {
    sources.push(new MesosTasks({ url: config.mesosUrl, timeout: config.mesosTimeout * 1000, clock }));
  }
  return sources;
}

/** @returns undefined when nobody's connections are redirected on the host itself */
function followHostNetwork(
  config: Config,
  log: Log,
  engine: DockerEngine,
  directory: ContainerDirectory,
  assignments: RoleAssignments,
): HostNetwork | undefined {
  if (config.hostNetwork === 'nobody') return undefined;
  const processes = hostProcesses(config);
  const told = new Set<string>();
  const onTrouble = (reason: string): void => {
    if (told.has(reason) || told.size === MOST_TROUBLES) return;
    told.add(reason);
    log.error('callers on the host are not told', { setting: 'HOST_NETWORK', error: reason });
  };
  // What is wrong for all of them is better known now than when somebody asks.
  processes.survey().catch(({ message }: Error) => onTrouble(message));
  const host = config.hostRole && hostCaller(config.hostRole);
  if (host) assignments.started(host);
  return new HostNetwork({
    processes,
    containerById: (id) => directory.byId(id),
    firstProcessOf: (id) => engine.firstProcessOf(id),
    host,
    clock,
    onTrouble,
  });
}

function makeStore(
  config: Config,
  log: Log,
  clients: AwsClients,
  { sts, troubles, metrics }: { sts: Health; troubles: Troubles; metrics: ProgramMetrics },
): CredentialStore<RoleRequest> {
  return new CredentialStore<RoleRequest>({
    fetch: credentialFetcher(config, clients, log),
    clock,
    random: Math.random,
    offset: config.roleCacheOffset,
    concurrency: STS_CALLS_AT_ONCE,
    onFetched: ({ sessionName }, { roleArn, expiration }, ms) => {
      metrics.refreshed('ok');
      sts.worked();
      const expires = new Date(expiration).toISOString();
      log.info('role assumed', { role_arn: roleArn, session_name: sessionName, expires, ms: Math.round(ms) });
    },
    onFailed: ({ role, sessionName }, failure, retryIn, failures) => {
      metrics.refreshed('failed');
      const { message: error } = failure;
      const code = failure instanceof AssumeRoleDenied ? failure.code : undefined;
      const fields = { role: role.text, session_name: sessionName, code, error };
      if (code === ROLE_NOT_ALLOWED) {
        if (failures === 1) troubles.tell('warning', 'role not allowed', role.text, fields);
        return;
      }
      // A denial is an answer.
      if (code === undefined) sts.failed(error);
      else sts.worked();
      troubles.tell('error', 'role not assumed', role.text, { ...fields, retry_in_ms: Math.round(retryIn) });
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

function tellDirectoryState(
  log: Log,
  troubles: Troubles,
  state: DirectoryState,
  count: number,
  error: Error | undefined,
): void {
  if (state === 'synced') return log.info('containers known', { count });
  const fields = { state, count, error: error?.message };
  troubles.tell('warning', 'the Docker Engine cannot be followed; trying again', '', fields);
}
