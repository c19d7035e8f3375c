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
 *   refused         | its address has too many; has no state     | is ignored        | are ignored
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
    let address = this.#addresses.get(name);
    if (!address) this.#addresses.set(name, (address = new Address(name, this.#options.clock, this.#forget)));
    if (address.connections.size >= this.#options.maxPerAddress) {
      refuseSocket(socket, 503, RETRY_AFTER);
      return;
    }
    const connection = new Connection(socket, address, this.#options.maxPerAddress);
    (socket as ConnectionSocket)[CONNECTION] = connection;
    address.connections.add(connection);
    socket.on('resume', keepPaused);
    if (address.isPaused) socket.pause();
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
    connection.accept(response);
    if (this.#draining) response.shouldKeepAlive = false;
    return connection;
  }

  /** Refuses bytes that are no request; Node reports a request that has not come in time in the same way. */
  refuse({ code }: NodeJS.ErrnoException, socket: Socket): void {
    const connection = connectionOf(socket);
    const isAnswering = connection !== undefined && connection.unanswered.size > 0;
    if (connection && connection.state !== 'open' && !isAnswering) socket.destroySoon();
    else if (!socket.writable || code === 'ECONNRESET' || isAnswering) socket.destroy();
    else if (code === TIMED_OUT && connection?.hasUnreadBytes(this.#options.recoveryTime)) refuseSocket(socket, 503, RETRY_AFTER);
    else refuseSocket(socket, statusOf(code));
  }

  /** The state of a client that disconnects with unanswered requests waits for it to come back. */
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
  /** Called whenever nothing may be left of the address. */
  readonly forget: (address: Address) => void;

  constructor(name: string, clock: Clock, forget: (address: Address) => void) {
    this.name = name;
    this.#clock = clock;
    this.forget = forget;
  }

  /** Node keeps everything that it has read until the connection ends: it must not read what waits behind. */
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

export class Connection {
  readonly socket: Socket;
  readonly unanswered = new Set<ServerResponse>();
  /** Take back what admission deferred on this connection. */
  readonly deferred = new Set<() => void>();
  readonly #address: Address;
  readonly #maxUnanswered: number;
  #state: 'open' | 'overflowed' | 'closing' = 'open';

  constructor(socket: Socket, address: Address, maxUnanswered: number) {
    this.socket = socket;
    this.#address = address;
    this.#maxUnanswered = maxUnanswered;
  }

  get state(): 'open' | 'overflowed' | 'closing' {
    return this.#state;
  }

  /** The client's, in its normal form. */
  get address(): string {
    return this.#address.name;
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

  get isPaused(): boolean {
    return this.#state === 'overflowed' || this.#address.isPaused;
  }

  hasUnreadBytes(recoveryTime: number): boolean {
    return this.#address.isRecovering(recoveryTime);
  }

  /** Reads nothing more from any connection of the address for so long. */
  pauseReads(milliseconds: number): void {
    this.#address.pause(milliseconds);
  }

  /** Counts a request until `answered`. No client needs to send so many behind each other that it overflows. */
  accept(response: ServerResponse): void {
    this.unanswered.add(response);
    this.#address.unanswered += 1;
    if (this.#address.unanswered <= this.#maxUnanswered) return;
    this.#state = 'overflowed';
    response.shouldKeepAlive = false;
  }

  /** @returns false if that was known already */
  answered(response: ServerResponse): boolean {
    if (!this.unanswered.delete(response)) return false;
    this.#address.unanswered -= 1;
    this.#address.forget(this.#address);
    if (!response.shouldKeepAlive && this.#state === 'open') this.#state = 'closing';
    return true;
  }

  /** The socket is closed. */
  closed(): void {
    this.#address.connections.delete(this);
    this.#address.forget(this.#address);
    for (const cancel of this.deferred) cancel();
    // Of several requests behind each other Node ends only the first one's response.
    for (const response of this.unanswered) if (!response.socket) response.destroy().emit('close');
  }
}

/** Node resumes the socket whenever an answer is finished. */
function keepPaused(this: ConnectionSocket): void {
  if (!this[CONNECTION]?.isPaused) return;
  this.pause();
  // pause() emits nothing if it was called before. Node's parser reads past the stream, and stops only at this event.
  this.emit('pause');
}

function statusOf(code: string | undefined): number {
  if (code === 'HPE_HEADER_OVERFLOW') return 431;
  return code === TIMED_OUT ? 408 : 400;
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
