// Sends packets from the network namespace that it is started in, and returns what came back.
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { type Socket, connect } from 'node:net';
import { answerCalls } from '../side-program.ts';
import { ROLE_NAMES_PATH } from './addresses.ts';

/** What became of a request: the body of its answer, its status if that is not 200, or the connection's error code. */
export type Answer = string;

/** The answer to a request that had none when `giveUp` was called. */
export const NOTHING: Answer = 'nothing';

/** How many packets `sendOthers` sends with a ping (before any is sent again). */
export const OTHERS = 3;

export interface ProbeCalls {
  /** Gives up root for good. */
  becomeUser(user: number): void;
  /** Requests the names of the roles. `from` is an address to bind to. */
  ask(address: string, port: number, from?: string): void;
  /** Sends another request over the latest connection. */
  askAgain(): void;
  /** Sends packets that are no request to the metadata service: TCP to another port, UDP, and with `ping` an ICMP echo. */
  sendOthers(address: string, ping: boolean): Promise<void>;
  /** Resolves with the answer to the latest request. */
  answer(): Promise<Answer>;
  /** Ends every connection, answered or not. */
  giveUp(): void;
  /** Starts about a thousand connections a second, each with a request, until `polled`. */
  poll(address: string, port: number): void;
  /** Ends it, and returns how often each answer came. */
  polled(): Promise<Readonly<Record<Answer, number>>>;
}

const REQUEST = `GET ${ROLE_NAMES_PATH} HTTP/1.1\r\nHost: metadata\r\n\r\n`;
/** Connections without an answer stay in SYN-SENT; no more of them than this at once. */
const MAX_POLLS_IN_FLIGHT = 500;

let open: Socket[] = [];
let last: Socket | undefined;
let answer: Promise<Answer> = Promise.resolve(NOTHING);

function request(socket: Socket): Promise<Answer> {
  return new Promise((resolve) => {
    let received = '';
    socket.removeAllListeners();
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.on('close', () => resolve(NOTHING));
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1');
      const [, status, length] = /^HTTP\/1\.1 (\d+)[^]*?\r\ncontent-length: *(\d+)/i.exec(received) ?? [];
      const body = received.slice(received.indexOf('\r\n\r\n') + 4);
      if (length === undefined) {
        // A body of unknown length is not needed.
        if (received.includes('\r\n\r\n')) resolve(/^HTTP\/1\.1 (\d+)/.exec(received)?.[1] ?? NOTHING);
        return;
      }
      if (body.length < Number(length)) return;
      resolve(status === '200' ? body : (status ?? NOTHING));
    });
    socket.write(REQUEST);
  });
}

function ask(address: string, port: number, from?: string): void {
  last?.destroy(); // the proxy limits the open connections of an address
  last = connect({ host: address, port, ...(from === undefined ? {} : { localAddress: from }) });
  open.push(last);
  answer = request(last);
}

async function sendOthers(address: string, ping: boolean): Promise<void> {
  const other = connect({ host: address, port: 8080 });
  other.on('error', () => undefined);
  open.push(other);
  const udp = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  udp.on('error', () => undefined);
  await new Promise<void>((resolve) => udp.send('packet', 53, address, () => udp.close(resolve)));
  if (!ping) return;
  const family = address.includes(':') ? '-6' : '-4';
  const echo = spawn('/bin/busybox', ['ping', family, '-c', '1', '-W', '1', address], { stdio: 'ignore' });
  await new Promise((resolve) => echo.once('spawn', resolve));
  echo.unref();
}

const polls = { timer: undefined as NodeJS.Timeout | undefined, inFlight: new Set<Socket>(), counts: new Map<Answer, number>() };

function startPoll(address: string, port: number): void {
  if (polls.inFlight.size >= MAX_POLLS_IN_FLIGHT) return;
  const socket = connect({ host: address, port });
  polls.inFlight.add(socket);
  void request(socket).then((told) => {
    polls.inFlight.delete(socket);
    polls.counts.set(told, (polls.counts.get(told) ?? 0) + 1);
    socket.resetAndDestroy(); // no TIME-WAIT: ports would run out
  });
}

answerCalls<ProbeCalls>({
  becomeUser(user) {
    process.setgroups?.([]);
    process.setgid?.(user);
    process.setuid?.(user);
  },
  ask,
  askAgain() {
    if (last === undefined) throw new Error('there is no connection');
    answer = request(last);
  },
  sendOthers,
  answer: () => answer,
  giveUp() {
    // An open attempt would go on sending into the next test.
    for (const socket of open) socket.destroy();
    open = [];
  },
  poll(address, port) {
    polls.counts.clear();
    polls.timer = setInterval(() => startPoll(address, port), 1);
  },
  async polled() {
    clearInterval(polls.timer);
    for (const socket of polls.inFlight) socket.destroy();
    while (polls.inFlight.size > 0) await new Promise((resolve) => setImmediate(resolve));
    return Object.fromEntries(polls.counts);
  },
});
