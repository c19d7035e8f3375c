/** What is measured of the program itself, apart from requests: STS, credentials, Docker, and the process. */

import type { DirectoryState } from '../../docker/directory.ts';
import type { CallResult } from '../../credentials/aws/clients.ts';
import type { Credentials } from '../../credentials/credentials.ts';
import type { Clock } from '../../util/clock.ts';
import type { Counter, Family, Gauge, Histogram, MetricsRegistry } from './registry.ts';

/** Looked at when the metrics are read. */
export interface Gauges {
  readonly version: string;
  readonly ready: () => boolean;
  readonly directory: () => { readonly state: DirectoryState; readonly containers: number };
  readonly credentials: () => Iterable<Credentials>;
  /** Undefined where nothing verifies the firewall. */
  readonly firewall: () => { readonly ok: boolean } | undefined;
}

/** STS answers in 50 to 300 ms, and is given up after 30 s. */
const CALL_SECONDS = [0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30];
/** Docker's events take less than a millisecond, Podman's up to 250. */
const LAG_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5];
const DELAY_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1];
/** Often enough to see a process that is busy, seldom enough to cost nothing on an idle host. */
const DELAY_INTERVAL_MS = 500;

export class ProcessMetrics {
  readonly #clock: Clock;
  readonly #calls: Family<Counter>;
  readonly #callSeconds: Family<Histogram>;
  readonly #refreshes: Family<Counter>;
  readonly #eventLag: Histogram;
  readonly #lastSync: Gauge;
  readonly #loopDelay: Histogram;
  #stopMeasuring = (): void => {};

  constructor(metrics: MetricsRegistry, clock: Clock, gauges: Gauges) {
    this.#clock = clock;
    const operationAndResult = ['operation', 'result'];
    this.#calls = metrics.counter({
      name: 'metadataproxy.sts_calls_total',
      help: 'Calls of STS and IAM',
      labels: operationAndResult,
    });
    this.#callSeconds = metrics.histogram({
      name: 'metadataproxy.sts_call_duration_seconds',
      help: 'Time that calls of STS and IAM took, with all attempts',
      labels: operationAndResult,
      bounds: CALL_SECONDS,
    });
    this.#refreshes = metrics.counter({
      name: 'metadataproxy.credential_refreshes_total',
      help: 'Attempts to get credentials, for the first time or again',
      labels: ['result'],
    });
    this.#eventLag = metrics
      .histogram({
        name: 'metadataproxy.docker_event_lag_seconds',
        help: 'Time from an event of Docker to its arrival here',
        bounds: LAG_SECONDS,
      })
      .labels();
    this.#lastSync = metrics
      .gauge({
        name: 'metadataproxy.directory_last_sync_timestamp_seconds',
        help: 'When all containers were last read after the stream of events had been opened; 0 for never',
      })
      .labels();
    this.#loopDelay = metrics
      .histogram({
        name: 'metadataproxy.event_loop_delay_seconds',
        help: 'By how much timers are late',
        bounds: DELAY_SECONDS,
      })
      .labels();
    observeCredentials(metrics, clock, gauges);
    observeState(metrics, gauges);
    observeProcess(metrics, clock);
  }

  /** As `onCall` of AwsClients. */
  called(operation: string, result: CallResult, milliseconds: number): void {
    this.#calls.labels([operation, result]).add();
    this.#callSeconds.labels([operation, result]).observe(milliseconds / 1000);
  }

  refreshed(result: 'ok' | 'failed'): void {
    this.#refreshes.labels([result]).add();
  }

  /** @param at when the engine sent an event, in milliseconds since the epoch */
  eventSent(at: number): void {
    this.#eventLag.observe(Math.max(this.#clock.now() - at, 0) / 1000);
  }

  synced(): void {
    this.#lastSync.set(this.#clock.now() / 1000);
  }

  /** Measures the event loop until `close`. */
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

function observeCredentials(metrics: MetricsRegistry, clock: Clock, { credentials }: Gauges): void {
  const age = metrics.gauge({
    name: 'metadataproxy.credentials_age_seconds',
    help: "Age of a role's oldest credentials",
    labels: ['role_arn'],
  });
  const left = metrics.gauge({
    name: 'metadataproxy.credentials_time_to_expiry_seconds',
    help: "Time that a role's credentials that expire first have left",
    labels: ['role_arn'],
  });
  metrics.onCollect(() => {
    age.clear();
    left.clear();
    const now = clock.now();
    // The first of a role counts, as long as no other is older or ends sooner.
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

function observeState(metrics: MetricsRegistry, { version, ready, directory, firewall }: Gauges): void {
  const isReady = metrics.gauge({ name: 'metadataproxy.ready', help: '1 when containers can be served' }).labels();
  const isSynced = metrics
    .gauge({ name: 'metadataproxy.directory_synced', help: "1 while Docker's events are followed" })
    .labels();
  const containers = metrics.gauge({ name: 'metadataproxy.containers', help: 'Containers that run' }).labels();
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

/** Under the names that Prometheus' own clients give them. */
function observeProcess(metrics: MetricsRegistry, clock: Clock): void {
  const memory = metrics.gauge({ name: 'process.resident_memory_bytes', help: 'Resident memory' }).labels();
  const cpu = metrics.counter({ name: 'process.cpu_seconds_total', help: 'Processor time, user and system' }).labels();
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
