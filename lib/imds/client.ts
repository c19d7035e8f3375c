/**
 * The client of the real instance metadata service. It keeps one IMDSv2 token of its own, so that containers need
 * none from there: its answers travel one IP hop only, which ends before a container behind a bridge.
 */

import * as http from 'node:http';
import type { Writable } from 'node:stream';
import { withTimeout, type Clock } from '../util/clock.ts';

/** The metadata service cannot be reached, or broke off. */
export class UpstreamUnreachable extends Error {}
/** It takes too long. */
export class UpstreamTimeout extends Error {}
/** Whoever asked has left, before it could be said that the service was late. */
export class ClientDisconnected extends Error {}

export interface ImdsOptions {
  url: URL;
  clock: Clock;
  /** Told when a request goes without a token because none could be had. */
  onTokenless?: (reason: string) => void;
}

/** The longest that IMDS grants. */
const TOKEN_TTL_S = 21_600;
/** A token is renewed while it is certainly still good. */
const TOKEN_RENEWAL_MS = 5 * 60 * 1000;
/** A service that has no IMDSv2 does not get it soon; one that did not answer might be back at once. */
const NO_TOKEN_TTL_MS = 5 * 60 * 1000;
const FAILED_TOKEN_TTL_MS = 5_000;
/** IMDS is on the same machine: what does not connect at once will not at all. */
const CONNECT_TIMEOUT_MS = 1_000;
/** The longest wait for the head of an answer. */
const HEAD_TIMEOUT_MS = 5_000;
/** It answers in a millisecond, and SDKs give up after a second: then it is the service that took too long. */
const DISCONNECT_IS_TIMEOUT_MS = 500;
/** The longest silence in the middle of a body. */
const BODY_TIMEOUT_MS = 30_000;
const TOKEN_TIMEOUT_MS = 1_000;
const MAX_TEXT_LENGTH = 64 * 1024;

type Token = { value: string | undefined; until: number };

/** Milliseconds. */
export interface UpstreamTiming {
  /** Until the connection stood; 0 for one that was there. */
  connecting: number;
  /** Until the head of the answer was there, the connecting included. */
  answering: number;
}

export interface UpstreamRequest {
  method: string;
  /** Canonical. */
  path: string;
  headers: http.OutgoingHttpHeaders;
  /** Whom the answer is for: the request ends when this closes before it is finished. */
  client?: Writable;
  /** Is filled in. */
  timing?: UpstreamTiming;
}

export class Imds {
  readonly #url: URL;
  readonly #target: { readonly host: string; readonly port: string | number };
  readonly #clock: Clock;
  readonly #onTokenless: (reason: string) => void;
  readonly #agent = new http.Agent({ keepAlive: true, maxFreeSockets: 16, timeout: BODY_TIMEOUT_MS });
  #token: Token = { value: undefined, until: -Infinity };
  #fetchingToken: Promise<Token> | undefined;

  constructor({ url, clock, onTokenless = () => {} }: ImdsOptions) {
    this.#url = url;
    this.#target = { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port || 80 };
    this.#clock = clock;
    this.#onTokenless = onTokenless;
  }

  /**
   * Asks with our own token, once more with a new one when it is refused.
   *
   * @returns the answer with its body still to come; status 401 only when a new token was refused as well
   * @throws UpstreamUnreachable, UpstreamTimeout, ClientDisconnected
   */
  async request(request: UpstreamRequest): Promise<http.IncomingMessage> {
    const token = await this.#currentToken();
    const response = await this.#ask(request, token);
    if (response.statusCode !== 401) return response;
    response.destroy();
    if (this.#token.value === token) this.#token = { value: undefined, until: -Infinity };
    return this.#ask(request, await this.#currentToken());
  }

  /** The region of the instance, if there is a metadata service that tells. */
  async region(): Promise<string | undefined> {
    try {
      const response = await this.request({ method: 'GET', path: '/latest/meta-data/placement/region', headers: {} });
      const text = await readText(response);
      return response.statusCode === 200 ? text.trim() : undefined;
    } catch {
      return undefined;
    }
  }

  /** Which ways of asking the service takes; an Error when it cannot be reached. */
  async versions(): Promise<{ v1: boolean; v2: boolean } | Error> {
    const head = { method: 'GET', path: '/latest/meta-data/instance-id', headers: {} };
    try {
      const withoutToken = await this.#send(head, HEAD_TIMEOUT_MS);
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
    const asked = this.#clock.monotonic();
    try {
      const response = await this.#send({ method: 'PUT', path: '/latest/api/token', headers }, TOKEN_TIMEOUT_MS);
      const late = (): Error => new UpstreamTimeout(`${this.#url.host} takes too long to give a token`);
      const text = await withTimeout(this.#clock, TOKEN_TIMEOUT_MS, readText(response), late).catch((error: unknown) => {
        response.destroy();
        throw error;
      });
      const value = text.trim();
      if (response.statusCode === 200 && /^[\x21-\x7e]+$/.test(value)) {
        return { value, until: asked + TOKEN_TTL_S * 1000 - TOKEN_RENEWAL_MS };
      }
      this.#onTokenless(`the metadata service answered the request for a token with ${response.statusCode}`);
      return { value: undefined, until: asked + NO_TOKEN_TTL_MS };
    } catch (error) {
      this.#onTokenless((error as Error).message);
      return { value: undefined, until: this.#clock.monotonic() + FAILED_TOKEN_TTL_MS };
    }
  }

  #ask(request: UpstreamRequest, token: string | undefined): Promise<http.IncomingMessage> {
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
        const message = `${this.#url.host} takes too long to answer; the caller has given up`;
        outgoing.destroy(isLate ? new UpstreamTimeout(message) : new ClientDisconnected());
      });
      let answered = false;
      // Until it is connected the service may be away; afterwards it may be slow.
      let connected = false;
      const late = (): void => void outgoing.destroy(new UpstreamTimeout(`${this.#url.host} takes too long to answer`));
      let cancel = this.#clock.after(CONNECT_TIMEOUT_MS, () => {
        // After a stall of this process the connection may be there, and only not be heard of yet.
        setImmediate(() => {
          if (answered) return;
          if (!connected) outgoing.destroy(new UpstreamUnreachable(`${this.#url.host} cannot be reached`));
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
        reject(new UpstreamUnreachable(`${this.#url.host} wants to switch protocols`));
      });
      outgoing.once('error', (error: NodeJS.ErrnoException) => {
        cancel();
        // The service may close an idle connection just as it is used again; nothing was answered, so ask again.
        if (answered) return; // Whoever reads the body is told.
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
    if (text.length > MAX_TEXT_LENGTH) throw new UpstreamUnreachable('the answer has no end');
  }
  return text;
}
