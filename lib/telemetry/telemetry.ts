/**
 * Turns the events of the running program into log lines, metrics and the state that the status page shows. Exporters
 * are loaded only if a setting names a receiver.
 */

import { describe, type Caller } from '../caller.ts';
import type { CallResult } from '../credentials/aws/clients.ts';
import { AssumeRoleDenied, ROLE_NOT_ALLOWED, type Credentials } from '../credentials/credentials.ts';
import type { Config } from '../config/config.ts';
import type { DirectoryState } from '../docker/directory.ts';
import type { Events } from '../events.ts';
import type { Exchange } from '../http/exchange.ts';
import type { Route } from '../http/routes.ts';
import { UpstreamTimeout, UpstreamUnreachable } from '../imds/client.ts';
import { DependencyHealth } from '../log/dependency-health.ts';
import type { Log } from '../log/log.ts';
import { RecentErrors } from '../log/recent-errors.ts';
import type { BadRoleRequest } from '../roles/bad-request.ts';
import type { RoleRequest } from '../roles/role-request.ts';
import type { Clock } from '../util/clock.ts';
import { AccessLog } from './access-log.ts';
import type { Exporter } from './export/exporter.ts';
import { ProcessMetrics, type Gauges } from './metrics/process.ts';
import { exposition, type Exposition } from './metrics/prometheus.ts';
import { MetricsRegistry } from './metrics/registry.ts';
import { RequestMetrics } from './metrics/request.ts';
import { RequestHistory } from './request-history.ts';

export interface TelemetryOptions {
  readonly config: Config;
  readonly log: Log;
  readonly clock: Clock;
  readonly version: string;
}

/** Reasons to log. There are few, apart from a daemon's errors. */
const MAX_HOST_NETWORK_ERRORS = 100;

export class Telemetry implements Events {
  readonly recentErrors: RecentErrors;
  readonly requestHistory = new RequestHistory();
  readonly docker: DependencyHealth;
  readonly sts: DependencyHealth;
  readonly upstream: DependencyHealth;
  /** Makes the response of `/metrics`, given an Accept header; undefined if Prometheus is not enabled. */
  readonly expose: ((accept: string) => Exposition) | undefined;
  readonly #options: TelemetryOptions;
  readonly #metrics = new MetricsRegistry();
  readonly #processMetrics: ProcessMetrics;
  readonly #requestMetrics: RequestMetrics;
  readonly #accessLog: AccessLog;
  readonly #hostNetworkErrors = new Set<string>();
  #exporters: readonly Exporter[] = [];

