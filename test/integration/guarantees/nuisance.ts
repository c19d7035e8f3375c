import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setPriority } from 'node:os';

/** What a container can do to the others without any right to it. */
export type Nuisance =
  /** Connections on which nothing comes. */
  | { readonly kind: 'idle'; readonly connections: number }
  /** Requests whose head never ends. */
  | { readonly kind: 'slow heads'; readonly connections: number }
  /** Requests for a large body of which nothing is read. */
  | { readonly kind: 'slow readers'; readonly connections: number; readonly path: string }
  /** Bodies that are read as fast as they come, over and over. */
  | { readonly kind: 'fast readers'; readonly connections: number; readonly path: string }
  /** The next request as soon as the answer to the last one begins, `abreast` at a time on each connection. */
  | { readonly kind: 'flood'; readonly connections: number; readonly path: string; readonly abreast: number }
  /** A new connection for each request. */
  | { readonly kind: 'new connections'; readonly connections: number; readonly path: string };

export interface NuisanceOptions {
  readonly nuisance: Nuisance;
  readonly port: number;
  readonly from: string;
}

/** A container that goes on until it is stopped; connections that the proxy ends are made anew. */
export class NuisanceMaker {
  readonly #options: NuisanceOptions;
  readonly #sockets = new Set<Socket>();
  readonly #statuses: Record<string, number> = {};
  readonly #timer: NodeJS.Timeout;
  #over = false;

  constructor(options: NuisanceOptions) {
    this.#options = options;
    // Of this thread. It is to take from the others what the proxy gives it, not what the machine does.
    setPriority(LOWEST_PRIORITY);
    this.#timer = setInterval(() => this.#drip(), DRIP_MS);
  }

  /** Resolves when it has begun in full. */
  async start(): Promise<void> {
    const { connections } = this.#options.nuisance;
    // In batches below the kernel's backlog, which would make those beyond it wait for seconds.
    for (let made = 0; made < connections; made += BATCH) {
      await Promise.all(Array.from({ length: Math.min(BATCH, connections - made) }, () => this.#connect()));
    }
  }

  /** Answers by status. */
  async stop(): Promise<Readonly<Record<string, number>>> {
    this.#over = true;
    clearInterval(this.#timer);
    await Promise.all([...this.#sockets].map(async (socket) => {
      socket.destroy();
      if (!socket.closed) await once(socket, 'close');
    }));
    return this.#statuses;
  }

  async #connect(): Promise<void> {
    const { port, from, nuisance } = this.#options;
    const socket = connect({ port, host: '127.0.0.1', localAddress: from, noDelay: true });
    this.#sockets.add(socket);
    socket.setEncoding('latin1').on('error', () => {}).on('data', (text: string) => this.#heard(socket, text));
    socket.once('close', () => {
      this.#sockets.delete(socket);
      if (!this.#over && nuisance.kind !== 'idle') setTimeout(() => void this.#connect(), AGAIN_MS);
    });
    socket.write(this.#firstBytes());
    if (nuisance.kind === 'slow readers') socket.pause();
    const connected = once(socket, 'connect').catch(() => {});
    await Promise.race([connected, new Promise((resolve) => socket.once('close', resolve))]);
  }

  #firstBytes(): string {
    const { nuisance } = this.#options;
    switch (nuisance.kind) {
      case 'idle':
        return '';
      case 'slow heads':
        return 'GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: x\r\n';
      case 'flood':
        return get(nuisance.path).repeat(nuisance.abreast);
      default:
        return get(nuisance.path);
    }
  }

  #heard(socket: Socket, text: string): void {
    const { nuisance } = this.#options;
    for (const [, status = ''] of text.matchAll(/HTTP\/1\.1 (\d{3}) /g)) {
      this.#statuses[status] = (this.#statuses[status] ?? 0) + 1;
      if (this.#over) continue;
      if (nuisance.kind === 'flood' || nuisance.kind === 'fast readers') socket.write(get(nuisance.path));
      if (nuisance.kind === 'new connections') socket.destroy();
    }
  }

  #drip(): void {
    if (this.#options.nuisance.kind !== 'slow heads') return;
    for (const socket of this.#sockets) socket.write('X-A: b\r\n');
  }
}

const LOWEST_PRIORITY = 19;
const BATCH = 100;
const DRIP_MS = 200;
/** So long it waits before it takes the place of a connection that has ended. */
const AGAIN_MS = 5;

function get(path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
}
