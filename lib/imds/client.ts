/**
 * The client of the upstream instance metadata service (IMDS). It fetches one IMDSv2 token for all containers: with IMDS's
 * default hop limit of 1 a container behind a bridge could not receive a token itself.
 */

import * as http from 'node:http';
import type { Writable } from 'node:stream';
import type { Events } from '../events.ts';
import { withTimeout, type Clock } from '../util/clock.ts';

/** The upstream IMDS is unreachable, or closed the connection without an answer. */
export class UpstreamUnreachable extends Error {}
export class UpstreamTimeout extends Error {}
/** The client disconnected before the upstream IMDS was late. */
export class ClientDisconnected extends Error {}

export interface ImdsOptions {
  url: URL;
  clock: Clock;
  events?: Pick<Events, 'upstreamTokenFailed'>;
}

/** IMDS's maximum. */
const TOKEN_TTL_S = 21_600;
/** A token is replaced this long before it expires. */
const TOKEN_RENEWAL_MS = 5 * 60 * 1000;
/** How long to go without a token: an IMDS that refuses one keeps refusing; one that did not answer may recover soon. */
const NO_TOKEN_TTL_MS = 5 * 60 * 1000;
const FAILED_TOKEN_TTL_MS = 5_000;
/** IMDS is on the same machine, so a slower connection attempt has failed. */
const CONNECT_TIMEOUT_MS = 1_000;
const HEAD_TIMEOUT_MS = 5_000;
/**
 * IMDS answers in a millisecond, and SDKs give up after a second. A client that disconnects after this time has hit its
 * own timeout, so the error is IMDS's.
 */
const DISCONNECT_IS_TIMEOUT_MS = 500;
/** Between two chunks of a body. */
const BODY_TIMEOUT_MS = 30_000;
const TOKEN_TIMEOUT_MS = 1_000;
const MAX_TEXT_LENGTH = 64 * 1024;

type Token = { value: string | undefined; until: number };

/** In milliseconds. */
export interface UpstreamTiming {
  /** Until the connection was established; 0 for a reused one. */
  connecting: number;
  /** Until the head of the answer arrived, including `connecting`. */
  answering: number;
}

export interface UpstreamRequest {
  method: string;
  /** In canonical form. */
  path: string;
  headers: http.OutgoingHttpHeaders;
  /** The client's response. Its close before the answer ends the upstream request. */
  client?: Writable;
  /** The client fills this in. */
  timing?: UpstreamTiming;
}

export class Imds {
  readonly #url: URL;
  readonly #target: { readonly host: string; readonly port: string | number };
  readonly #clock: Clock;
  readonly #events: ImdsOptions['events'];
  readonly #agent = new http.Agent({ keepAlive: true, maxFreeSockets: 16, timeout: BODY_TIMEOUT_MS });
  #token: Token = { value: undefined, until: -Infinity };
  #fetchingToken: Promise<Token> | undefined;

  constructor({ url, clock, events }: ImdsOptions) {
    this.#url = url;
    this.#target = { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port || 80 };
    this.#clock = clock;
    this.#events = events;
  }