  constructor(options: TelemetryOptions) {
    const { config, log, clock } = options;
    this.#options = options;
    this.recentErrors = new RecentErrors(log, clock);
    this.docker = new DependencyHealth(clock.now);
    this.sts = new DependencyHealth(clock.now);
    this.upstream = new DependencyHealth(clock.now);
    this.expose = config.prometheus ? (accept) => exposition(this.#metrics.collect(), accept) : undefined;
    this.#processMetrics = new ProcessMetrics(this.#metrics, clock);
    this.#requestMetrics = new RequestMetrics({
      metrics: this.#metrics,
      labels: config.metricsLabels,
      copied: { labels: config.copyDockerLabels, env: config.copyDockerEnv, headers: config.copyRequestHeaders },
      separator: config.labelSeparator,
      now: clock.now,
    });
    this.#accessLog = new AccessLog(log, clock);
  }

  /** Adds the gauges of components that were created after this one. */
  observe(gauges: Gauges): void {
    this.#processMetrics.observe(this.#options.version, gauges);
  }

  async start(): Promise<void> {
    const { config, log, clock, version } = this.#options;
    if (namesReceiver(config)) {
      const { startExporters } = await import('./export/start.ts');
      this.#exporters = startExporters(config, this.#metrics, log, clock, version);
    }
    // Measuring wakes the process periodically; skip it when nothing reads the metrics.
    if (this.expose || this.#exporters.length > 0) this.#processMetrics.start();
  }

  /** Exports once more. Resolves after a second at most. */
  async close(): Promise<void> {
    this.#processMetrics.close();
    this.#accessLog.close();
    await Promise.all(this.#exporters.map((exporter) => exporter.close()));
  }

  awsCallEnded(operation: string, result: CallResult, milliseconds: number): void {
    this.#processMetrics.awsCallEnded(operation, result, milliseconds);
  }

  credentialsFetched({ sessionName }: RoleRequest, { roleArn, expiration }: Credentials, milliseconds: number): void {
    this.#processMetrics.credentialsRefreshed('ok');
    this.sts.succeeded();
    const expires = new Date(expiration).toISOString();
    const fields = { role_arn: roleArn, session_name: sessionName, expires, ms: Math.round(milliseconds) };
    this.#options.log.info('role assumed', fields);
  }

  credentialsFailed({ role, sessionName }: RoleRequest, failure: Error, retryInMs: number, failures: number): void {
    this.#processMetrics.credentialsRefreshed('failed');
    const { message: error } = failure;
    const code = failure instanceof AssumeRoleDenied ? failure.code : undefined;
    const fields = { role: role.text, session_name: sessionName, code, error };
    if (code === ROLE_NOT_ALLOWED) {
      if (failures === 1) this.recentErrors.report('warning', 'role not allowed', role.text, fields);
      return;
    }
    // STS works if it denies a role.
    if (code === undefined) this.sts.failed(error);
    else this.sts.succeeded();
    this.recentErrors.report('error', 'role not assumed', role.text, { ...fields, retry_in_ms: Math.round(retryInMs) });
  }

  sourceCredentialsFailed({ message: error }: Error): void {
    this.recentErrors.report('warning', 'source credentials unavailable', '', { error });
  }

  engineEventReceived(sentAt: number): void {
    this.#processMetrics.engineEventReceived(sentAt);
  }

  directoryStateChanged(state: DirectoryState, { count, error }: { readonly count: number; readonly error?: Error }): void {
    if (state === 'synced') {
      this.#processMetrics.directorySynced();
      this.docker.succeeded();
      this.#options.log.info('containers known', { count });
      return;
    }
    this.docker.failed(error?.message ?? state);
    const fields = { state, count, error: error?.message };
    this.recentErrors.report('warning', 'cannot follow Docker events; retrying', '', fields);
  }

  roleRequestInvalid(caller: Caller, { message: error }: BadRoleRequest): void {
    const { name, shortId } = describe(caller);
    this.recentErrors.report('error', 'invalid role request', name, { container: name, container_id: shortId, error });
  }

  hostNetworkFailed(reason: string): void {
    const reported = this.#hostNetworkErrors;
    if (reported.has(reason) || reported.size === MAX_HOST_NETWORK_ERRORS) return;
    reported.add(reason);
    this.#options.log.error('cannot identify host-network caller', { setting: 'HOST_NETWORK', error: reason });
  }

  upstreamTokenFailed(reason: string): void {
    this.recentErrors.report('info', 'no session token from upstream IMDS; continuing without one', '', { reason });
  }

  fileReloaded(setting: string, path: string): void {
    this.#options.log.info('file reloaded', { setting, path });
  }

  fileReloadFailed(setting: string, path: string, { message: error }: Error): void {
    const fields = { setting, path, error };
    this.recentErrors.report('error', 'cannot reload file; keeping the previous version', setting, fields);
  }

  requestAnswered(exchange: Exchange, route: Route | undefined, failure: unknown, seconds: number): void {
    this.#accessLog.requestAnswered(exchange, route, failure, seconds);
    this.#requestMetrics.requestAnswered(exchange, route, failure, seconds);
    this.#recordRequest(exchange, route, failure, seconds);
  }

  /** For the status page. */
  #recordRequest({ id, began, caller, response }: Exchange, route: Route | undefined, failure: unknown, seconds: number): void {
    const at = began + seconds * 1000;
    if (failure === undefined) {
      // No head was sent to a client that disconnected first, so the upstream IMDS may not have answered.
      if (route?.kind === 'pass-through' && response.headersSent) this.upstream.succeeded();
      this.requestHistory.record(caller, 'served', at, seconds);
      return;
    }
    const error = failure instanceof Error ? failure.message : String(failure);
    const isRefusal = response.statusCode >= 400 && response.statusCode < 500;
    this.requestHistory.record(caller, isRefusal ? 'refused' : 'failed', at, seconds, error);
    if (failure instanceof UpstreamUnreachable || failure instanceof UpstreamTimeout) {
      this.upstream.failed(error);
      this.recentErrors.report('warning', 'upstream IMDS does not answer', '', { error, request_id: id });
    }
  }
}

function namesReceiver(config: Config): boolean {
  const { statsdAddress, statsiteAddress, datadogAddress, otlpEndpoint, otlpMetricsEndpoint, newRelicLicense } = config;
  const receivers = [statsdAddress, statsiteAddress, datadogAddress, otlpEndpoint, otlpMetricsEndpoint, newRelicLicense];
  return receivers.some((receiver) => receiver !== undefined);
}
