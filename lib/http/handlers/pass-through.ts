import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { UpstreamUnreachable, type Imds } from '../../upstream/imds.ts';
import { TOKEN_HEADER, TOKEN_TTL_HEADER, type Exchange, type Handler } from '../exchange.ts';

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

/** Everything that names no credential: streamed from the real IMDS, under its own status and headers. */
export function passThrough(imds: Imds): Handler {
  return async (exchange) => {
    const { request, response } = exchange;
    const gone = new AbortController();
    response.once('close', () => {
      if (!response.writableFinished) gone.abort();
    });
    const answer = await imds.request({
      method: request.method === 'HEAD' ? 'HEAD' : 'GET',
      path: exchange.path,
      headers: requestHeaders(request),
      signal: gone.signal,
    });
    if (answer.statusCode === 401) {
      answer.destroy();
      throw new UpstreamUnreachable('the metadata service refuses the token that it gave');
    }

    response.writeHead(answer.statusCode ?? 502, responseHeaders(answer, exchange));
    // A body that breaks off must not look complete, so the container's connection breaks off as well.
    await pipeline(answer, response);
  };
}

function requestHeaders({ headers }: IncomingMessage): OutgoingHttpHeaders {
  const sent = REQUEST_HEADERS.map((name) => [name, headers[name]] as const);
  return Object.fromEntries(sent.filter(([, value]) => value !== undefined));
}

function responseHeaders({ rawHeaders, headers }: IncomingMessage, { tokenSeconds }: Exchange): string[] {
  const hopByHop = (headers.connection ?? '').toLowerCase().split(',').map((name) => name.trim());
  const passed: string[] = [];
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const [name = '', value = ''] = rawHeaders.slice(index, index + 2);
    const lower = name.toLowerCase();
    if (!NOT_PASSED_BACK.has(lower) && !hopByHop.includes(lower)) passed.push(name, value);
  }
  if (tokenSeconds !== undefined) passed.push(TOKEN_TTL_HEADER, String(tokenSeconds));
  return passed;
}
