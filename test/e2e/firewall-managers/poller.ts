// Asks for the names of the roles from the network namespace that it is started in, each time on a new connection, and
// counts who answered.
import { connect } from 'node:net';
import { HOST_MARK } from '../host-identity.ts';
import { answerCalls } from '../side-program.ts';

/** What became of the requests since the last `reset`. */
export interface Polled {
  readonly sent: number;
  /** Answered by the metadata service itself, with the host's role. */
  readonly leaked: number;
  /** Answered by the proxy: with the caller's role, or with a status that is an error. */
  readonly answered: number;
  /** Answered with 200 by somebody else. */
  readonly foreign: number;
  readonly failed: number;
  /** Of these, refused by a routing rule. */
  readonly refused: number;
  /** Milliseconds from the reset to the start of the last request that failed; 0 if none did. */
  readonly lastFailure: number;
}

export interface PollerCalls {
  /** Polls from now on, once in `interval` milliseconds, as a user. `role` is what the proxy answers with 200. */
  start(address: string, role: string, interval: number, user: number): void;
  reset(): void;
  counts(): Polled;
  /** Resolves when that many requests in a row, all sent after this call, were answered by the proxy. */
  answers(inARow: number): Promise<void>;
}

/** A busy machine takes its time; a packet that is dropped is sent again meanwhile. */
const TIMEOUT_MS = 3_000;
/** Below the proxy's limit for one address. */
const MAX_OPEN = 64;
const REQUEST = 'GET /latest/meta-data/iam/security-credentials/ HTTP/1.1\r\nHost: metadata\r\nConnection: close\r\n\r\n';

const ZERO = { sent: 0, leaked: 0, answered: 0, foreign: 0, failed: 0, refused: 0, lastFailure: 0 };
let counts = { ...ZERO };
let since = performance.now();
let open = 0;
let inARow = 0;
let generation = 0;
let waiter: { readonly inARow: number; readonly resolve: () => void } | undefined;

function poll(address: string, role: string): void {
  if (open >= MAX_OPEN) return;
  open += 1;
  counts.sent += 1;
  const [started, own] = [performance.now(), generation];
  let received = '';
  const socket = connect({ host: address, port: 80 });
  socket.setTimeout(TIMEOUT_MS, () => socket.destroy());
  socket.on('data', (chunk) => { received += chunk.toString('latin1'); });
  let isRefused = false;
  socket.on('error', ({ code }: NodeJS.ErrnoException) => {
    isRefused = code === 'EHOSTUNREACH' || code === 'ENETUNREACH' || code === 'EACCES';
  });
  socket.once('close', () => {
    open -= 1;
    if (started < since) return;
    const [, status, body] = /^HTTP\/1\.1 (\d+)[^]*?\r\n\r\n([^]*)$/.exec(received) ?? [];
    const isAnswered = status !== undefined && (status === '200' ? body === role : !received.includes(HOST_MARK));
    if (received.includes(HOST_MARK)) counts.leaked += 1;
    else if (isAnswered) counts.answered += 1;
    else if (status === '200') counts.foreign += 1;
    else {
      counts.failed += 1;
      if (isRefused) counts.refused += 1;
      counts.lastFailure = Math.max(counts.lastFailure, started - since);
    }
    if (own === generation) inARow = isAnswered ? inARow + 1 : 0;
    if (waiter !== undefined && inARow >= waiter.inARow) {
      waiter.resolve();
      waiter = undefined;
    }
  });
  socket.write(REQUEST);
}

answerCalls<PollerCalls>({
  start(address, role, interval, user) {
    if (user !== 0) process.setuid?.(user);
    setInterval(() => poll(address, role), interval);
  },
  reset() {
    counts = { ...ZERO };
    since = performance.now();
  },
  counts: () => counts,
  answers(wanted) {
    generation += 1;
    inARow = 0;
    return new Promise((resolve) => { waiter = { inARow: wanted, resolve }; });
  },
});
