/**
 * The request pipeline. An admitted request goes through these steps, and the first that fails answers it:
 *
 *   1. the target has one canonical path, and the path a route            400
 *   2. the caller is determined: as far as it is known, or for a session
 *      token and for pass-through by the process that holds the
 *      connection                                                         503
 *   3. the head is valid and has few headers                              400, 417, 431
 *   4. the path names no credential of the host                           404
 *   5. the method is one of the route's, and there is no body             405, 400, 413
 *   6. a session token is valid, and present where it is required         401
 *   7. the route's handler answers                                        or one row of the table in errors.ts
 *
 * Before them, admission.ts may delay the request or refuse it with 429 or 503. A warm answer takes every step
 * synchronously: a promise would cost more than the answer's own work.
 */

import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { CallerResolver } from '../callers/resolver.ts';
import type { Events } from '../events.ts';
import type { Log } from '../log/log.ts';
import { Memo } from '../util/memo.ts';
import type { Admission } from './admission.ts';
import { canonicalPath } from './canonical-path.ts';
import type { Connections } from './connections.ts';
import { failureOf, Refusal, sendFailure } from './errors.ts';
import { TOKEN_HEADER, type Exchange } from './exchange.ts';
import { match, type Handlers, type Match, type Route } from './routes.ts';
import { checkToken, type SessionTokens } from './session-tokens.ts';

export interface PipelineOptions {
  readonly admission: Pick<Admission, 'admit'>;
  readonly resolver: Pick<CallerResolver, 'peek' | 'ensureResolved'>;
  readonly tokens: SessionTokens;
  /** Whether reads without a session token are refused. */
  readonly tokenRequired: boolean;
  readonly handlers: Handlers;
  readonly events: Pick<Events, 'requestAnswered'>;
  readonly log: Log;
}

/** SDKs send some 10. Node drops what is beyond its own limit without a word, so that a header would not be seen. */
export const MAX_HEADERS = 100;
/** SDKs request a handful. */
const MAX_CACHED_TARGETS = 256;

export class RequestPipeline {
  readonly #options: PipelineOptions;
  readonly #connections: Connections;
  readonly #targets = new Memo(MAX_CACHED_TARGETS, (target: string) => match(canonicalPath(target)));

  constructor(options: PipelineOptions, connections: Connections) {
    this.#options = options;
    this.#connections = connections;
  }

  serve(request: IncomingMessage, response: ServerResponse): void {
    const connection = this.#connections.accept(request.socket, response);
    if (!connection) return;
    const exchange: Exchange = {
      request,
      response,
      connection,
      address: connection.address,
      began: performance.now(),
      id: randomUUID(),
      path: '',
      tokenSeconds: undefined,
      caller: undefined,
      roleRequest: undefined,
      credentials: undefined,
      hadToWait: false,
      upstream: undefined,
    };
    // The body is refused unread, so what follows on the connection would be read as a request.
    if (hasBody(request)) response.shouldKeepAlive = false;
    const turn = this.#options.admission.admit(connection);
    if (!turn) this.#answer(exchange);
    else turn.then(() => this.#answer(exchange), (refusal: unknown) => this.#fail(exchange, undefined, refusal));
  }

  #answer(exchange: Exchange): void {
    let route: Route | undefined;
    try {
      const target = this.#targets.of(exchange.request.url ?? '');
      exchange.path = target.path;
      route = target.route;
      const resolving = this.#ensureResolved(exchange, route);
      const answering = resolving ? resolving.then(() => this.#handle(exchange, target)) : this.#handle(exchange, target);
      if (!answering) this.#answered(exchange, route, undefined);
      else {
        answering.then(
          () => this.#answered(exchange, route, undefined),
          (error: unknown) => this.#fail(exchange, route, error),
        );
      }
    } catch (error) {
      this.#fail(exchange, route, error);
    }
  }

  /**
   * Waits for a host-network caller where a session token is made or checked, because the token belongs to the caller,
   * and where the request is passed through, because it counts as the caller's. Credentials wait for it themselves.
   */
  #ensureResolved({ connection, request }: Exchange, { kind }: Route): Promise<unknown> | undefined {
    const isToken = kind === 'session-token' || request.headers[TOKEN_HEADER] !== undefined;
    return isToken || kind === 'pass-through' ? this.#options.resolver.ensureResolved(connection) : undefined;
  }

  #handle(exchange: Exchange, { route, role }: Match): void | Promise<void> {
    const { resolver, tokens, tokenRequired, handlers } = this.#options;
    const { request } = exchange;
    exchange.caller = resolver.peek(exchange.connection);
    checkHead(request);
    const { handle, methods, needsToken } = route;
    if (!handle) throw new Refusal(404, 'host_credentials', "the host's credentials are not available to containers");
    if (!methods.includes(request.method ?? '')) {
      throw new Refusal(405, 'method', 'the path does not support the method', ['Allow', methods.join(', ')]);
    }
    if (hasBody(request)) {
      const status = request.headers['transfer-encoding'] === undefined ? 413 : 400;
      throw new Refusal(status, 'body', 'the request has a body');
    }
    if (needsToken) checkToken(exchange, tokens, tokenRequired);
    return handle(handlers, exchange, role);
  }

  #fail(exchange: Exchange, route: Route | undefined, error: unknown): void {
    const failure = failureOf(error);
    if (failure.unexpected && !exchange.response.headersSent) {
      const fields = { request_id: exchange.id, path: exchange.path, error: String((error as Error)?.stack ?? error) };
      this.#options.log.error('request failed unexpectedly', fields);
    }
    sendFailure(exchange, failure);
    this.#answered(exchange, route, error);
  }

  #answered(exchange: Exchange, route: Route | undefined, failure: unknown): void {
    if (!exchange.connection.answered(exchange.response)) return;
    // A request that admission refused counts as its caller's, too.
    exchange.caller ??= this.#options.resolver.peek(exchange.connection);
    this.#options.events.requestAnswered(exchange, route, failure, (performance.now() - exchange.began) / 1000);
  }
}

/** Node would refuse such a head by itself, and the rate limiter would not count that. */
function checkHead({ headers, rawHeaders, httpVersion }: IncomingMessage): void {
  if (rawHeaders.length > 2 * MAX_HEADERS) throw new Refusal(431, 'bad_head', `more than ${MAX_HEADERS} headers`);
  if (headers.host === undefined && httpVersion === '1.1') throw new Refusal(400, 'bad_head', 'the request has no Host header');
  const { expect } = headers;
  if (expect !== undefined && !/^100-continue$/i.test(expect)) throw new Refusal(417, 'bad_head', 'unsupported Expect header');
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0;
}
