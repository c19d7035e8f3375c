import { describe } from '../caller.ts';
import type { Clock } from '../util/clock.ts';
import type { Fields, Log } from '../log/log.ts';
import { LogDeduplicator } from '../log/deduplicator.ts';
import { failureOf } from '../http/errors.ts';
import type { Exchange } from '../http/exchange.ts';
import { routedPart, type Route, type RouteKind } from '../http/routes.ts';

/** Longer than any path of IMDS but those of tags. */
const MAX_PATH_LENGTH = 128;

/** Further routes whose refusals concern credentials: SDKs that list no role request none. */
const LEAD_TO_CREDENTIALS: ReadonlySet<RouteKind> = new Set(['iam-listing', 'role-name', 'refused']);

/**
 * For audits: who got credentials of which role, and who was refused what. Callers choose how many requests they send, so
 * each caller has at most one line a minute for each role and for each reason of a refusal. Unknown callers share one,
 * because one process can have many addresses. At debug level every request is logged.
 */
export class AccessLog {
  readonly #log: Log;
  readonly #deduplicator: LogDeduplicator;

  constructor(log: Log, clock: Clock) {
    this.#log = log;
    this.#deduplicator = new LogDeduplicator(clock);
  }

  /** As in Events. */
  requestAnswered(exchange: Exchange, route: Route | undefined, failure: unknown, seconds: number): void {
    const log = this.#log;
    if (!log.writes('info')) return;
    const reason = failure === undefined ? exchange.credentials?.roleArn : failureOf(failure).reason;
    const isUpstreams = reason === 'upstream_timeout' || reason === 'upstream_unreachable';
    if (isUpstreams || (failure === undefined && !route?.isAudited)) {
      if (log.writes('debug')) log.debug('answered', fieldsOf(exchange, failure, seconds));
      return;
    }
    const concernsCredentials = route !== undefined && (route.isAudited || LEAD_TO_CREDENTIALS.has(route.kind));
    const message =
      failure === undefined ? 'credentials served' : concernsCredentials ? 'credentials refused' : 'request refused';
    const fields = fieldsOf(exchange, failure, seconds);
    // A container that is renamed is logged with its new name.
    const kind = `${exchange.caller?.id ?? ''} ${fields['container'] ?? ''} ${message} ${reason}`;
    const write = (suppressed: number): void => log.info(message, suppressed === 0 ? fields : { ...fields, suppressed });
    if (log.writes('debug')) write(0);
    else this.#deduplicator.deduplicate(kind, write);
  }

  /** Logs what is suppressed so far. */
  close(): void {
    this.#deduplicator.flush();
  }
}

const UNKNOWN = { name: undefined, shortId: undefined };

function fieldsOf(exchange: Exchange, failure: unknown, seconds: number): Fields {
  const { id, request, response, path, address, caller, credentials, roleRequest } = exchange;
  const { name, shortId } = caller ? describe(caller) : UNKNOWN;
  return {
    request_id: id,
    method: request.method,
    path: shownPath(path || (request.url ?? '')),
    status: response.statusCode,
    ms: Math.round(seconds * 1_000_000) / 1000,
    address,
    container: name,
    container_id: shortId || undefined,
    role_arn: credentials?.roleArn ?? roleRequest?.role.text,
    error: failure instanceof Error ? failure.message : undefined,
  };
}

function shownPath(path: string): string {
  const routed = routedPart(path);
  return routed.length > MAX_PATH_LENGTH ? `${routed.slice(0, MAX_PATH_LENGTH)}…` : routed;
}
