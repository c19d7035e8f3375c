/**
 * Metrics of requests: with the names and labels of go-metadataproxy, which dashboards use, and with those of today's
 * conventions.
 */

import { describe, type Caller, type CallerDescription } from '../../caller.ts';
import { AssumeRoleDenied } from '../../credentials/credentials.ts';
import type { Exchange } from '../../http/exchange.ts';
import { failureOf, type FailureReason } from '../../http/errors.ts';
import type { Route } from '../../http/routes.ts';
import { Memo } from '../../util/memo.ts';
import { roleName } from '../../roles/role-reference.ts';
import type { Counter, Family, Gauge, Histogram, MetricsRegistry } from './registry.ts';
import { OTHER, PathLabels, REQUEST_LABELS, type RequestLabel } from './request-labels.ts';

export interface RequestMetricsOptions {
  readonly metrics: MetricsRegistry;
  /** Which of go-metadataproxy's labels to use. */
  readonly labels: readonly RequestLabel[];
  /** The containers' labels and variables, and the request headers, that become labels. */
  readonly copied: { readonly labels: readonly string[]; readonly env: readonly string[]; readonly headers: readonly string[] };
  /** Between `container` or `header` and the name. */
  readonly separator: string;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** The constant value that go-metadataproxy's README documents. */
const SERVICE = 'go-metadataproxy';
/** Callers choose the values of headers, variables and labels. */
const MAX_VALUE_LENGTH = 128;
const NS_PER_MS = 1_000_000;
/** More than there are statuses in use. */
const MAX_CACHED_CODES = 100;

/** A warm answer takes about 0.1 ms; SDKs give up after 1 s. */
const REQUEST_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** A container requests credentials as soon as its program has loaded an SDK, or never. */
const LEAD_SECONDS = [0, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600];

type LabelSource = (container: CallerDescription) => string | undefined;

/** go-metadataproxy's descriptions. The other reasons are described by their own names. */
const ERROR_DESCRIPTIONS: Partial<Record<FailureReason, string>> = {
  unknown_caller: 'could_not_find_container',
  directory_unavailable: 'could_not_find_container',
  no_role: 'could_not_find_container',
  other_role: 'role_names_do_not_match',
  denied: 'could_not_assume_role',
  credentials_unavailable: 'could_not_assume_role',
  upstream_unreachable: 'could_not_assume_role',
  upstream_timeout: 'could_not_assume_role',
};

export class RequestMetrics {
  readonly #now: () => number;
  readonly #requests: Family<Counter>;
  readonly #responseTime: Family<Gauge>;
  readonly #requestTime: Family<Gauge>;
  readonly #connectionTime: Family<Gauge>;
  readonly #durations: Family<Histogram>;
  readonly #credentialRequests: Family<Counter>;
  readonly #credentialHits: Counter;
  readonly #prefetchLead: Histogram;
  readonly #tokensIssued: Counter;
  readonly #tokensRefused: Family<Counter>;
  readonly #refusals: Family<Counter>;
  readonly #upstreamErrors: Family<Counter>;
  readonly #isEnabled: Readonly<Record<RequestLabel, boolean>>;
  readonly #paths = new PathLabels();
  readonly #codes = new Memo(MAX_CACHED_CODES, (status: number) => String(status));
  readonly #headers: readonly string[];
  readonly #containerLabels: readonly LabelSource[];
  readonly #containerValues = new WeakMap<Caller, readonly string[]>();
  readonly #noContainerValues: readonly string[];
  /** Those whose first request for credentials was counted. */
  readonly #served = new WeakSet<Caller>();
  /** Reused for each request, so that counting one allocates nothing. */
  readonly #values: string[] = [];
  readonly #handlerAndCode = ['', ''];

