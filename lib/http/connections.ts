/**
 * The containers' connections: the state of each, and what all connections from one address share.
 *
 *   an address is | when                                         | its connections
 *   --------------+----------------------------------------------+------------------------------------------------
 *   reading       | at first, and when a pause has ended         | are read from
 *   paused        | one of its connections has overflowed        | are not read from, nor are new ones
 *   recovering    | a request may still be late because of that  | are read from; a timeout is 503, not 408
 *
 *   a connection is | when                                       | a further request | bytes that are no request
 *   ----------------+--------------------------------------------+-------------------+-----------------------------
 *   refused         | its address has too many; has no state     | is ignored        | close the connection
 *   open            | it was admitted                            | is accepted       | are refused with 400, 408, 431
 *   overflowed      | its address has too many unanswered        | is ignored        | close the connection
 *                   | requests; it is not read from any more     |                   |
 *   closing         | an answer said `Connection: close`         | is accepted       | close the connection
 *
 * While a request of the connection is unanswered, bytes that are no request break the connection off in every state:
 * nothing may be written into an answer.
 */

import { STATUS_CODES, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Clock } from '../util/clock.ts';
import { normalAddress } from '../util/ip-address.ts';
import { errorPage } from './errors.ts';
import { SERVER } from './exchange.ts';

export interface ConnectionsOptions {
  /** Also how many requests of one address may be unanswered. */
  readonly maxPerAddress: number;
  /** Milliseconds after a pause in which a request may time out because its bytes were not read. */
  readonly recoveryTime: number;
  readonly clock: Clock;
}

/** A refused client reads the answer at once, or never. */
const REFUSAL_TIMEOUT_MS = 1_000;

/** Node's code for a request that has not come in time. */
const TIMED_OUT = 'ERR_HTTP_REQUEST_TIMEOUT';
const RETRY_AFTER = ['Retry-After: 1'];

const CONNECTION = Symbol('connection');

/** The state stands on the socket: a WeakMap of many short-lived sockets keeps the garbage collector busy. */
interface ConnectionSocket extends Duplex {
  [CONNECTION]?: Connection;
}

/** @returns undefined for a connection that was refused */
export function connectionOf(socket: Duplex): Connection | undefined {
  return (socket as ConnectionSocket)[CONNECTION];
}

