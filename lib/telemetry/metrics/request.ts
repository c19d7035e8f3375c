/**
 * What is counted of requests: under the names and labels of go-metadataproxy, which dashboards were made for, and
 * beside them in today's conventions.
 */

import type { Container } from '../../docker/container.ts';
import { AssumeRoleDenied } from '../../credentials/credentials.ts';
import type { Exchange } from '../../http/exchange.ts';
import { failureOf, type FailureReason } from '../../http/errors.ts';
import type { Route } from '../../http/routes.ts';
import { Memo } from '../../util/memo.ts';
import { roleName } from '../../roles/role-reference.ts';
import type { RoleRequest } from '../../roles/role-request.ts';
import { OTHER, knownPath, knownVersion } from './metadata-paths.ts';
import type { Counter, Family, Gauge, Histogram, MetricsRegistry } from './registry.ts';
import { REQUEST_LABELS, type RequestLabel } from './request-labels.ts';

export interface RequestMetricsOptions {
  readonly metrics: MetricsRegistry;
  /** Which of go-metadataproxy's labels there are. */
  readonly labels: readonly RequestLabel[];
  /** A container's labels and variables, and a request's headers, that become labels. */
  readonly copied: { readonly labels: readonly string[]; readonly env: readonly string[]; readonly headers: readonly string[] };
  /** Between `container` or `header` and such a name. */
  readonly separator: string;
  /** The container behind an address, as far as it is known at once. */
  readonly peek: (address: string) => Container | undefined;
  /** The role of a container. Throws where it has none. */
  readonly requestFor: (container: Container) => RoleRequest;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** What go-metadataproxy's README says that it always is. */
const SERVICE = 'go-metadataproxy';
/** A header comes from whoever asks. */
const MAX_VALUE_LENGTH = 128;
const NS_PER_MS = 1_000_000;
/** SDKs ask for a handful. */
const MAX_CACHED_PATHS = 256;
/** There are fewer statuses. */
const MAX_CACHED_CODES = 100;

/** A warm answer takes some 0.1 ms; SDKs give up after 1 s. */
const REQUEST_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** A container asks as soon as its program has loaded its SDK, or never. */
const LEAD_SECONDS = [0, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600];

/** What becomes a label's value. */
type Copied = (container: Container) => string | undefined;

const OLD_ERRORS: Partial<Record<FailureReason, string>> = {
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
  readonly #options: RequestMetricsOptions;
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
  readonly #wanted: Readonly<Record<RequestLabel, boolean>>;
  readonly #paths = new Memo(MAX_CACHED_PATHS, (path: string) => ({ known: knownPath(path), version: knownVersion(path) }));
  readonly #codes = new Memo(MAX_CACHED_CODES, (status: number) => String(status));
  readonly #headers: readonly string[];
  readonly #fromContainer: readonly Copied[];
  readonly #copied = new WeakMap<Container, readonly string[]>();
  readonly #notCopied: readonly string[];
  /** Have asked for credentials. */
  readonly #asked = new WeakSet<Container>();
  /** Filled anew for each request, so that counting one allocates nothing. */
  readonly #values: string[] = [];
  readonly #handlerAndCode = ['', ''];

  constructor(options: RequestMetricsOptions) {
    const { metrics, copied, separator } = options;
    const named = (kind: string, name: string): string => `${kind}${separator}${name.toLowerCase()}`;
    const fromContainer = new Map<string, Copied>();
    for (const name of copied.labels) fromContainer.set(named('container', name), ({ labels }) => labels.get(name));
    for (const name of copied.env) {
      const label = fromContainer.get(named('container', name));
      // Of a label and a variable of one name the variable counts, as in go-metadataproxy.
      fromContainer.set(named('container', name), (container) => container.env.get(name) ?? label?.(container));
    }
    const fromRequest = new Map(copied.headers.map((name) => [named('header', name), name.toLowerCase()]));
    const wanted = REQUEST_LABELS.map((label) => [label, options.labels.includes(label)] as const);
    this.#wanted = Object.fromEntries(wanted) as Record<RequestLabel, boolean>;
    const labels = [
      ...REQUEST_LABELS.filter((label) => this.#wanted[label]),
      ...fromContainer.keys(),
      ...fromRequest.keys(),
    ];
    this.#options = options;
    this.#headers = [...fromRequest.values()];
    this.#fromContainer = [...fromContainer.values()];
    this.#notCopied = this.#fromContainer.map(() => '');
    this.#requests = metrics.counter({ name: 'metadataproxy.http_request', help: 'Requests of containers', labels });
    this.#responseTime = metrics.gauge({
      name: 'metadataproxy.aws_response_time',
      help: 'Nanoseconds that the metadata service took for the last such request',
      labels,
    });
    this.#requestTime = metrics.gauge({
      name: 'metadataproxy.aws_request_time',
      help: 'The same without connecting',
      labels,
    });
    this.#connectionTime = metrics.gauge({
      name: 'metadataproxy.aws_connection_time',
      help: 'Nanoseconds that connecting to the metadata service took for the last such request',
      labels,
    });
    this.#durations = metrics.histogram({
      name: 'metadataproxy.request_duration_seconds',
      help: 'Time from the head of a request to the end of its answer',
      labels: ['handler', 'code'],
      bounds: REQUEST_SECONDS,
    });
    this.#credentialRequests = metrics.counter({
      name: 'metadataproxy.credential_requests_total',
      help: 'Requests for credentials by what came of them; a hit found them ready',
      labels: ['result'],
    });
    this.#credentialHits = this.#credentialRequests.labels(['hit']);
    this.#prefetchLead = metrics
      .histogram({
        name: 'metadataproxy.prefetch_lead_seconds',
        help: "Time for which credentials had been ready at their container's first request; 0 when it had to wait",
        bounds: LEAD_SECONDS,
      })
      .labels();
    this.#tokensIssued = metrics
      .counter({ name: 'metadataproxy.session_tokens_issued_total', help: 'IMDSv2 session tokens given to callers' })
      .labels();
    this.#tokensRefused = metrics.counter({
      name: 'metadataproxy.session_tokens_refused_total',
      help: 'Requests refused because of their session token',
      labels: ['reason'],
    });
    this.#refusals = metrics.counter({
      name: 'metadataproxy.refusals_total',
      help: 'Requests that got no answer but an error, by its reason',
      labels: ['reason'],
    });
    this.#upstreamErrors = metrics.counter({
      name: 'metadataproxy.upstream_errors_total',
      help: 'Requests that the metadata service failed',
      labels: ['reason'],
    });
  }

  /** Counts a request when it is answered. */
  answered(exchange: Exchange, found: Route | undefined, failure: unknown, seconds: number): void {
    const reason = failure === undefined ? undefined : failureOf(failure).reason;
    const kind = found?.kind;
    const code = this.#codes.of(exchange.response.statusCode);
    this.#handlerAndCode[0] = kind ?? 'refused';
    this.#handlerAndCode[1] = code;
    this.#durations.labels(this.#handlerAndCode).observe(seconds);
    if (reason !== undefined) this.#countFailure(reason);
    else if (kind === 'session-token') this.#tokensIssued.add();
    if (exchange.credentials || (exchange.hadToWait && failure !== undefined)) this.#countCredentials(exchange, failure);
    this.#countAsBefore(exchange, found, code, reason);
  }

  #countFailure(reason: FailureReason): void {
    this.#refusals.labels([reason]).add();
    if (reason === 'token_invalid' || reason === 'token_missing') this.#tokensRefused.labels([reason]).add();
    if (reason === 'upstream_timeout' || reason === 'upstream_unreachable') this.#upstreamErrors.labels([reason]).add();
  }

  #countCredentials({ container, credentials, hadToWait }: Exchange, failure: unknown): void {
    if (!hadToWait) this.#credentialHits.add();
    else if (credentials) this.#credentialRequests.labels(['waited']).add();
    else this.#credentialRequests.labels([failure instanceof AssumeRoleDenied ? 'denied' : 'unavailable']).add();
    if (!credentials || !container || this.#asked.has(container)) return;
    this.#asked.add(container);
    const lead = hadToWait ? 0 : (this.#options.now() - credentials.lastUpdated) / 1000;
    this.#prefetchLead.observe(Math.max(lead, 0));
  }

  #countAsBefore(exchange: Exchange, route: Route | undefined, code: string, reason: FailureReason | undefined): void {
    const { upstream, path } = exchange;
    const container = exchange.container ?? this.#options.peek(exchange.address);
    const values = this.#values;
    const wanted = this.#wanted;
    values.length = 0;
    // In the order of REQUEST_LABELS.
    if (wanted.handler_name) values.push(route?.metric?.handler ?? route?.kind ?? 'refused');
    if (wanted.request_path) values.push(route?.metric?.path ?? this.#paths.of(path).known);
    if (wanted.api_version) values.push(this.#paths.of(path).version);
    if (wanted.remote_addr) values.push(container ? exchange.address : OTHER);
    if (wanted.role_name) values.push(this.#roleOf(exchange, container));
    if (wanted.response_code) values.push(code);
    if (wanted.error_description) values.push(reason === undefined ? '' : (OLD_ERRORS[reason] ?? reason));
    if (wanted.service) values.push(SERVICE);
    for (const value of container ? this.#copiedOf(container) : this.#notCopied) values.push(value);
    for (const name of this.#headers) values.push(String(exchange.request.headers[name] ?? '').slice(0, MAX_VALUE_LENGTH));
    this.#requests.labels(values).add();
    if (!upstream || upstream.answering === 0) return;
    this.#responseTime.labels(values).set(upstream.answering * NS_PER_MS);
    this.#requestTime.labels(values).set((upstream.answering - upstream.connecting) * NS_PER_MS);
    this.#connectionTime.labels(values).set(upstream.connecting * NS_PER_MS);
  }

  #roleOf({ roleRequest }: Exchange, container: Container | undefined): string {
    if (roleRequest) return roleName(roleRequest.role);
    try {
      return container ? roleName(this.#options.requestFor(container).role) : '';
    } catch {
      return '';
    }
  }

  #copiedOf(container: Container): readonly string[] {
    let values = this.#copied.get(container);
    if (!values) {
      values = this.#fromContainer.map((copied) => (copied(container) ?? '').slice(0, MAX_VALUE_LENGTH));
      this.#copied.set(container, values);
    }
    return values;
  }
}
