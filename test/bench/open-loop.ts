// Open-loop load: requests at a constant rate, so a late answer delays no later request. A latency starts when the request
// was due, so it includes the wait for a connection.
import { connect, type Socket } from 'node:net';

const { port, from, connections, perSecond, seconds, path } = JSON.parse(process.argv[2] ?? '') as {
  port: number; from: string[]; connections: number; perSecond: number; seconds: number; path: string;
};
/** Warm-up: these requests are not counted. */
const WARM_UP_S = 0.5;
const REQUEST = `GET ${path} HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n`;

const latencies: number[] = [];
const idle: Socket[] = [];
/** When the requests without a connection were due. */
const waiting: number[] = [];
let failed = 0;
let inFlight = 0;

const sendOn = new Map<Socket, (dueAt: number) => void>();
await Promise.all(Array.from({ length: connections }, (_, n) => open(from[Math.floor(n * from.length / connections)] ?? '')));

const start = performance.now() + 10;
const total = Math.round((WARM_UP_S + seconds) * perSecond);
let sent = 0;
// setImmediate and not a timer: a timer is up to a millisecond late, which is longer than most answers take.
const tick = (): void => {
  for (const now = performance.now(); sent < total && start + sent * 1000 / perSecond <= now; sent += 1) {
    send(start + sent * 1000 / perSecond);
  }
  if (sent < total || inFlight > 0) setImmediate(tick);
  else finish();
};
tick();

function send(dueAt: number): void {
  inFlight += 1;
  const socket = idle.shift();
  if (socket === undefined) waiting.push(dueAt);
  else sendOn.get(socket)?.(dueAt);
}

function open(localAddress: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, localAddress, noDelay: true });
    let dueAt = 0;
    let unread = '';
    sendOn.set(socket, (due) => {
      dueAt = due;
      socket.write(REQUEST, 'latin1');
    });
    socket.setEncoding('latin1').on('data', (text) => {
      unread += text;
      const end = unread.indexOf('\r\n\r\n');
      if (end < 0) return;
      const length = Number(/\r\ncontent-length: (\d+)/i.exec(unread)?.[1] ?? 0);
      if (unread.length < end + 4 + length) return;
      if (!unread.startsWith('HTTP/1.1 200')) failed += 1;
      unread = '';
      if (dueAt >= start + WARM_UP_S * 1000) latencies.push(performance.now() - dueAt);
      inFlight -= 1;
      const next = waiting.shift();
      if (next === undefined) idle.push(socket);
      else sendOn.get(socket)?.(next);
    });
    socket.once('connect', () => {
      idle.push(socket);
      resolve();
    });
    socket.once('error', reject);
  });
}

function finish(): void {
  const sorted = latencies.sort((a, b) => a - b);
  const at = (fraction: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? NaN;
  process.stdout.write(JSON.stringify({ count: sorted.length, failed, p50: at(0.5), p99: at(0.99), most: at(1) }), () => {
    process.exit(failed === 0 ? 0 : 1);
  });
}
