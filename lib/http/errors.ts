/** One table from errors to answers: the status, the reason for metrics, and the code and message that SDKs print. */

import { STATUS_CODES } from 'node:http';
import { CallerUndetermined, UnknownCaller } from '../caller.ts';
import { AssumeRoleDenied, CredentialsUnavailable } from '../credentials/credentials.ts';
import { NoRole } from '../assignments.ts';
import { BadRoleRequest } from '../roles/bad-request.ts';
import { UpstreamTimeout, UpstreamUnreachable } from '../imds/client.ts';
import { BadTarget } from './canonical-path.ts';
import { send, type Answer, type Exchange } from './exchange.ts';

/** The request itself is refused. */
export class Refusal extends Error {
  readonly status: number;
  readonly reason: RefusalReason;
  readonly headers: readonly string[];

  constructor(status: number, reason: RefusalReason, message: string, headers: readonly string[] = []) {
    super(message);
    this.status = status;
    this.reason = reason;
    this.headers = headers;
  }
}

/** Refuses a request that may come again in a second. */
export function overloaded(status: number, reason: RefusalReason, message: string): Refusal {
  return new Refusal(status, reason, message, ['Retry-After', '1']);
}

export type RefusalReason =
  | 'bad_head'
  | 'body'
  | 'forwarded'
  | 'host_credentials'
  | 'method'
  | 'not_metrics'
  | 'not_passed_through'
  | 'other_role'
  | 'token_invalid'
  | 'token_missing'
  | 'token_ttl'
  | 'too_fast'
  | 'too_many';

/** The values of the metrics' label `reason`. */
export type FailureReason =
  | RefusalReason
  | 'bad_target'
  | 'denied'
  | 'directory_unavailable'
  | 'no_role'
  | 'credentials_unavailable'
  | 'unexpected'
  | 'unknown_caller'
  | 'upstream_timeout'
  | 'upstream_unreachable';

export interface Failure {
  readonly status: number;
  readonly reason: FailureReason;
  /** Makes the body JSON that SDKs print; without a code the body is an error page as IMDS sends it. */
  readonly code?: string;
  /** For the container; reveals nothing of the host. */
  readonly message?: string;
  readonly headers?: readonly string[];
  /** A bug of the proxy: logged with its stack. */
  readonly unexpected?: true;
}

interface Row<E> {
  readonly type: new (...args: never[]) => E;
  failure(error: E): Failure;
}

/** The first row whose type the error has counts. */
const TABLE: readonly Row<unknown>[] = [
  row(Refusal, ({ status, reason, headers }) => ({ status, reason, headers })),
  row(BadTarget, () => ({ status: 400, reason: 'bad_target' })),
  row(UnknownCaller, () => ({ status: 404, reason: 'unknown_caller' })),
  row(NoRole, () => ({ status: 404, reason: 'no_role' })),
  row(BadRoleRequest, () => ({ status: 404, reason: 'no_role' })),
  row(AssumeRoleDenied, ({ code }) => ({
    status: 403,
    reason: 'denied',
    code: 'AssumeRoleUnauthorizedAccess',
    message: `The role of this container could not be assumed: ${code}. See the log of metadataproxy.`,
  })),
  // STS throttles, fails or does not answer, and no earlier credentials are valid any more.
  row(CredentialsUnavailable, ({ retryAfter }) => ({
    status: 503,
    reason: 'credentials_unavailable',
    code: 'ServiceUnavailable',
    message: 'The credentials of this container are not available at the moment. See the log of metadataproxy.',
    headers: ['Retry-After', String(Math.max(Math.ceil(retryAfter / 1000), 1))],
  })),
  row(CallerUndetermined, () => ({
    status: 503,
    reason: 'directory_unavailable',
    code: 'ServiceUnavailable',
    message: 'The container that sent this request cannot be determined at the moment. See the log of metadataproxy.',
    headers: ['Retry-After', '1'],
  })),
  row(UpstreamUnreachable, () => ({ status: 502, reason: 'upstream_unreachable' })),
  row(UpstreamTimeout, () => ({ status: 504, reason: 'upstream_timeout' })),
];

const UNEXPECTED: Failure = { status: 500, reason: 'unexpected', unexpected: true };

export function failureOf(error: unknown): Failure {
  return TABLE.find(({ type }) => error instanceof type)?.failure(error) ?? UNEXPECTED;
}

function row<E>(type: Row<E>['type'], failure: (error: E) => Failure): Row<unknown> {
  return { type, failure: (error) => failure(error as E) };
}

export function sendFailure(exchange: Exchange, failure: Failure): void {
  const { response } = exchange;
  // The client has disconnected; the log and the metrics take the status from here.
  if (response.destroyed && !response.headersSent) response.statusCode = failure.status;
  send(exchange, failureAnswer(failure));
}

function failureAnswer({ status, code, message, headers = [] }: Failure): Answer {
  if (code === undefined) return { status, type: 'text/html', body: errorPage(status), headers };
  const body = JSON.stringify({ Code: code, Message: message }, null, 2);
  return { status, type: 'application/json', body, headers };
}

const PAGES = new Map<number, string>();

/** The small XHTML page of an error, as IMDS sends it. */
export function errorPage(status: number): string {
  let page = PAGES.get(status);
  if (!page) {
    const title = `${status} - ${STATUS_CODES[status] ?? 'Error'}`;
    page = `<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
\t"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>${title}</title>
 </head>
 <body>
  <h1>${title}</h1>
 </body>
</html>
`;
    PAGES.set(status, page);
  }
  return page;
}
