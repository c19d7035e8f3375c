/**
 * HTTP to the engine: connections, timeouts and bounds. No container's size or slowness decides about the others:
 *
 *   inspects                  of containers and images have connections of their own. Eight run at a time; one that has no answer after half a
 *                             second gives its permit to the next, and its connection up when its caller aborts it.
 *   a list                    is parsed element by element; one over a megabyte counts as too large.
 *   any other answer          is read up to a bound, and only one at a time beyond 256 kB.
 */

import { statSync } from 'node:fs';
import * as http from 'node:http';
import type * as https from 'node:https';
import type { Clock } from '../util/clock.ts';
import type { DockerEndpoint } from './endpoint.ts';
import { AnswerTooLarge, EngineFailure, EngineUnreachable, PathRefused } from './engine.ts';
import { JsonElements, type JsonElement } from './json-elements.ts';

/** An inspect waits up to 330 ms for a container that is starting (measured), longer on a busy host. */
const RESPONSE_TIMEOUT_MS = 10_000;
/** The environment of a process that can be started is at most 2 MB (Linux, a quarter of the stack's 8 MB). */
const MAX_RESPONSE_LENGTH = 4 * 1024 * 1024;
/** A container in a list is about 2 kB. */
const MAX_ELEMENT_LENGTH = 1024 * 1024;
const LARGE_LENGTH = 256 * 1024;
const MAX_ERROR_LENGTH = 200;
/** Bounds concurrent API calls: a first sync should not crowd out `docker run`. */
const MAX_CONCURRENT = 8;
/** Inspects that hang count no more after this time. */
const SLOW_MS = 500;
/** More than containers that begin to hang within the two seconds after which an inspect is given up. */
const MAX_INSPECT_SOCKETS = 64;
/** The kernel asks a silent peer this often whether it is still there. */
const KEEPALIVE_MS = 15_000;
/** There is no socket, or no process listens on it. */
const NOT_LISTENING = new Set(['ENOENT', 'ECONNREFUSED']);
const INSPECT = /^\/(?:containers|images)\/[^/]+\/json$/;

interface Agents {
  readonly request: typeof http.request;
  readonly inspects: http.Agent;
  readonly others: http.Agent;
}

export class Transport {
  readonly #target: https.RequestOptions;
  readonly #isTls: boolean;
  readonly #isRelayed: boolean;
  readonly #url: string;
  readonly #host: string;
  readonly #clock: Clock;
  #agents: Promise<Agents> | undefined;
  #inspects = 0;
  readonly #waiting: (() => void)[] = [];
  /** Ends when the last large answer has been read. */
  #large: Promise<void> = Promise.resolve();

  /** @param isRelayed whether only something between may be down when nobody listens */
  constructor(endpoint: DockerEndpoint, isRelayed: boolean, clock: Clock) {
    this.#url = endpoint.url;
    this.#clock = clock;
    this.#isRelayed = isRelayed;
    // HTTP needs a Host header, also on a socket. With TLS it is the name that the certificate must have.
    this.#host = endpoint.kind === 'unix' ? 'docker' : endpoint.host;
    this.#isTls = endpoint.kind === 'tcp' && endpoint.tls !== undefined;
    this.#target =
      endpoint.kind === 'unix'
        ? { socketPath: endpoint.socketPath }
        : { host: endpoint.host, port: endpoint.port, ...endpoint.tls };
  }

