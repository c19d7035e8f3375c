/** The content of /status, made from the components' state for each request. */

import type { Clock } from '../util/clock.ts';
import type { Config } from '../config/config.ts';
import type { Container } from '../docker/container.ts';
import type { ContainerDirectory, DirectoryState } from '../docker/directory.ts';
import type { SourceCredentials } from '../credentials/aws/source-credentials.ts';
import type { RequestHistory } from '../telemetry/request-history.ts';
import type { DependencyHealth } from '../log/dependency-health.ts';
import type { FirewallState } from '../firewall-state.ts';
import type { Log } from '../log/log.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import { containerRows, type ContainerRow, type RowSources } from './container-rows.ts';
import { roleRows, type RoleRow } from './role-rows.ts';
import { settingRows, type SettingRow } from './setting-rows.ts';

/** A precondition for serving containers. */
export interface Check {
  readonly ok: boolean;
  readonly detail: string;
}

export type Checks = Readonly<Record<string, Check>>;

/** Whether Docker, STS or the upstream IMDS works. */
export interface HealthRow {
  readonly state: 'unknown' | 'ok' | 'failing' | 'off' | 'mock';
  readonly last_success: string | null;
  readonly last_error: { readonly time: string; readonly message: string } | null;
}

export interface RecentErrorRow {
  readonly message: string;
  readonly about: string;
  readonly error: string;
  readonly count: number;
  readonly first: string;
  readonly last: string;
}

/** The requests of an interval. Latencies are in seconds; null without requests. */
export interface RequestSummary {
  readonly requests: number;
  readonly refused: number;
  readonly failed: number;
  readonly p50: number | null;
  readonly p99: number | null;
}

/** All times are ISO 8601. */
export interface Status {
  readonly version: string;
  readonly node: string;
  readonly time: string;
  readonly uptime_seconds: number;
  readonly ready: boolean;
  readonly checks: Checks;
  readonly directory: { readonly state: DirectoryState; readonly containers: number; readonly last_sync: string | null };
  readonly docker: HealthRow;
  readonly sts: HealthRow;
  readonly upstream: HealthRow;
  readonly last_hour: RequestSummary;
  /** The last hour, the oldest minute first. */
  readonly minutes: readonly RequestSummary[];
  readonly containers: readonly ContainerRow[];
  readonly roles: readonly RoleRow[];
  /** The most recent first. */
  readonly errors: readonly RecentErrorRow[];
  readonly settings: readonly SettingRow[];
}

export interface StatusSources {
  readonly version: string;
  readonly config: Config;
  readonly clock: Clock;
  readonly log: Log;
  readonly directory: Pick<ContainerDirectory, 'state' | 'started'>;
  readonly assignments: RowSources['assignments'];
  readonly store: NonNullable<RowSources['store']>;
  readonly sourceCredentials: Pick<SourceCredentials, 'state'>;
  readonly firewall: () => FirewallState | undefined;
  readonly telemetry: Pick<Telemetry, 'docker' | 'sts' | 'upstream' | 'requestHistory' | 'recentErrors'>;
}

/** The preconditions for serving containers. A demonstration needs neither Docker nor AWS. */
export function readiness({ config, directory, sourceCredentials, firewall }: StatusSources): Checks {
  const mock = config.mockCredentials;
  const rules = firewall();
  return {
    docker: { ok: directory.state === 'synced' || mock, detail: directory.state },
    credentials: mock ? { ok: true, detail: 'not needed with --mock-credentials' } : sourceCredentials.state,
    ...(rules && { firewall: rules }),
  };
}

export function isReady(checks: Checks): boolean {
  return Object.values(checks).every(({ ok }) => ok);
}

export function makeStatus(sources: StatusSources): Status {
  const { version, config, clock, log, directory, assignments, store } = sources;
  const { docker, sts, upstream, requestHistory, recentErrors } = sources.telemetry;
  const checks = readiness(sources);
  // The request history uses the monotonic clock; /status has dates.
  const [now, monotonic] = [clock.now(), clock.monotonic()];
  const counts = (container: Container) => {
    const { requests, lastError } = requestHistory.of(container);
    return {
      requests,
      lastError: lastError && { time: now - (monotonic - lastError.at), message: lastError.message },
    };
  };
  const containers = containerRows(directory.started(), { assignments, store, counts });
  return {
    version,
    node: process.version,
    time: iso(now),
    uptime_seconds: Math.floor(process.uptime()),
    ready: isReady(checks),
    checks,
    directory: { state: directory.state, containers: containers.length, last_sync: healthRow(docker).last_success },
    docker: healthRow(docker),
    sts: config.mockCredentials ? { ...healthRow(sts), state: 'mock' } : healthRow(sts),
    upstream: config.disableUpstream
      ? { ...healthRow(upstream), state: 'off' }
      : config.mockApi
        ? { ...healthRow(upstream), state: 'mock' }
        : healthRow(upstream),
    last_hour: summary(requestHistory.hour(monotonic)),
    minutes: requestHistory.minutes(monotonic).map(summary),
    containers,
    roles: roleRows(containers),
    errors: recentErrors.list.map(({ first, last, ...rest }) => ({ ...rest, first: iso(first), last: iso(last) })),
    settings: settingRows(config, log.level),
  };
}

function healthRow(health: DependencyHealth): HealthRow {
  const { state, lastSuccess, lastError } = health.report();
  return {
    state,
    last_success: lastSuccess === undefined ? null : iso(lastSuccess),
    last_error: lastError ? { time: iso(lastError.time), message: lastError.message } : null,
  };
}

function summary({ requests, refused, failed, p50, p99 }: ReturnType<RequestHistory['hour']>): RequestSummary {
  return { requests, refused, failed, p50: Number.isNaN(p50) ? null : p50, p99: Number.isNaN(p99) ? null : p99 };
}

function iso(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}
