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
import { AnswerLog } from './access-log.ts';
import type { AnswerListener } from '../http/server.ts';
import type { BadRoleRequest } from '../roles/bad-request.ts';
import type { RoleRequest } from '../roles/role-request.ts';
import { Activity } from './request-history.ts';
import { answerWatch } from './request-recorder.ts';
import type { Backend } from './export/backend.ts';
import { Health } from '../log/dependency-health.ts';
import type { Log } from '../log/log.ts';
import { Metrics } from './metrics/registry.ts';
import { ProgramMetrics, type Observed } from './metrics/process.ts';
import { exposition, type Exposition } from './metrics/prometheus.ts';
import { RequestMetrics } from './metrics/request.ts';
import { Troubles } from '../log/recent-errors.ts';

export interface ObserverOptions {
  readonly config: Config;
  readonly log: Log;
  readonly clock: Clock;
  readonly observed: Observed;
  /** The container behind an address, as far as it is known at once. */
  readonly peek: (address: string) => Container | undefined;
  /** The role of a container. Throws where it has none. */
  readonly requestFor: (container: Container) => RoleRequest;
}

export class Observer {
  readonly troubles: Troubles;
  readonly activity = new Activity();
  /** How what the proxy depends on did the last times. */
  readonly docker: Health;
  readonly sts: Health;
  readonly upstream: Health;
  /** What `/metrics` answers, given an Accept header; undefined where Prometheus is not enabled. */
  readonly expose: ((accept: string) => Exposition) | undefined;
  readonly answered: AnswerListener;
  readonly #options: ObserverOptions;
  readonly #metrics = new Metrics();
  readonly #program: ProgramMetrics;
  #backends: readonly Backend[] = [];

  constructor(options: ObserverOptions) {
    const { config, log, clock, observed, peek, requestFor } = options;
    this.#options = options;
    this.troubles = new Troubles(log, clock);
    [this.docker, this.sts, this.upstream] = [new Health(clock.now), new Health(clock.now), new Health(clock.now)];
    this.#program = new ProgramMetrics(this.#metrics, clock, observed);
    this.expose = config.prometheus ? (accept) => exposition(this.#metrics.read(), accept) : undefined;
    const requests = new RequestMetrics({
      metrics: this.#metrics,
      labels: config.metricsLabels,
      copied: { labels: config.copyDockerLabels, env: config.copyDockerEnv, headers: config.copyRequestHeaders },
      separator: config.labelSeparator,
      peek,
      requestFor,
      now: clock.now,
    });
    const { activity, upstream, troubles } = this;
    const watch = answerWatch({ activity, upstream, troubles, peek });
    const answerLog = new AnswerLog(log, clock);
    this.answered = (exchange, found, failure, seconds) => {
      answerLog.answered(exchange, found, failure, seconds);
      requests.answered(exchange, found, failure, seconds);
      watch(exchange, found, failure, seconds);
    };
  }

  async start(): Promise<void> {
    const { config, log, clock, observed } = this.#options;
    if (isPushed(config)) {
      const { startBackends } = await import('./export/start.ts');
      this.#backends = startBackends(config, this.#metrics, log, clock, observed.version);
    }
    // It wakes the process now and then, which an idle host need not do for nobody.
    if (this.expose || this.#backends.length > 0) this.#program.start();
  }

  /** Resolves when the backends have been told what is left, or it is clear that they cannot. */
  async close(): Promise<void> {
    this.#program.close();
    await Promise.all(this.#backends.map((backend) => backend.close()));
  }

  /** A call of STS or IAM has ended. */
  called(operation: string, result: CallResult, milliseconds: number): void {
    this.#program.called(operation, result, milliseconds);
  }

  fetched({ sessionName }: RoleRequest, { roleArn, expiration }: Credentials, milliseconds: number): void {
    this.#program.refreshed('ok');
    this.sts.worked();
    const expires = new Date(expiration).toISOString();
    const fields = { role_arn: roleArn, session_name: sessionName, expires, ms: Math.round(milliseconds) };
    this.#options.log.info('role assumed', fields);
  }

  /** @param failures in a row, this one included */
  notFetched({ role, sessionName }: RoleRequest, failure: Error, retryIn: number, failures: number): void {
    this.#program.refreshed('failed');
    const { message: error } = failure;
    const code = failure instanceof AssumeRoleDenied ? failure.code : undefined;
    const fields = { role: role.text, session_name: sessionName, code, error };
    if (code === ROLE_NOT_ALLOWED) {
      if (failures === 1) this.troubles.tell('warning', 'role not allowed', role.text, fields);
      return;
    }
    // A denial is an answer.
    if (code === undefined) this.sts.failed(error);
    else this.sts.worked();
    this.troubles.tell('error', 'role not assumed', role.text, { ...fields, retry_in_ms: Math.round(retryIn) });
  }

  /** @param at when the engine sent an event, in milliseconds since the epoch */
  eventSent(at: number): void {
    this.#program.eventSent(at);
  }

  directory(state: DirectoryState, { count, error }: { count: number; error?: Error }): void {
    if (state === 'synced') {
      this.#program.synced();
      this.docker.worked();
      this.#options.log.info('containers known', { count });
      return;
    }
    this.docker.failed(error?.message ?? state);
    const fields = { state, count, error: error?.message };
    this.troubles.tell('warning', 'the Docker Engine cannot be followed; trying again', '', fields);
  }

  badRequest({ name, shortId }: Container, { message }: BadRoleRequest): void {
    this.troubles.tell('error', 'bad role', name, { container: name, container_id: shortId, error: message });
  }

  noOwnCredentials({ message: error }: Error): void {
    this.troubles.tell('warning', "the proxy's own credentials cannot be had", '', { error });
  }

  noUpstreamToken(reason: string): void {
    this.troubles.tell('info', 'no session token from the metadata service', '', { reason });
  }

  fileBroken(setting: string, path: string, { message }: Error): void {
    const fields = { setting, path, error: message };
    this.troubles.tell('error', 'file not read; what it said before stays', setting, fields);
  }
}

/** Whether any backend is to be told the metrics: what they need is loaded only then. */
function isPushed(config: Config): boolean {
  const { statsdAddress, statsiteAddress, datadogAddress, otlpEndpoint, otlpMetricsEndpoint, newRelicLicense } = config;
  const named = [statsdAddress, statsiteAddress, datadogAddress, otlpEndpoint, otlpMetricsEndpoint, newRelicLicense];
  return named.some((setting) => setting !== undefined);
}