  constructor({ metrics, labels: enabled, copied, separator, now }: RequestMetricsOptions) {
    const labelName = (kind: string, name: string): string => `${kind}${separator}${name.toLowerCase()}`;
    const fromContainer = new Map<string, LabelSource>();
    for (const name of copied.labels) fromContainer.set(labelName('container', name), ({ labels }) => labels.get(name));
    for (const name of copied.env) {
      const label = fromContainer.get(labelName('container', name));
      // A variable takes precedence over a label of the same name, as in go-metadataproxy.
      fromContainer.set(labelName('container', name), (container) => container.env.get(name) ?? label?.(container));
    }
    const fromRequest = new Map(copied.headers.map((name) => [labelName('header', name), name.toLowerCase()]));
    const isEnabled = REQUEST_LABELS.map((label) => [label, enabled.includes(label)] as const);
    this.#isEnabled = Object.fromEntries(isEnabled) as Record<RequestLabel, boolean>;
    const labels = [
      ...REQUEST_LABELS.filter((label) => this.#isEnabled[label]),
      ...fromContainer.keys(),
      ...fromRequest.keys(),
    ];
    this.#now = now;
    this.#headers = [...fromRequest.values()];
    this.#containerLabels = [...fromContainer.values()];
    this.#noContainerValues = this.#containerLabels.map(() => '');
    this.#requests = metrics.counter({ name: 'metadataproxy.http_request', help: 'Requests of containers', labels });
    this.#responseTime = metrics.gauge({
      name: 'metadataproxy.aws_response_time',
      help: 'Nanoseconds until the upstream IMDS answered the last such request',
      labels,
    });
    this.#requestTime = metrics.gauge({
      name: 'metadataproxy.aws_request_time',
      help: 'The same without the time to connect',
      labels,
    });
    this.#connectionTime = metrics.gauge({
      name: 'metadataproxy.aws_connection_time',
      help: 'Nanoseconds to connect to the upstream IMDS for the last such request',
      labels,
    });
    this.#durations = metrics.histogram({
      name: 'metadataproxy.request_duration_seconds',
      help: 'Time from the head of a request to the end of the response',
      labels: ['handler', 'code'],
      bounds: REQUEST_SECONDS,
    });
    this.#credentialRequests = metrics.counter({
      name: 'metadataproxy.credential_requests_total',
      help: 'Requests for credentials by result; a hit found them in the cache',
      labels: ['result'],
    });
    this.#credentialHits = this.#credentialRequests.labels(['hit']);
    this.#prefetchLead = metrics
      .histogram({
        name: 'metadataproxy.prefetch_lead_seconds',
        help: "How long credentials had been in the cache at their container's first request; 0 if it had to wait",
        bounds: LEAD_SECONDS,
      })
      .labels();
    this.#tokensIssued = metrics
      .counter({ name: 'metadataproxy.session_tokens_issued_total', help: 'IMDSv2 session tokens issued to callers' })
      .labels();
    this.#tokensRefused = metrics.counter({
      name: 'metadataproxy.session_tokens_refused_total',
      help: 'Requests refused because of their session token',
      labels: ['reason'],
    });
    this.#refusals = metrics.counter({
      name: 'metadataproxy.refusals_total',
      help: 'Requests answered with an error, by reason',
      labels: ['reason'],
    });
    this.#upstreamErrors = metrics.counter({
      name: 'metadataproxy.upstream_errors_total',
      help: 'Requests that the upstream IMDS did not answer',
      labels: ['reason'],
    });
  }

  /** As in Events. */
  requestAnswered(exchange: Exchange, route: Route | undefined, failure: unknown, seconds: number): void {
    const reason = failure === undefined ? undefined : failureOf(failure).reason;
    const kind = route?.kind;
    const code = this.#codes.of(exchange.response.statusCode);
    this.#handlerAndCode[0] = kind ?? 'refused';
    this.#handlerAndCode[1] = code;
    this.#durations.labels(this.#handlerAndCode).observe(seconds);
    if (reason !== undefined) this.#countFailure(reason);
    else if (kind === 'session-token') this.#tokensIssued.add();
    if (exchange.credentials || (exchange.hadToWait && failure !== undefined)) this.#countCredentials(exchange, failure);
    this.#countRequest(exchange, route, code, reason);
  }

  #countFailure(reason: FailureReason): void {
    this.#refusals.labels([reason]).add();
    if (reason === 'token_invalid' || reason === 'token_missing') this.#tokensRefused.labels([reason]).add();
    if (reason === 'upstream_timeout' || reason === 'upstream_unreachable') this.#upstreamErrors.labels([reason]).add();
  }

  #countCredentials({ caller, credentials, hadToWait }: Exchange, failure: unknown): void {
    if (!hadToWait) this.#credentialHits.add();
    else if (credentials) this.#credentialRequests.labels(['waited']).add();
    else this.#credentialRequests.labels([failure instanceof AssumeRoleDenied ? 'denied' : 'unavailable']).add();
    if (!credentials || !caller || this.#served.has(caller)) return;
    this.#served.add(caller);
    const lead = hadToWait ? 0 : (this.#now() - credentials.lastUpdated) / 1000;
    this.#prefetchLead.observe(Math.max(lead, 0));
  }

  /** Under go-metadataproxy's names. */
  #countRequest(exchange: Exchange, route: Route | undefined, code: string, reason: FailureReason | undefined): void {
    const { upstream, path, caller, roleRequest, response } = exchange;
    // The status of a response without a head is still Node's default, 200.
    if (response.headersSent) this.#paths.observe(path, route?.kind, response.statusCode);
    const values = this.#values;
    const isEnabled = this.#isEnabled;
    values.length = 0;
    // In the order of REQUEST_LABELS.
    if (isEnabled.handler_name) values.push(route?.metric?.handler ?? route?.kind ?? 'refused');
    if (isEnabled.request_path) values.push(route?.metric?.path ?? this.#paths.path(path));
    if (isEnabled.api_version) values.push(this.#paths.version(path));
    if (isEnabled.remote_addr) values.push(caller ? exchange.address : OTHER);
    if (isEnabled.role_name) values.push(roleRequest ? roleName(roleRequest.role) : '');
    if (isEnabled.response_code) values.push(code);
    if (isEnabled.error_description) values.push(reason === undefined ? '' : (ERROR_DESCRIPTIONS[reason] ?? reason));
    if (isEnabled.service) values.push(SERVICE);
    for (const value of caller ? this.#valuesOf(caller) : this.#noContainerValues) values.push(value);
    for (const name of this.#headers) values.push(String(exchange.request.headers[name] ?? '').slice(0, MAX_VALUE_LENGTH));
    this.#requests.labels(values).add();
    if (!upstream || upstream.answering === 0) return;
    this.#responseTime.labels(values).set(upstream.answering * NS_PER_MS);
    this.#requestTime.labels(values).set((upstream.answering - upstream.connecting) * NS_PER_MS);
    this.#connectionTime.labels(values).set(upstream.connecting * NS_PER_MS);
  }

  #valuesOf(caller: Caller): readonly string[] {
    let values = this.#containerValues.get(caller);
    if (!values) {
      const description = describe(caller);
      values = this.#containerLabels.map((source) => (source(description) ?? '').slice(0, MAX_VALUE_LENGTH));
      this.#containerValues.set(caller, values);
    }
    return values;
  }
}