  /**
   * @returns the parsed response body, or undefined for 404
   * @throws EngineUnreachable, EngineFailure
   */
  async get(path: string, signal?: AbortSignal): Promise<unknown> {
    const release = INSPECT.test(path) ? await this.#inspectPermit() : undefined;
    try {
      const response = await this.#open(path, { signal });
      if (response.statusCode === 404) {
        response.resume();
        return undefined;
      }
      await this.#expectOk(response, path);
      return JSON.parse(await this.#text(response, path));
    } catch (error) {
      throw this.#failure(error as Error, path);
    } finally {
      release?.();
    }
  }

  /** The elements of a list, each parsed before the next is kept. */
  async list<T>(path: string, parse: (element: JsonElement) => T): Promise<T[]> {
    const parsed: T[] = [];
    const elements = new JsonElements(MAX_ELEMENT_LENGTH);
    try {
      const response = await this.#open(path);
      await this.#expectOk(response, path);
      for await (const chunk of response as AsyncIterable<Buffer>) parsed.push(...elements.push(chunk).map(parse));
      if (!elements.isComplete) throw new SyntaxError('the list is incomplete');
    } catch (error) {
      throw this.#failure(error as Error, path);
    }
    return parsed;
  }

  /** Opens a stream on a connection of its own, on which silence is normal. */
  async open(path: string, signal: AbortSignal): Promise<http.IncomingMessage> {
    try {
      const response = await this.#open(path, { signal, agent: false });
      await this.#expectOk(response, path.replace(/\?.*/, ''));
      response.socket.setTimeout(0);
      return response;
    } catch (error) {
      throw this.#failure(error as Error, path.replace(/\?.*/, ''));
    }
  }

  close(): void {
    void this.#agents?.then(({ inspects, others }) => {
      inspects.destroy();
      others.destroy();
    });
  }

  async #open(path: string, options: http.RequestOptions = {}): Promise<http.IncomingMessage> {
    const { request: send, inspects, others } = await (this.#agents ??= makeAgents(this.#isTls));
    const agent = INSPECT.test(path) ? inspects : others;
    return new Promise((resolve, reject) => {
      const request = send({ ...this.#target, agent, ...options, path, headers: { Host: this.#host } });
      request.setTimeout(RESPONSE_TIMEOUT_MS, () => {
        request.destroy(new EngineFailure(`the Docker Engine at ${this.#url} did not answer ${path} in time`));
      });
      request.on('socket', (socket) => socket.setKeepAlive(true, KEEPALIVE_MS));
      request.on('error', reject);
      request.on('response', resolve);
      request.end();
    });
  }

  /** Eight inspects at a time, not counting those that are slow. */
  async #inspectPermit(): Promise<() => void> {
    if (this.#inspects < MAX_CONCURRENT) this.#inspects += 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    let isReleased = false;
    const release = (): void => {
      if (isReleased) return;
      isReleased = true;
      cancel();
      const next = this.#waiting.shift();
      if (next) next();
      else this.#inspects -= 1;
    };
    const cancel = this.#clock.after(SLOW_MS, release);
    return release;
  }

  async #text(response: http.IncomingMessage, path: string): Promise<string> {
    const chunks: Buffer[] = [];
    let length = 0;
    let release: (() => void) | undefined;
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        length += chunk.length;
        if (length > MAX_RESPONSE_LENGTH) {
          throw new AnswerTooLarge(`the response of the Docker Engine to ${path} exceeds ${MAX_RESPONSE_LENGTH} bytes`);
        }
        chunks.push(chunk);
        if (length > LARGE_LENGTH) release ??= await this.#largePermit();
      }
      return Buffer.concat(chunks).toString('utf8');
    } finally {
      release?.();
    }
  }

  async #largePermit(): Promise<() => void> {
    const before = this.#large;
    let release = (): void => {};
    this.#large = new Promise((resolve) => (release = resolve));
    await before;
    return release;
  }

  async #expectOk(response: http.IncomingMessage, path: string): Promise<void> {
    if (response.statusCode === 200) return;
    const body = await this.#text(response, path);
    const Kind = response.statusCode === 403 ? PathRefused : EngineFailure;
    throw new Kind(
      `the Docker Engine at ${this.#url} answered ${path} with ${response.statusCode}: ${body.slice(0, MAX_ERROR_LENGTH).trim()}`,
    );
  }

  #failure(error: NodeJS.ErrnoException, path: string): Error {
    if (error instanceof EngineFailure) return error;
    if (error instanceof SyntaxError) {
      return new EngineFailure(`the Docker Engine at ${this.#url} answered ${path} with malformed JSON`);
    }
    const Kind = NOT_LISTENING.has(error.code ?? '') && this.#provesNoEngine() ? EngineUnreachable : EngineFailure;
    return new Kind(`the Docker Engine at ${this.#url} cannot be used: ${error.message}`, { cause: error });
  }

  /**
   * Whether ECONNREFUSED or ENOENT proves that no engine runs. Not where only a relay may be down, as over TCP. Nor on a
   * stale socket (nlink 0): one that was bind-mounted by itself stays the old one after the engine has made another.
   */
  #provesNoEngine(): boolean {
    const { socketPath } = this.#target;
    return typeof socketPath === 'string' && !this.#isRelayed && !isUnlinked(socketPath);
  }
}

function isUnlinked(path: string): boolean {
  const { nlink } = statSync(path, { throwIfNoEntry: false }) ?? {};
  return nlink === 0;
}

/** TLS is loaded only where it is used: most engines are on a socket, and it takes as long to load as all of lib/. */
async function makeAgents(isTls: boolean): Promise<Agents> {
  const { request, Agent } = isTls ? await import('node:https') : http;
  const agent = (maxSockets: number): http.Agent => new Agent({ keepAlive: true, maxSockets, maxFreeSockets: 2 });
  return { request, inspects: agent(MAX_INSPECT_SOCKETS), others: agent(MAX_CONCURRENT) };
}
