import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setPriority } from 'node:os';

/** The ways in which a container can disturb others. */
export type Noise =
  /** Connections without a request. */
  | { readonly kind: 'idle'; readonly connections: number }
  /** Requests with an endless head. */
  | { readonly kind: 'slow heads'; readonly connections: number }
  /** Requests for a large body that is never read. */
  | { readonly kind: 'slow readers'; readonly connections: number; readonly path: string }
  /** Repeated requests for a large body that is read immediately. */
  | { readonly kind: 'fast readers'; readonly connections: number; readonly path: string }
  /** `pipelined` requests on each connection; each answer triggers the next request. */
  | { readonly kind: 'flood'; readonly connections: number; readonly path: string; readonly pipelined: number }
  /** A new connection per request. */
  | { readonly kind: 'new connections'; readonly connections: number; readonly path: string };

export interface NoiseOptions {
  readonly noise: Noise;
  readonly port: number;
  readonly from: string;
}

/** Makes noise until it is stopped. It replaces connections that the proxy closes. */
export class NoisyNeighbour {
  readonly #options: NoiseOptions;
  readonly #sockets = new Set<Socket>();
  readonly #statuses: Record<string, number> = {};
  readonly #timer: NodeJS.Timeout;
  #stopped = false;

  constructor(options: NoiseOptions) {
    this.#options = options;
    // This thread's priority. The noise must compete for the proxy's resources, not for the machine's.
    setPriority(LOWEST_PRIORITY);
    this.#timer = setInterval(() => this.#drip(), DRIP_MS);
  }

  /** Resolves when all connections are open. */
  async start(): Promise<void> {
    const { connections } = this.#options.noise;
    // In batches below the kernel's backlog: further connections would wait for seconds.
    for (let made = 0; made < connections; made += BATCH) {
      await Promise.all(Array.from({ length: Math.min(BATCH, connections - made) }, () => this.#connect()));
    }
  }

  /** Answers by status. */
  async stop(): Promise<Readonly<Record<string, number>>> {
    this.#stopped = true;
    clearInterval(this.#timer);
    await Promise.all([...this.#sockets].map(async (socket) => {
      socket.destroy();
      if (!socket.closed) await once(socket, 'close');
    }));
    return this.#statuses;
  }

  async #connect(): Promise<void> {
    const { port, from, noise } = this.#options;
    const socket = connect({ port, host: '127.0.0.1', localAddress: from, noDelay: true });
    this.#sockets.add(socket);
    socket.setEncoding('latin1').on('error', () => {}).on('data', (text: string) => this.#receive(socket, text));
    socket.once('close', () => {
      this.#sockets.delete(socket);
      if (!this.#stopped && noise.kind !== 'idle') setTimeout(() => void this.#connect(), RECONNECT_MS);
    });
    socket.write(this.#firstBytes());
    if (noise.kind === 'slow readers') socket.pause();
    const connected = once(socket, 'connect').catch(() => {});
    await Promise.race([connected, new Promise((resolve) => socket.once('close', resolve))]);
  }

  #firstBytes(): string {
    const { noise } = this.#options;
    switch (noise.kind) {
      case 'idle':
        return '';
      case 'slow heads':
        return 'GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: x\r\n';
      case 'flood':
        return get(noise.path).repeat(noise.pipelined);
      default:
        return get(noise.path);
    }
  }

  #receive(socket: Socket, text: string): void {
    const { noise } = this.#options;
    for (const [, status = ''] of text.matchAll(/HTTP\/1\.1 (\d{3}) /g)) {
      this.#statuses[status] = (this.#statuses[status] ?? 0) + 1;
      if (this.#stopped) continue;
      if (noise.kind === 'flood' || noise.kind === 'fast readers') socket.write(get(noise.path));
      if (noise.kind === 'new connections') socket.destroy();
    }
  }

  #drip(): void {
    if (this.#options.noise.kind !== 'slow heads') return;
    for (const socket of this.#sockets) socket.write('X-A: b\r\n');
  }
}

const LOWEST_PRIORITY = 19;
const BATCH = 100;
const DRIP_MS = 200;
/** The delay before it replaces a closed connection. */
const RECONNECT_MS = 5;

function get(path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
}
