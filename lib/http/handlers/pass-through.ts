import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { ClientDisconnected, UpstreamUnreachable, type Imds } from '../../imds/client.ts';
import type { Admission } from '../admission.ts';
import { ownHeaders, TOKEN_HEADER, TOKEN_TTL_HEADER, type Exchange, type Handler } from '../exchange.ts';
import { Refusal } from '../errors.ts';

/** The request headers that can change an answer of IMDS. Others are not forwarded. */
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

/** Hop-by-hop headers (RFC 9110, section 7.6.1), and those of the proxy's own upstream token. */
const NOT_RETURNED = new Set([
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
 * Body bytes that one request pays for; each further 16 kB count as another request. User data have 16 kB at the most (EC2
 * user guide), so no answer of the real IMDS is delayed.
 */
const BYTES_PER_REQUEST = 16 * 1024;

export interface PassThroughLimits {
  /** No path is passed through. */
  readonly disabled: boolean;
  /** Only paths that it matches are passed through. */
  readonly allow: RegExp | undefined;
  /** Paths that it matches are not, even if `allow` matches. */
  readonly deny: RegExp | undefined;
}

/** Streams an answer of the upstream IMDS with its own status and headers. */
export function passThrough(
  imds: Imds,
  { disabled, allow, deny }: PassThroughLimits,
  admission: Pick<Admission, 'charge' | 'upstreamPermit'>,
): Handler {
  return async (exchange) => {
    const { address, path } = exchange;
    if (disabled) throw new Refusal(403, 'not_passed_through', 'pass-through is disabled');
    if ((allow && !allow.test(path)) || deny?.test(path)) {
      throw new Refusal(404, 'not_passed_through', 'the settings do not pass this path through');
    }
    const permit = admission.upstreamPermit(address);
    const release = permit instanceof Promise ? await permit : permit;
    try {
      await forward(exchange, release);
    } finally {
      release();
    }
  };

  /** @param onAnswered called when the upstream IMDS has nothing more to do, though the client may still be reading */
  async function forward(exchange: Exchange, onAnswered: () => void): Promise<void> {
    const { request, response, path, address } = exchange;
    const timing = (exchange.upstream = { connecting: 0, answering: 0 });
    let answer: IncomingMessage;
    try {
      const method = request.method === 'HEAD' ? 'HEAD' : 'GET';
      answer = await imds.request({ method, path, headers: requestHeaders(request), client: response, timing });
    } catch (error) {
      if (error instanceof ClientDisconnected) return;
      throw error;
    }
    answer.once('close', onAnswered);
    if (answer.statusCode === 401) {
      answer.destroy();
      throw new UpstreamUnreachable('the upstream IMDS refuses the session token that it issued');
    }

    try {
      response.writeHead(answer.statusCode ?? 502, responseHeaders(answer, exchange));
    } catch (error) {
      answer.on('error', () => {}).destroy();
      throw error;
    }
    const isSmall = Number(answer.headers['content-length']) <= BYTES_PER_REQUEST;
    await relay(answer, response, isSmall ? undefined : ({ length }) => {
      return admission.charge(address, Math.ceil(length / BYTES_PER_REQUEST));
    });
  }
}

/**
 * Forwards a body with backpressure. Node's `pipe` does not report a failure, and `pipeline` takes as long as all the rest
 * of a small answer.
 *
 * @param throttle called for each chunk: undefined, or a promise of when the next one may be read
 * @returns a promise that resolves when the answer is sent or the client has disconnected, and rejects when upstream broke off
 */
function relay(
  answer: IncomingMessage,
  response: ServerResponse,
  throttle: ((chunk: Buffer) => Promise<void> | undefined) | undefined,
): Promise<void> {
  return new Promise((resolve, reject) => {
    // A truncated body must not look complete, so the client's connection breaks off as well.
    const fail = (error: Error): void => {
      reject(new UpstreamUnreachable(`the answer broke off: ${error.message}`, { cause: error }));
      response.destroy();
    };
    response.once('close', () => {
      resolve();
      // Upstream may have sent everything, but not all of it was read.
      if (!answer.readableEnded) answer.destroy();
    });
    answer.on('data', (chunk: Buffer) => {
      const drained = response.write(chunk) ? undefined : new Promise((resolve) => response.once('drain', resolve));
      const throttled = throttle?.(chunk);
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
  const returned = ownHeaders(exchange);
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] ?? '';
    const lower = name.toLowerCase();
    if (!NOT_RETURNED.has(lower) && !hopByHop.includes(lower)) returned.push(name, rawHeaders[index + 1] ?? '');
  }
  if (exchange.tokenSeconds !== undefined) returned.push(TOKEN_TTL_HEADER, String(exchange.tokenSeconds));
  return returned;
}
