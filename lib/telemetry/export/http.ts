import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { Clock } from '../../util/clock.ts';
import { Rejected, RetryAfter, type Chunk, type Transport } from './exporter.ts';

/** How much of a response is read. Receivers answer with a few hundred characters. */
const MAX_RESPONSE_LENGTH = 16_384;

/** Unexpected interim responses (1xx) without end would keep the processor busy. */
const MAX_INTERIM_RESPONSES = 10;

const compress = promisify(gzip);

export interface HttpTransportOptions {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly gzip: boolean;
  /** Milliseconds for one request. */
  readonly timeout: number;
  /** The statuses after which the same request may succeed later. Any other than 2xx is final. */
  readonly retryable: ReadonlySet<number>;
  /** How many data points a successful response rejects. */
  readonly rejectedPoints: (response: string) => number;
  readonly clock: Clock;
}

/** Posts each chunk as JSON, on a connection of its own. */
export class HttpTransport implements Transport {
  readonly #options: HttpTransportOptions;
  readonly #headers: Readonly<Record<string, string>>;
  #abort = new AbortController();

  constructor(options: HttpTransportOptions) {
    this.#options = options;
    const encoding = options.gzip ? { 'Content-Encoding': 'gzip' } : {};
    this.#headers = { ...options.headers, 'Content-Type': 'application/json', ...encoding };
  }

  async open(): Promise<void> {
    if (this.#abort.signal.aborted) this.#abort = new AbortController();
  }

  /** Errors never quote a response: the receiver may repeat what it was sent, keys included. */
  async send({ body: text, points }: Chunk): Promise<void> {
    const { url, gzip, timeout, retryable, rejectedPoints, clock } = this.#options;
    const { signal } = this.#abort;
    const body = gzip ? await compress(text) : Buffer.from(text);
    const response = await httpPost({ url, headers: this.#headers, body, timeout, signal }, clock);
    if (response.status >= 200 && response.status < 300) {
      const rejected = Math.min(rejectedPoints(response.text), points);
      if (rejected > 0) throw new Rejected(`the receiver rejected ${rejected} of ${points} data points`, rejected);
      return;
    }
    const message = `the receiver answered ${response.status}`;
    if (!retryable.has(response.status)) throw new Rejected(message, points);
    throw new RetryAfter(message, response.retryAfter ?? 0);
  }

  async close(): Promise<void> {}

  destroy(): void {
    this.#abort.abort();
  }
}

export interface Post {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** Milliseconds for the whole request. */
  readonly timeout: number;
  readonly signal: AbortSignal;
}

export interface PostResponse {
  readonly status: number;
  /** Milliseconds, from the Retry-After header. */
  readonly retryAfter: number | undefined;
  /** Its beginning, if it is long or breaks off. */
  readonly text: string;
}

/**
 * Posts a body on a new connection. The status decides: a body that is endless, slow or truncated does not change it.
 *
 * @throws the connection's error, or an Error after the timeout
 */
export function httpPost({ url, headers, body, timeout, signal }: Post, clock: Clock): Promise<PostResponse> {
  return new Promise((resolve, reject) => {
    const request = url.protocol === 'https:' ? requestHttps : requestHttp;
    const length = { 'Content-Length': String(body.length) };
    // No agent: between two rounds, a minute apart, the receiver could close a kept connection.
    const outgoing = request(url, { method: 'POST', headers: { ...headers, ...length }, agent: false, signal });
    let fail: (error: Error) => void = reject;
    const cancel = clock.after(timeout, () => outgoing.destroy(new Error(`no response within ${timeout} ms`)));
    outgoing.on('error', (error) => fail(error));
    outgoing.on('close', () => {
      cancel();
      fail(new Error('the receiver closed the connection without a response'));
    });
    let interim = 0;
    outgoing.on('information', () => {
      interim += 1;
      if (interim > MAX_INTERIM_RESPONSES) outgoing.destroy(new Error(`more than ${MAX_INTERIM_RESPONSES} interim responses`));
    });
    outgoing.on('response', (response) => {
      let text = '';
      const done = (): void => {
        cancel();
        const retryAfter = milliseconds(response.headers['retry-after'], clock.now());
        resolve({ status: response.statusCode ?? 0, retryAfter, text });
        outgoing.destroy();
      };
      fail = done;
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk.slice(0, MAX_RESPONSE_LENGTH - text.length);
        if (text.length === MAX_RESPONSE_LENGTH) done();
      });
      response.on('end', done);
      response.on('error', done);
    });
    outgoing.end(body);
  });
}

/** Retry-After is seconds or a date. Source: RFC 9110, section 10.2.3. */
function milliseconds(retryAfter: string | undefined, now: number): number | undefined {
  if (retryAfter === undefined) return undefined;
  const wait = /^\d+$/.test(retryAfter) ? Number(retryAfter) * 1000 : Date.parse(retryAfter) - now;
  return wait >= 0 ? wait : undefined;
}
