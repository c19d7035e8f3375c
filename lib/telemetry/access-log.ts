import { describe } from '../caller.ts';
import type { Clock } from '../util/clock.ts';
import type { Fields, Log } from '../log/log.ts';
import { LogDeduplicator } from '../log/deduplicator.ts';
import type { Exchange } from '../http/exchange.ts';
import type { Route } from '../http/routes.ts';

/** One line per request for credentials, for audits; at debug level one per request. */
export class AccessLog {
  readonly #log: Log;
  readonly #refusals: LogDeduplicator;

  constructor(log: Log, clock: Clock) {
    this.#log = log;
    this.#refusals = new LogDeduplicator(clock);
  }

  /** As in Events. */
  requestAnswered(exchange: Exchange, route: Route | undefined, failure: unknown, seconds: number): void {
    const log = this.#log;
    if (!route?.isAudited) {
      if (log.writes('debug')) log.debug('answered', fieldsOf(exchange, failure, seconds));
    } else if (!log.writes('info')) return;
    else if (failure === undefined) log.info('credentials served', fieldsOf(exchange, failure, seconds));
    else this.#logRefusal(exchange, failure, fieldsOf(exchange, failure, seconds));
  }

  #logRefusal({ address, caller, response }: Exchange, failure: unknown, fields: Fields): void {
    const log = (suppressed: number): void => {
      this.#log.info('credentials refused', suppressed === 0 ? fields : { ...fields, suppressed });
    };
    if (this.#log.writes('debug')) log(0);
    // A container that makes thousands of such requests gets two lines a minute.
    else this.#refusals.deduplicate(`${caller?.id ?? address} ${response.statusCode} ${String(failure)}`, log);
  }
}

const UNKNOWN = { name: undefined, shortId: undefined };

function fieldsOf(exchange: Exchange, failure: unknown, seconds: number): Fields {
  const { id, request, response, path, address, caller, credentials, roleRequest } = exchange;
  const { name, shortId } = caller ? describe(caller) : UNKNOWN;
  return {
    request_id: id,
    method: request.method,
    path: path || request.url,
    status: response.statusCode,
    ms: Math.round(seconds * 1_000_000) / 1000,
    address,
    container: name,
    container_id: shortId || undefined,
    role_arn: credentials?.roleArn ?? roleRequest?.role.text,
    error: failure instanceof Error ? failure.message : undefined,
  };
}
