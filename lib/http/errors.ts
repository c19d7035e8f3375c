/** What a request is told when there is no answer: one table from errors to status, code and words. */

import { STATUS_CODES } from 'node:http';
import { DirectoryUnavailable, UnknownCaller } from '../docker/container.ts';
import { AssumeRoleDenied, CredentialsUnavailable } from '../credentials/credentials.ts';
import { NoRole } from '../assignments.ts';
import { BadRoleRequest } from '../roles/bad-request.ts';
import { UpstreamTimeout, UpstreamUnreachable } from '../imds/client.ts';
import { BadTarget } from './canonical-path.ts';
import { send, type Answer, type Exchange } from './exchange.ts';

/** A request that is refused for what it is. */
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

/** For whoever is welcome again in a second. */
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

/** In a word, for metrics. */
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
  /** What SDKs print, in a JSON body; without one the body is a page as IMDS's own. */
  readonly code?: string;
  /** For the container; says nothing of the host. */
  readonly message?: string;
  readonly headers?: readonly string[];
  /** Whether it is the proxy's fault rather than the caller's. */
  readonly unexpected?: true;
}

export function failureOf(error: unknown): Failure {
  if (error instanceof Refusal) return { status: error.status, reason: error.reason, headers: error.headers };
  if (error instanceof BadTarget) return { status: 400, reason: 'bad_target' };
  if (error instanceof UnknownCaller) return { status: 404, reason: 'unknown_caller' };
  if (error instanceof NoRole || error instanceof BadRoleRequest) return { status: 404, reason: 'no_role' };
  if (error instanceof AssumeRoleDenied) {
    return {
      status: 403,
      reason: 'denied',
      code: 'AssumeRoleUnauthorizedAccess',
      message: `The role of this container could not be assumed: ${error.code}. The log of metadataproxy says more.`,
    };
  }
  if (error instanceof CredentialsUnavailable) {
    return {
      status: 503,
      reason: 'credentials_unavailable',
      code: 'ServiceUnavailable',
      message: 'The credentials of this container cannot be had at present. The log of metadataproxy says more.',
      headers: ['Retry-After', String(Math.max(Math.ceil(error.retryAfter / 1000), 1))],
    };
  }
  if (error instanceof DirectoryUnavailable) {
    return {
      status: 503,
      reason: 'directory_unavailable',
      code: 'ServiceUnavailable',
      message: 'It cannot be told at present which container is asking. The log of metadataproxy says more.',
      headers: ['Retry-After', '1'],
    };
  }
  if (error instanceof UpstreamUnreachable) return { status: 502, reason: 'upstream_unreachable' };
  if (error instanceof UpstreamTimeout) return { status: 504, reason: 'upstream_timeout' };
  return { status: 500, reason: 'unexpected', unexpected: true };
}

export function sendFailure(exchange: Exchange, failure: Failure): void {
  const { response } = exchange;
  // Whoever asked has gone; but the log and the metrics are told.
  if (response.destroyed && !response.headersSent) response.statusCode = failure.status;
  send(exchange, failureAnswer(failure));
}

function failureAnswer({ status, code, message, headers = [] }: Failure): Answer {
  if (code === undefined) return { status, type: 'text/html', body: errorPage(status), headers };
  const body = JSON.stringify({ Code: code, Message: message }, null, 2);
  return { status, type: 'application/json', body, headers };
}

const PAGES = new Map<number, string>();

/** IMDS answers an error with a small XHTML page. */
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
