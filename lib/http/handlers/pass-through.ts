import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { UpstreamUnreachable, type Imds } from '../../upstream/imds.ts';
import { ownHeaders, TOKEN_HEADER, TOKEN_TTL_HEADER, type Exchange, type Handler } from '../exchange.ts';
import { Refusal } from '../failure.ts';

/** The request headers that can change an answer of IMDS. No other one goes there. */
const REQUEST_HEADERS = [
  'accept',
  'accept-encoding',
  'if-match',
  'if-modified-since',
  'if-none-match',
  'if-range',
  'if-unmodified-since',
  'range',
  'user-agent',
] as const;

/** Source: RFC 9110, section 7.6.1; and our own token's remaining time is no business of the container. */
const NOT_PASSED_BACK = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  TOKEN_HEADER,
  TOKEN_TTL_HEADER.toLowerCase(),
]);

/**
 * So much of a body comes with its request; as much again counts as another one. User data have 16 kB at the most (EC2
 * user guide), so nobody is held up who asks the real service.
 */
const BYTES_OF_A_REQUEST = 16 * 1024;

export interface PassThroughLimits {
  /** Nothing at all goes through. */
  readonly disabled: boolean;
  /** Only paths in which this is found. */
  readonly allow: RegExp | undefined;
  /** Not those in which this is found, allowed or not. */
  readonly deny: RegExp | undefined;
}

/** Resolves when as much more work may be done for a caller as so many requests are. */
export type MoreWork = (exchange: Exchange, requests: number) => Promise<void>;

/**
 * Everything that names no credential: streamed from the real IMDS, under its own status and headers.
 *
 * @param moreWork asked for each piece of a large body; undefined where callers have no pace
 */
export function passThrough(
  imds: Imds,
  { disabled, allow, deny }: PassThroughLimits,
  moreWork: MoreWork | undefined,
): Handler {
  return async (exchange) => {
    const { request, response, path } = exchange;
    if (disabled) throw new Refusal(403, 'not_passed_through', 'the settings pass nothing through');
    if ((allow && !allow.test(path)) || deny?.test(path)) {
      throw new Refusal(404, 'not_passed_through', 'the settings do not pass this path through');
    }
    const gone = new AbortController();
    response.once('close', () => {
      if (!response.writableFinished) gone.abort();
    });
    const timing = (exchange.upstream = { connecting: 0, answering: 0 });
    const ask = imds.request({
      method: request.method === 'HEAD' ? 'HEAD' : 'GET',
      path,
      headers: requestHeaders(request),
      signal: gone.signal,
      timing,
    });
    const answer = await ask.catch((error: unknown) => {
      if (gone.signal.aborted) return undefined; // Nobody waits for it any more.
      throw error;
    });
    if (!answer) return;
    if (answer.statusCode === 401) {
      answer.destroy();
      throw new UpstreamUnreachable('the metadata service refuses the token that it gave');
    }

    response.writeHead(answer.statusCode ?? 502, responseHeaders(answer, exchange));
    // A body that breaks off must not look complete, so the container's connection breaks off as well.
    const isSmall = Number(answer.headers['content-length']) <= BYTES_OF_A_REQUEST;
    const sent =
      isSmall || !moreWork
        ? pipeline(answer, response)
        : pipeline(answer, (body) => byPieces(body, (requests) => moreWork(exchange, requests)), response);
    await sent.catch((error: Error) => {
      if (!gone.signal.aborted) throw new UpstreamUnreachable(`the answer broke off: ${error.message}`, { cause: error });
    });
  };
}

/** Piece by piece, as it is read, each at the caller's pace: no body takes more than its share of the time. */
async function* byPieces(
  body: AsyncIterable<Buffer>,
  mayGoOn: (requests: number) => Promise<void>,
): AsyncGenerator<Buffer> {
  for await (const piece of body) {
    await mayGoOn(Math.ceil(piece.length / BYTES_OF_A_REQUEST));
    yield piece;
  }
}

function requestHeaders({ headers }: IncomingMessage): OutgoingHttpHeaders {
  const sent = REQUEST_HEADERS.map((name) => [name, headers[name]] as const);
  return Object.fromEntries(sent.filter(([, value]) => value !== undefined));
}

function responseHeaders({ rawHeaders, headers }: IncomingMessage, exchange: Exchange): string[] {
  const hopByHop = (headers.connection ?? '').toLowerCase().split(',').map((name) => name.trim());
  const passed = ownHeaders(exchange);
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const [name = '', value = ''] = rawHeaders.slice(index, index + 2);
    const lower = name.toLowerCase();
    if (!NOT_PASSED_BACK.has(lower) && !hopByHop.includes(lower)) passed.push(name, value);
  }
  if (exchange.tokenSeconds !== undefined) passed.push(TOKEN_TTL_HEADER, String(exchange.tokenSeconds));
  return passed;
}
