import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import type { Clock } from '../../util/clock.ts';

/** What is read of an answer; receivers of metrics say what there is to say in a few hundred characters. */
const MAX_RESPONSE_LENGTH = 16_384;

/** Nobody asked for any; without end they would keep the processor busy. */
const MAX_INTERIM_RESPONSES = 10;

export interface Post {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** Milliseconds for the whole of it. */
  readonly timeout: number;
  readonly signal: AbortSignal;
}

export interface PostAnswer {
  readonly status: number;
  /** Milliseconds that the receiver asks to be left alone for, if it does. */
  readonly retryAfter: number | undefined;
  /** Its beginning, if it is long or breaks off. */
  readonly text: string;
}

/**
 * Sends a body on a connection of its own. An answer counts from its status on: a body that is endless, slow or cut
 * does not take that back.
 *
 * @throws what the connection threw, or an Error that says that there was no answer in time
 */
export function httpPost({ url, headers, body, timeout, signal }: Post, clock: Clock): Promise<PostAnswer> {
  return new Promise((resolve, reject) => {
    const request = url.protocol === 'https:' ? requestHttps : requestHttp;
    const length = { 'Content-Length': String(body.length) };
    // Without an agent, as often as once a minute: no connection is kept that a receiver could have given up.
    const outgoing = request(url, { method: 'POST', headers: { ...headers, ...length }, agent: false, signal });
    let fail: (error: Error) => void = reject;
    const cancel = clock.after(timeout, () => outgoing.destroy(new Error(`no answer within ${timeout} ms`)));
    outgoing.on('error', (error) => fail(error));
    outgoing.on('close', () => {
      cancel();
      fail(new Error('the connection was closed without an answer'));
    });
    let interim = 0;
    outgoing.on('information', () => {
      if ((interim += 1) > MAX_INTERIM_RESPONSES) outgoing.destroy(new Error(`more than ${MAX_INTERIM_RESPONSES} interim answers`));
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

/** Seconds or a date. Source: RFC 9110, section 10.2.3. */
function milliseconds(retryAfter: string | undefined, now: number): number | undefined {
  if (retryAfter === undefined) return undefined;
  const wait = /^\d+$/.test(retryAfter) ? Number(retryAfter) * 1000 : Date.parse(retryAfter) - now;
  return wait >= 0 ? wait : undefined;
}
