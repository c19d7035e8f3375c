// Sends packets from the network namespace that it is started in, and tells what came back.
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { type Socket, connect } from 'node:net';
import { answerCalls } from '../side-program.ts';

/** What became of a request: the body of its answer, or what its connection failed with. */
export type Answer = string;

/** The answer to a request that had none when `giveUp` was called. */
export const NOTHING: Answer = 'nothing';

export interface ProbeCalls {
  /**
   * Asks for the names of the roles. `from` is an address to bind to.
   */
  ask(address: string, port: number, from?: string): void;
  /** Asks once more over the connection that was asked over last. */
  askAgain(): void;
  /** Sends what is no request to the metadata service: TCP to another port, UDP, and a ping. */
  sendOthers(address: string): Promise<void>;
  /** Resolves with the answer to what was asked last. */
  answer(): Promise<Answer>;
  /** Ends every connection, answered or not. */
  giveUp(): void;
}

/** How many packets `sendOthers` sends (before any is sent again). */
export const OTHERS = 3;

const REQUEST = 'GET /latest/meta-data/iam/security-credentials/ HTTP/1.1\r\nHost: metadata\r\n\r\n';

let open: Socket[] = [];
let last: Socket | undefined;
let answer: Promise<Answer> = Promise.resolve(NOTHING);

function ask(address: string, port: number, from?: string): void {
  last?.destroy(); // the proxy limits the connections that an address has open
  last = connect({ host: address, port, ...(from === undefined ? {} : { localAddress: from }) });
  open.push(last);
  askAgain();
}

function askAgain(): void {
  const socket = last;
  if (socket === undefined) throw new Error('nothing was asked yet');
  let received = '';
  answer = new Promise((resolve) => {
    socket.removeAllListeners();
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.on('close', () => resolve(NOTHING));
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1');
      const [, status, length] = /^HTTP\/1\.1 (\d+)[^]*?\r\ncontent-length: *(\d+)/i.exec(received) ?? [];
      const body = received.slice(received.indexOf('\r\n\r\n') + 4);
      if (length === undefined || body.length < Number(length)) return;
      resolve(status === '200' ? body : (status ?? NOTHING));
    });
  });
  socket.write(REQUEST);
}

async function sendOthers(address: string): Promise<void> {
  const other = connect({ host: address, port: 8080 });
  other.on('error', () => undefined);
  open.push(other);
  const udp = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  udp.send('packet', 53, address, () => udp.close());
  const family = address.includes(':') ? '-6' : '-4';
  const ping = spawn('/bin/busybox', ['ping', family, '-c', '1', '-W', '1', address], { stdio: 'ignore' });
  await new Promise((resolve) => ping.once('spawn', resolve));
  ping.unref();
}

answerCalls<ProbeCalls>({
  ask,
  askAgain,
  sendOthers,
  answer: () => answer,
  giveUp() {
    // An open attempt would go on sending into the next test.
    for (const socket of open) socket.destroy();
    open = [];
  },
});
