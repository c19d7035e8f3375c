/**
 * Everything that is worth knowing of the running program comes through here, and goes to the log, to the metrics and to
 * the operator's page.
 */

import type { Clock } from '../util/clock.ts';
import type { Config } from '../config/config.ts';
import type { Container } from '../docker/container.ts';
import type { DirectoryState } from '../docker/directory.ts';
import type { CallResult } from '../credentials/aws/clients.ts';
import { AssumeRoleDenied, ROLE_NOT_ALLOWED, type Credentials } from '../credentials/credentials.ts';
import { AccessLog } from './access-log.ts';
import type { Events } from '../events.ts';
import type { BadRoleRequest } from '../roles/bad-request.ts';
import type { RoleRequest } from '../roles/role-request.ts';
import { RequestHistory } from './request-history.ts';
import { requestRecorder } from './request-recorder.ts';
import type { Exporter } from './export/exporter.ts';
import { DependencyHealth } from '../log/dependency-health.ts';
import type { Log } from '../log/log.ts';
import { MetricsRegistry } from './metrics/registry.ts';
import { ProcessMetrics, type Gauges } from './metrics/process.ts';
import { exposition, type Exposition } from './metrics/prometheus.ts';
import { RequestMetrics } from './metrics/request.ts';
import { RecentErrors } from '../log/recent-errors.ts';

export interface TelemetryOptions {
  readonly config: Config;
  readonly log: Log;
  readonly clock: Clock;
  readonly gauges: Gauges;
  /** The container behind an address, as far as it is known at once. */
  readonly peek: (address: string) => Container | undefined;
  /** The role of a container. Throws where it has none. */
  readonly requestFor: (container: Container) => RoleRequest;
}

export class Telemetry {
  readonly recentErrors: RecentErrors;
  readonly requestHistory = new RequestHistory();
  /** How what the proxy depends on did the last times. */
  readonly docker: DependencyHealth;
  readonly sts: DependencyHealth;
  readonly upstream: DependencyHealth;
  /** What `/metrics` answers, given an Accept header; undefined where Prometheus is not enabled. */
  readonly expose: ((accept: string) => Exposition) | undefined;
  readonly answered: Events['requestAnswered'];
  readonly #options: TelemetryOptions;
  readonly #metrics = new MetricsRegistry();
  readonly #processMetrics: ProcessMetrics;
  #exporters: readonly Exporter[] = [];

  constructor(options: TelemetryOptions) {
    const { config, log, clock, gauges, peek, requestFor } = options;
    this.#options = options;
    this.recentErrors = new RecentErrors(log, clock);
    [this.docker, this.sts, this.upstream] = [new DependencyHealth(clock.now), new DependencyHealth(clock.now), new DependencyHealth(clock.now)];
    this.#processMetrics = new ProcessMetrics(this.#metrics, clock, gauges);
    this.expose = config.prometheus ? (accept) => exposition(this.#metrics.collect(), accept) : undefined;
    const requests = new RequestMetrics({
      metrics: this.#metrics,
      labels: config.metricsLabels,
      copied: { labels: config.copyDockerLabels, env: config.copyDockerEnv, headers: config.copyRequestHeaders },
      separator: config.labelSeparator,
      peek,
      requestFor,
      now: clock.now,
    });
    const { requestHistory, upstream, recentErrors } = this;
    const watch = requestRecorder({ requestHistory, upstream, recentErrors, peek });
    const accessLog = new AccessLog(log, clock);
    this.answered = (exchange, found, failure, seconds) => {
      accessLog.answered(exchange, found, failure, seconds);
      requests.answered(exchange, found, failure, seconds);
      watch(exchange, found, failure, seconds);
    };
  }

  async start(): Promise<void> {
    const { config, log, clock, gauges } = this.#options;
    if (isPushed(config)) {
      const { startExporters } = await import('./export/start.ts');
      this.#exporters = startExporters(config, this.#metrics, log, clock, gauges.version);
    }
    // It wakes the process now and then, which an idle host need not do for nobody.
    if (this.expose || this.#exporters.length > 0) this.#processMetrics.start();
  }

  /** Resolves when the backends have been told what is left, or it is clear that they cannot. */
  async close(): Promise<void> {
    this.#processMetrics.close();
    await Promise.all(this.#exporters.map((exporter) => exporter.close()));
  }

  /** A call of STS or IAM has ended. */
  called(operation: string, result: CallResult, milliseconds: number): void {
    this.#processMetrics.called(operation, result, milliseconds);
  }

  fetched({ sessionName }: RoleRequest, { roleArn, expiration }: Credentials, milliseconds: number): void {
    this.#processMetrics.refreshed('ok');
    this.sts.worked();
    const expires = new Date(expiration).toISOString();
    const fields = { role_arn: roleArn, session_name: sessionName, expires, ms: Math.round(milliseconds) };
    this.#options.log.info('role assumed', fields);
  }

  /** @param failures in a row, this one included */
  notFetched({ role, sessionName }: RoleRequest, failure: Error, retryIn: number, failures: number): void {
    this.#processMetrics.refreshed('failed');
    const { message: error } = failure;
    const code = failure instanceof AssumeRoleDenied ? failure.code : undefined;
    const fields = { role: role.text, session_name: sessionName, code, error };
    if (code === ROLE_NOT_ALLOWED) {
      if (failures === 1) this.recentErrors.report('warning', 'role not allowed', role.text, fields);
      return;
    }
    // A denial is an answer.
    if (code === undefined) this.sts.failed(error);
    else this.sts.worked();
    this.recentErrors.report('error', 'role not assumed', role.text, { ...fields, retry_in_ms: Math.round(retryIn) });
  }

  /** @param at when the engine sent an event, in milliseconds since the epoch */
  eventSent(at: number): void {
    this.#processMetrics.eventSent(at);
  }

  directory(state: DirectoryState, { count, error }: { count: number; error?: Error }): void {
    if (state === 'synced') {
      this.#processMetrics.synced();
      this.docker.worked();
      this.#options.log.info('containers known', { count });
      return;
    }
    this.docker.failed(error?.message ?? state);
    const fields = { state, count, error: error?.message };
    this.recentErrors.report('warning', 'the Docker Engine cannot be followed; trying again', '', fields);
  }

  badRequest({ name, shortId }: Container, { message }: BadRoleRequest): void {
    this.recentErrors.report('error', 'bad role', name, { container: name, container_id: shortId, error: message });
  }

  noSourceCredentials({ message: error }: Error): void {
    this.recentErrors.report('warning', "the proxy's own credentials cannot be had", '', { error });
  }

  noUpstreamToken(reason: string): void {
    this.recentErrors.report('info', 'no session token from the metadata service', '', { reason });
  }

  fileBroken(setting: string, path: string, { message }: Error): void {
    const fields = { setting, path, error: message };
    this.recentErrors.report('error', 'file not read; what it said before stays', setting, fields);
  }
}

/** Whether any backend is to be told the metrics: what they need is loaded only then. */
function isPushed(config: Config): boolean {
  const { statsdAddress, statsiteAddress, datadogAddress, otlpEndpoint, otlpMetricsEndpoint, newRelicLicense } = config;
  const named = [statsdAddress, statsiteAddress, datadogAddress, otlpEndpoint, otlpMetricsEndpoint, newRelicLicense];
  return named.some((setting) => setting !== undefined);
}