  /**
   * Sends a request with the proxy's token. After a 401 it repeats the request once with a new token.
   *
   * @returns the answer, whose body the caller reads; its status is 401 only if IMDS refused the new token as well
   * @throws UpstreamUnreachable, UpstreamTimeout, ClientDisconnected
   */
  async request(request: UpstreamRequest): Promise<http.IncomingMessage> {
    const token = await this.#currentToken();
    const response = await this.#sendWithToken(request, token);
    if (response.statusCode !== 401) return response;
    response.destroy();
    if (this.#token.value === token) this.#token = { value: undefined, until: -Infinity };
    return this.#sendWithToken(request, await this.#currentToken());
  }

  /** @returns undefined if IMDS gives no region */
  async region(): Promise<string | undefined> {
    try {
      const response = await this.request({ method: 'GET', path: '/latest/meta-data/placement/region', headers: {} });
      const text = await readText(response);
      return response.statusCode === 200 ? text.trim() : undefined;
    } catch {
      return undefined;
    }
  }

  /** The IMDS versions that the upstream supports. Returns an Error if it is unreachable. */
  async versions(): Promise<{ v1: boolean; v2: boolean } | Error> {
    const request = { method: 'GET', path: '/latest/meta-data/instance-id', headers: {} };
    try {
      const withoutToken = await this.#send(request, HEAD_TIMEOUT_MS);
      withoutToken.destroy();
      const v2 = (await this.#currentToken()) !== undefined;
      return { v1: withoutToken.statusCode === 200, v2 };
    } catch (error) {
      return error as Error;
    }
  }

  close(): void {
    this.#agent.destroy();
  }

  async #currentToken(): Promise<string | undefined> {
    if (this.#clock.monotonic() < this.#token.until) return this.#token.value;
    this.#fetchingToken ??= this.#fetchToken().finally(() => (this.#fetchingToken = undefined));
    this.#token = await this.#fetchingToken;
    return this.#token.value;
  }

  async #fetchToken(): Promise<Token> {
    const headers = { 'X-aws-ec2-metadata-token-ttl-seconds': String(TOKEN_TTL_S), 'Content-Length': '0' };
    const sentAt = this.#clock.monotonic();
    try {
      const response = await this.#send({ method: 'PUT', path: '/latest/api/token', headers }, TOKEN_TIMEOUT_MS);
      const late = (): Error => new UpstreamTimeout(`${this.#url.host} did not send a session token in time`);
      const text = await withTimeout(this.#clock, TOKEN_TIMEOUT_MS, readText(response), late).catch((error: unknown) => {
        response.destroy();
        throw error;
      });
      const value = text.trim();
      if (response.statusCode === 200 && /^[\x21-\x7e]+$/.test(value)) {
        return { value, until: sentAt + TOKEN_TTL_S * 1000 - TOKEN_RENEWAL_MS };
      }
      this.#events?.upstreamTokenFailed(`${this.#url.host} answered the token request with ${response.statusCode}`);
      return { value: undefined, until: sentAt + NO_TOKEN_TTL_MS };
    } catch (error) {
      this.#events?.upstreamTokenFailed((error as Error).message);
      return { value: undefined, until: this.#clock.monotonic() + FAILED_TOKEN_TTL_MS };
    }
  }

  #sendWithToken(request: UpstreamRequest, token: string | undefined): Promise<http.IncomingMessage> {
    const headers = token === undefined ? request.headers : { ...request.headers, 'X-aws-ec2-metadata-token': token };
    return this.#send({ ...request, headers }, HEAD_TIMEOUT_MS);
  }

  #send(request: UpstreamRequest, timeout: number): Promise<http.IncomingMessage> {
    const { method, path, headers, client, timing } = request;
    if (client?.destroyed) return Promise.reject(new ClientDisconnected());
    const began = this.#clock.monotonic();
    return new Promise((resolve, reject) => {
      const outgoing = http.request({ agent: this.#agent, method, path, headers, ...this.#target }, (response) => {
        cancel();
        answered = true;
        if (timing) timing.answering = this.#clock.monotonic() - began;
        resolve(response);
      });
      client?.once('close', () => {
        if (answered) return;
        const isLate = this.#clock.monotonic() - began >= DISCONNECT_IS_TIMEOUT_MS;
        const message = `${this.#url.host} did not answer before the client disconnected`;
        outgoing.destroy(isLate ? new UpstreamTimeout(message) : new ClientDisconnected());
      });
      let answered = false;
      // Without a connection the upstream is unreachable; with one it is slow.
      let connected = false;
      const late = (): void => void outgoing.destroy(new UpstreamTimeout(`${this.#url.host} did not answer in time`));
      let cancel = this.#clock.after(CONNECT_TIMEOUT_MS, () => {
        // After a stall of this process the connection may be established, and its event still be queued.
        setImmediate(() => {
          if (answered) return;
          if (!connected) outgoing.destroy(new UpstreamUnreachable(`${this.#url.host} is unreachable`));
          else cancel = this.#clock.after(timeout - CONNECT_TIMEOUT_MS, late);
        });
      });
      outgoing.once('socket', (socket) => {
        if (!socket.connecting) connected = true;
        else {
          socket.once('connect', () => {
            connected = true;
            if (timing) timing.connecting = this.#clock.monotonic() - began;
          });
        }
      });
      outgoing.once('timeout', late);
      outgoing.once('upgrade', (_response, socket) => {
        cancel();
        socket.destroy();
        reject(new UpstreamUnreachable(`${this.#url.host} answered with an unsupported protocol upgrade`));
      });
      outgoing.once('error', (error: NodeJS.ErrnoException) => {
        cancel();
        if (answered) return; // The reader of the body gets the error.
        // IMDS may close an idle connection just when it is reused. Nothing was answered, so send the request again.
        if (outgoing.reusedSocket && error.code === 'ECONNRESET') resolve(this.#send(request, timeout));
        else if (error instanceof UpstreamTimeout || error instanceof UpstreamUnreachable || error instanceof ClientDisconnected) {
          reject(error);
        } else {
          reject(new UpstreamUnreachable(`${this.#url.host}: ${error.message}`, { cause: error }));
        }
      });
      outgoing.end();
    });
  }
}

async function readText(response: http.IncomingMessage): Promise<string> {
  let text = '';
  response.setEncoding('utf8');
  for await (const chunk of response as AsyncIterable<string>) {
    text += chunk;
    if (text.length > MAX_TEXT_LENGTH) throw new UpstreamUnreachable(`the answer is longer than ${MAX_TEXT_LENGTH} characters`);
  }
  return text;
}
