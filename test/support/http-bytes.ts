/**
 * HTTP/1.1 as bytes on a socket, where node:http is too strict: for a fake server that accepts what a careless server
 * would accept, and for a client that sends what no library would send. Bytes are latin1 text.
 */

/** A request as received. */
export interface RawRequest {
  /** '' if the first line is not a request line. */
  readonly method: string;
  readonly target: string;
  readonly version: string;
  /** Alternating names and values, as received. */
  readonly rawHeaders: readonly string[];
  readonly body: string;
}

/** The value of the first header with this name; the name is case-insensitive. */
export function headerOf(rawHeaders: readonly string[], name: string): string | undefined {
  const wanted = name.toLowerCase();
  const at = rawHeaders.findIndex((text, index) => index % 2 === 0 && text.toLowerCase() === wanted);
  return at === -1 ? undefined : rawHeaders[at + 1];
}

const END_OF_HEAD = /\r\n\r\n|\n\r?\n/;
const REQUEST_LINE = /^(\S+) +(.*?)(?: +(HTTP\/\S+))?$/;

/**
 * Parses the first complete request in `bytes`; undefined if it is incomplete. Tolerant: lines may end in a bare LF, folded
 * headers are joined, and the target may contain spaces. Only Content-Length frames a body, so a request that is smuggled
 * in a chunked body is read as the next request.
 */
export function takeRequest(bytes: string): { request: RawRequest; rest: string } | undefined {
  // RFC 9112 (2.2): a server skips empty lines before a request.
  const text = bytes.replace(/^[\r\n]+/, '');
  const end = END_OF_HEAD.exec(text);
  if (end === null) return undefined;
  const [first = '', ...lines] = text.slice(0, end.index).split(/\r?\n/);
  const rawHeaders = parseHeaders(lines);
  const chunked = headerOf(rawHeaders, 'transfer-encoding') !== undefined;
  const length = chunked ? 0 : Number.parseInt(headerOf(rawHeaders, 'content-length') ?? '0', 10) || 0;
  const bodyStart = end.index + end[0].length;
  if (text.length < bodyStart + length) return undefined;
  const [, method = '', target = '', version = ''] = REQUEST_LINE.exec(first.trim()) ?? [];
  const body = text.slice(bodyStart, bodyStart + length);
  return { request: { method, target, version, rawHeaders, body }, rest: text.slice(bodyStart + length) };
}

/** A response as received. */
export interface RawResponse {
  readonly status: number;
  readonly rawHeaders: readonly string[];
  readonly body: string;
}

/**
 * The complete responses at the start of `bytes`, without interim ones (1xx except 101). `toHead`: the requests were HEAD.
 * `ended`: no bytes follow, which completes a response without framing.
 */
export function parseResponses(bytes: string, toHead = false, ended = false): RawResponse[] {
  const responses: RawResponse[] = [];
  for (let text = bytes; text !== '';) {
    const end = END_OF_HEAD.exec(text);
    if (end === null) break;
    const [first = '', ...lines] = text.slice(0, end.index).split(/\r?\n/);
    const rawHeaders = parseHeaders(lines);
    const status = Number(/^HTTP\/\d\.\d (\d{3})/.exec(first)?.[1] ?? 0);
    const afterHead = text.slice(end.index + end[0].length);
    const interim = status >= 100 && status < 200;
    const bodyless = toHead || interim || status === 204 || status === 304;
    const taken = bodyless ? { body: '', length: 0 } : takeBody(afterHead, rawHeaders, ended);
    if (taken === undefined) break;
    if (!interim || status === 101) responses.push({ status, rawHeaders, body: taken.body });
    text = afterHead.slice(taken.length);
  }
  return responses;
}

function takeBody(
  text: string, rawHeaders: readonly string[], ended: boolean,
): { body: string; length: number } | undefined {
  if (/chunked/i.test(headerOf(rawHeaders, 'transfer-encoding') ?? '')) return takeChunks(text);
  const given = headerOf(rawHeaders, 'content-length');
  if (given === undefined) return ended ? { body: text, length: text.length } : undefined;
  const length = Number(given);
  return text.length < length ? undefined : { body: text.slice(0, length), length };
}

function takeChunks(text: string): { body: string; length: number } | undefined {
  let body = '';
  for (let at = 0;;) {
    const size = /^([0-9a-f]+)[^\n]*\n/i.exec(text.slice(at));
    if (size === null) return undefined;
    const length = parseInt(size[1] ?? '0', 16);
    const start = at + size[0].length;
    if (text.length < start + length + 2) return undefined;
    body += text.slice(start, start + length);
    at = start + length + 2;
    if (length === 0) return { body, length: at };
  }
}

function parseHeaders(lines: readonly string[]): string[] {
  const headers: string[] = [];
  for (const line of lines) {
    if (/^[ \t]/.test(line) && headers.length > 0) {
      headers[headers.length - 1] = `${headers.at(-1) ?? ''} ${line.trim()}`;
    } else {
      const colon = line.indexOf(':');
      headers.push(line.slice(0, colon === -1 ? line.length : colon).trim());
      headers.push(colon === -1 ? '' : line.slice(colon + 1).trim());
    }
  }
  return headers;
}
