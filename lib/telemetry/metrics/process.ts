/** Metrics other than those of requests: STS, credentials, Docker, the firewall and the process. */

import type { DirectoryState } from '../../docker/directory.ts';
import type { CallResult } from '../../credentials/aws/clients.ts';
import type { Credentials } from '../../credentials/credentials.ts';
import type { Clock } from '../../util/clock.ts';
import type { Counter, Family, Gauge, Histogram, MetricsRegistry } from './registry.ts';

/** Read whenever the metrics are collected. */
export interface Gauges {
  readonly ready: () => boolean;
  readonly directory: () => { readonly state: DirectoryState; readonly containers: number };
  readonly credentials: () => Iterable<Credentials>;
  /** Undefined if nothing verifies the firewall. */
  readonly firewall: () => { readonly ok: boolean } | undefined;
}

/** STS answers in 50 to 300 ms; the timeout is 30 s. */
const CALL_SECONDS = [0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30];
/** Docker's events arrive within a millisecond, Podman's within 250. */
const LAG_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5];
const DELAY_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1];
/** Often enough to notice a busy process, rarely enough to cost nothing on an idle host. */
const DELAY_INTERVAL_MS = 500;

export class ProcessMetrics {
  readonly #metrics: MetricsRegistry;
  readonly #clock: Clock;
  readonly #calls: Family<Counter>;
  readonly #callSeconds: Family<Histogram>;
  readonly #refreshes: Family<Counter>;
  readonly #eventLag: Histogram;
  readonly #lastSync: Gauge;
  readonly #loopDelay: Histogram;
  #stopMeasuring = (): void => {};

  constructor(metrics: MetricsRegistry, clock: Clock) {
    this.#metrics = metrics;
    this.#clock = clock;
    const operationAndResult = ['operation', 'result'];
    this.#calls = metrics.counter({
      name: 'metadataproxy.sts_calls_total',
      help: 'Calls to STS and IAM',
      labels: operationAndResult,
    });
    this.#callSeconds = metrics.histogram({
      name: 'metadataproxy.sts_call_duration_seconds',
      help: 'Duration of calls to STS and IAM, with all attempts',
      labels: operationAndResult,
      bounds: CALL_SECONDS,
    });
    this.#refreshes = metrics.counter({
      name: 'metadataproxy.credential_refreshes_total',
      help: 'Attempts to get or refresh credentials',
      labels: ['result'],
    });
    this.#eventLag = metrics
      .histogram({
        name: 'metadataproxy.docker_event_lag_seconds',
        help: 'Time from an event of Docker to its arrival',
        bounds: LAG_SECONDS,
      })
      .labels();
    this.#lastSync = metrics
      .gauge({
        name: 'metadataproxy.directory_last_sync_timestamp_seconds',
        help: 'Time of the last full read of all containers; 0 before the first one',
      })
      .labels();
    this.#loopDelay = metrics
      .histogram({
        name: 'metadataproxy.event_loop_delay_seconds',
        help: 'Delay of timers',
        bounds: DELAY_SECONDS,
      })
      .labels();
    collectProcess(metrics, clock);
  }

  observe(version: string, gauges: Gauges): void {
    collectCredentials(this.#metrics, this.#clock, gauges);
    collectState(this.#metrics, version, gauges);
  }

  awsCallEnded(operation: string, result: CallResult, milliseconds: number): void {
    this.#calls.labels([operation, result]).add();
    this.#callSeconds.labels([operation, result]).observe(milliseconds / 1000);
  }

  credentialsRefreshed(result: 'ok' | 'failed'): void {
    this.#refreshes.labels([result]).add();
  }

  /** @param sentAt milliseconds since the epoch */
  engineEventReceived(sentAt: number): void {
    this.#eventLag.observe(Math.max(this.#clock.now() - sentAt, 0) / 1000);
  }

  directorySynced(): void {
    this.#lastSync.set(this.#clock.now() / 1000);
  }

  /** Measures the event loop's delay until `close`. */
  start(): void {
    const due = this.#clock.monotonic() + DELAY_INTERVAL_MS;
    this.#stopMeasuring = this.#clock.after(DELAY_INTERVAL_MS, () => {
      this.#loopDelay.observe(Math.max(this.#clock.monotonic() - due, 0) / 1000);
      this.start();
    });
  }

  close(): void {
    this.#stopMeasuring();
  }
}

function collectCredentials(metrics: MetricsRegistry, clock: Clock, { credentials }: Gauges): void {
  const age = metrics.gauge({
    name: 'metadataproxy.credentials_age_seconds',
    help: "Age of a role's oldest credentials",
    labels: ['role_arn'],
  });
  const left = metrics.gauge({
    name: 'metadataproxy.credentials_time_to_expiry_seconds',
    help: "Time to expiry of a role's credentials that expire first",
    labels: ['role_arn'],
  });
  metrics.onCollect(() => {
    age.clear();
    left.clear();
    const now = clock.now();
    // A role may have several sessions: report the oldest one and the one that expires first.
    const seen = new Set<string>();
    for (const { roleArn, lastUpdated, validUntil } of credentials()) {
      const [roleAge, roleLeft] = [age.labels([roleArn]), left.labels([roleArn])];
      const isFirst = !seen.has(roleArn);
      seen.add(roleArn);
      const [itsAge, itsLeft] = [Math.max(now - lastUpdated, 0) / 1000, (validUntil - now) / 1000];
      if (isFirst || itsAge > roleAge.value) roleAge.set(itsAge);
      if (isFirst || itsLeft < roleLeft.value) roleLeft.set(itsLeft);
    }
  });
}

function collectState(metrics: MetricsRegistry, version: string, { ready, directory, firewall }: Gauges): void {
  const isReady = metrics.gauge({ name: 'metadataproxy.ready', help: '1 if the proxy is ready to serve containers' }).labels();
  const isSynced = metrics
    .gauge({ name: 'metadataproxy.directory_synced', help: "1 while the proxy follows Docker's events" })
    .labels();
  const containers = metrics.gauge({ name: 'metadataproxy.containers', help: 'Running containers' }).labels();
  metrics
    .gauge({ name: 'metadataproxy.build_info', help: 'Always 1', labels: ['version', 'node_version'] })
    .labels([version, process.version])
    .set(1);
  const firewallOk = metrics.gauge({
    name: 'metadataproxy.firewall_ok',
    help: '1 while the firewall rules are in place; absent where nothing verifies them',
  });
  metrics.onCollect(() => {
    const { state, containers: count } = directory();
    const rules = firewall();
    if (rules) firewallOk.labels().set(rules.ok ? 1 : 0);
    else firewallOk.clear();
    isReady.set(ready() ? 1 : 0);
    isSynced.set(state === 'synced' ? 1 : 0);
    containers.set(count);
  });
}

/** With the names that Prometheus' own clients use. */
function collectProcess(metrics: MetricsRegistry, clock: Clock): void {
  const memory = metrics.gauge({ name: 'process.resident_memory_bytes', help: 'Resident memory' }).labels();
  const cpu = metrics.counter({ name: 'process.cpu_seconds_total', help: 'CPU time, user and system' }).labels();
  metrics
    .gauge({ name: 'process.start_time_seconds', help: 'When the process started' })
    .labels()
    .set(clock.now() / 1000 - process.uptime());
  metrics.onCollect(() => {
    memory.set(process.memoryUsage.rss());
    const { user, system } = process.cpuUsage();
    cpu.value = (user + system) / 1_000_000;
  });
}