export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #addresses = new Map<string, Address>();
  #draining = false;

  constructor(options: ConnectionsOptions) {
    this.#options = options;
  }

  /** Takes a new connection, or refuses it with 503. */
  admit(socket: Socket): void {
    const name = normalAddress(socket.remoteAddress ?? '');
    if (name === undefined) {
      socket.destroy(); // The client has disconnected already.
      return;
    }
    let shared = this.#addresses.get(name);
    if (!shared) this.#addresses.set(name, (shared = new Address(name, this.#options.clock, this.#forget)));
    if (shared.connections.size >= this.#options.maxPerAddress) {
      refuseSocket(socket, 503, RETRY_AFTER);
      return;
    }
    const connection = new Connection(socket, shared);
    (socket as ConnectionSocket)[CONNECTION] = connection;
    shared.connections.add(connection);
    socket.on('resume', keepPaused);
    if (shared.isPaused) socket.pause();
    socket.once('close', () => connection.closed());
  }

  /** From now on each answer is the last one of its connection. */
  drain(): void {
    this.#draining = true;
    for (const { connections } of this.#addresses.values()) {
      for (const { unanswered } of connections) for (const response of unanswered) response.shouldKeepAlive = false;
    }
  }

  /** @returns the connection of a request that is to be answered; undefined for a request to ignore */
  accept(socket: Duplex, response: ServerResponse): Connection | undefined {
    const connection = connectionOf(socket);
    if (!connection || connection.state === 'overflowed') return undefined;
    connection.unanswered.add(response);
    connection.shared.unanswered += 1;
    // SDKs wait for each answer: no client needs to send as many requests behind each other.
    if (connection.shared.unanswered > this.#options.maxPerAddress) connection.state = 'overflowed';
    if (this.#draining || connection.state === 'overflowed') response.shouldKeepAlive = false;
    return connection;
  }

  /** Refuses bytes that are no request. Node reports a request that has not come in time in the same way. */
  refuse({ code }: NodeJS.ErrnoException, socket: Socket): void {
    const connection = connectionOf(socket);
    const isAnswering = connection !== undefined && connection.unanswered.size > 0;
    if (connection && connection.state !== 'open' && !isAnswering) socket.destroySoon();
    else if (!socket.writable || code === 'ECONNRESET' || isAnswering) socket.destroy();
    else if (code === TIMED_OUT && connection?.shared.isRecovering(this.#options.recoveryTime)) refuseSocket(socket, 503, RETRY_AFTER);
    else refuseSocket(socket, code === TIMED_OUT ? 408 : code === 'HPE_HEADER_OVERFLOW' ? 431 : 400);
  }

  /** A client that disconnects and comes back while its requests are unanswered, or paused, finds its state again. */
  readonly #forget = (address: Address): void => {
    const { name, connections, unanswered, isPaused } = address;
    if (connections.size > 0 || unanswered > 0 || isPaused) return;
    if (this.#addresses.get(name) === address) this.#addresses.delete(name);
  };
}

/** What the connections from one address share. */
class Address {
  readonly name: string;
  readonly connections = new Set<Connection>();
  /** Requests; one connection may have many behind each other. */
  unanswered = 0;
  isPaused = false;
  /** When the last pause ended or will end, by the monotonic clock. */
  #pausedUntil = -Infinity;
  readonly #clock: Clock;
  /** To be called whenever nothing may be left of the address. */
  readonly forget: (address: Address) => void;

  constructor(name: string, clock: Clock, forget: (address: Address) => void) {
    this.name = name;
    this.#clock = clock;
    this.forget = forget;
  }

  pause(milliseconds: number): void {
    if (this.isPaused) return;
    this.isPaused = true;
    this.#pausedUntil = this.#clock.monotonic() + milliseconds;
    for (const { socket } of this.connections) socket.pause();
    this.#clock.after(milliseconds, () => {
      this.isPaused = false;
      for (const { socket } of this.connections) socket.resume();
      this.forget(this);
    });
  }

  isRecovering(recoveryTime: number): boolean {
    return this.#clock.monotonic() < this.#pausedUntil + recoveryTime;
  }
}

/** An admitted connection: where it comes from, and its unanswered requests. */
export class Connection {
  readonly socket: Socket;
  readonly shared: Address;
  readonly unanswered = new Set<ServerResponse>();
  /** Functions that cancel what admission has deferred on this connection. */
  readonly deferred = new Set<() => void>();
  state: 'open' | 'overflowed' | 'closing' = 'open';

  constructor(socket: Socket, shared: Address) {
    this.socket = socket;
    this.shared = shared;
  }

  /** The client's, in its normal form. */
  get address(): string {
    return this.shared.name;
  }

  get remotePort(): number | undefined {
    return this.socket.remotePort;
  }

  get localAddress(): string | undefined {
    return this.socket.localAddress;
  }

  get localPort(): number | undefined {
    return this.socket.localPort;
  }

  /** Stops reading from all connections of the address: Node keeps everything it has read until the connection ends. */
  pauseReads(milliseconds: number): void {
    this.shared.pause(milliseconds);
  }

  /** @returns false if that was known already */
  answered(response: ServerResponse): boolean {
    if (!this.unanswered.delete(response)) return false;
    this.shared.unanswered -= 1;
    this.shared.forget(this.shared);
    if (!response.shouldKeepAlive && this.state === 'open') this.state = 'closing';
    return true;
  }

  closed(): void {
    this.shared.connections.delete(this);
    this.shared.forget(this.shared);
    for (const cancel of this.deferred) cancel();
    // Of several requests behind each other Node ends only the first one's response.
    for (const response of this.unanswered) if (!response.socket) response.destroy().emit('close');
  }
}

/** Node resumes the socket whenever an answer is finished. */
function keepPaused(this: ConnectionSocket): void {
  const connection = this[CONNECTION];
  if (connection?.state !== 'overflowed' && !connection?.shared.isPaused) return;
  this.pause();
  // pause() emits nothing if it was called before. Node's parser reads past the stream, and stops only at this event.
  this.emit('pause');
}

/** Answers on a socket where there is no request to answer, and closes it. */
export function refuseSocket(socket: Duplex, status: number, headers: readonly string[] = []): void {
  const page = errorPage(status);
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'Content-Type: text/html',
    `Content-Length: ${page.length}`,
    `Server: ${SERVER}`,
    'Connection: close',
    ...headers,
  ];
  // After CONNECT Node itself handles no error of the socket any more.
  socket.on('error', () => {});
  const timer = setTimeout(() => socket.destroy(), REFUSAL_TIMEOUT_MS);
  socket.once('close', () => clearTimeout(timer));
  socket.end(`${head.join('\r\n')}\r\n\r\n${page}`, () => socket.destroy());
}
