import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { systemClock } from '../../util/clock.ts';
import { ClientDisconnected, UpstreamUnreachable, type Imds } from '../../imds/client.ts';
import { ownHeaders, TOKEN_HEADER, TOKEN_TTL_HEADER, type Exchange, type Handler } from '../exchange.ts';
import { Refusal, overloaded } from '../errors.ts';
import { Semaphore } from '../semaphore.ts';

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

/**
 * Requests of one address under way at the real service, which answers in a millisecond: SDKs have one at a time. Without
 * that, one container that reads nothing of its answers would hold hundreds of connections there.
 */
const MAX_CONCURRENT_REQUESTS = 16;
/** One more waits as long as it would for its pace. */
const ACQUIRE_TIMEOUT_MS = 1_000;

export interface PassThroughLimits {
  /** Nothing at all goes through. */
  readonly disabled: boolean;
  /** Only paths in which this is found. */
  readonly allow: RegExp | undefined;
  /** Not those in which this is found, allowed or not. */
  readonly deny: RegExp | undefined;
}

/** @returns a promise of when as much more work may be done for a caller as so many requests are; undefined for now */
export type Charge = (exchange: Exchange, requests: number) => Promise<void> | undefined;

/**
 * Everything that names no credential: streamed from the real IMDS, under its own status and headers.
 *
 * @param charge asked for each piece of a large body; undefined where callers have no pace
 */
export function passThrough(
  imds: Imds,
  { disabled, allow, deny }: PassThroughLimits,
  charge: Charge | undefined,
): Handler {
  const semaphore = new Semaphore(MAX_CONCURRENT_REQUESTS, ACQUIRE_TIMEOUT_MS, systemClock);
  return async (exchange) => {
    const { address, path } = exchange;
    if (disabled) throw new Refusal(403, 'not_passed_through', 'the settings pass nothing through');
    if ((allow && !allow.test(path)) || deny?.test(path)) {
      throw new Refusal(404, 'not_passed_through', 'the settings do not pass this path through');
    }
    const acquired = semaphore.acquire(address);
    if (acquired !== true && !(await acquired)) {
      throw overloaded(503, 'too_many', 'too many requests of this address are under way');
    }
    let isReleased = false;
    const release = (): void => {
      if (!isReleased) semaphore.release(address);
      isReleased = true;
    };
    try {
      await ask(exchange, release);
    } finally {
      release();
    }
  };

  /** @param onDone told when the real service has nothing more to do with it */
  async function ask(exchange: Exchange, onDone: () => void): Promise<void> {
    const { request, response, path } = exchange;
    const timing = (exchange.upstream = { connecting: 0, answering: 0 });
    let answer: IncomingMessage;
    try {
      const method = request.method === 'HEAD' ? 'HEAD' : 'GET';
      answer = await imds.request({ method, path, headers: requestHeaders(request), client: response, timing });
    } catch (error) {
      if (error instanceof ClientDisconnected) return;
      throw error;
    }
    answer.once('close', onDone);
    if (answer.statusCode === 401) {
      answer.destroy();
      throw new UpstreamUnreachable('the metadata service refuses the token that it gave');
    }

    try {
      response.writeHead(answer.statusCode ?? 502, responseHeaders(answer, exchange));
    } catch (error) {
      answer.on('error', () => {}).destroy();
      throw error;
    }
    const isSmall = Number(answer.headers['content-length']) <= BYTES_OF_A_REQUEST;
    await relay(answer, response, isSmall || !charge ? undefined : ({ length }) => {
      return charge(exchange, Math.ceil(length / BYTES_OF_A_REQUEST));
    });
  }
}

/**
 * Sends on what comes, no faster than it is taken. Of Node's own ways to do so, `pipe` tells nobody of a failure, and
 * `pipeline` takes as long as all the rest of a small answer.
 *
 * @param pace asked after each piece: undefined, or when the next one may come
 * @returns when the answer is sent, or nobody is there for it any more; rejects when it broke off
 */
function relay(
  answer: IncomingMessage,
  response: ServerResponse,
  throttle: ((piece: Buffer) => Promise<void> | undefined) | undefined,
): Promise<void> {
  return new Promise((resolve, reject) => {
    // A body that breaks off must not look complete, so the container's connection breaks off as well.
    const fail = (error: Error): void => {
      reject(new UpstreamUnreachable(`the answer broke off: ${error.message}`, { cause: error }));
      response.destroy();
    };
    response.once('close', () => {
      resolve();
      // It may have come whole, and not be read.
      if (!answer.readableEnded) answer.destroy();
    });
    answer.on('data', (piece: Buffer) => {
      const drained = response.write(piece) ? undefined : new Promise((resolve) => response.once('drain', resolve));
      const throttled = throttle?.(piece);
      if (!drained && !throttled) return;
      answer.pause();
      void Promise.all([drained, throttled]).then(() => answer.resume());
    });
    answer.once('end', () => response.end());
    answer.once('error', fail);
    answer.once('close', () => {
      if (!answer.complete) fail(new Error('closed'));
    });
  });
}

function requestHeaders({ headers }: IncomingMessage): OutgoingHttpHeaders {
  const sent = REQUEST_HEADERS.map((name) => [name, headers[name]] as const);
  return Object.fromEntries(sent.filter(([, value]) => value !== undefined));
}

function responseHeaders({ rawHeaders, headers }: IncomingMessage, exchange: Exchange): string[] {
  const hopByHop = (headers.connection ?? '').toLowerCase().split(',').map((name) => name.trim());
  const passed = ownHeaders(exchange);
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] ?? '';
    const lower = name.toLowerCase();
    if (!NOT_PASSED_BACK.has(lower) && !hopByHop.includes(lower)) passed.push(name, rawHeaders[index + 1] ?? '');
  }
  if (exchange.tokenSeconds !== undefined) passed.push(TOKEN_TTL_HEADER, String(exchange.tokenSeconds));
  return passed;
}
