import { connect } from 'node:net';

export interface FloodOptions {
  readonly port: number;
  readonly from: string;
  readonly connections: number;
  readonly path: string;
  /** It ends by itself after that, whatever happens. */
  readonly milliseconds: number;
}

/** Answers by status; 0 counts connections that ended without one. */
export type FloodResult = Readonly<Record<number, number>>;

/** As fast as it can: the next request on each connection as soon as the answer begins. */
export async function flood({ port, from, connections, path, milliseconds }: FloodOptions): Promise<FloodResult> {
  const end = Date.now() + milliseconds;
  const counts: Record<number, number> = {};
  const request = `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
  await Promise.all(Array.from({ length: connections }, async () => {
    while (Date.now() < end) {
      await new Promise<void>((resolve) => {
        const socket = connect({ port, host: '127.0.0.1', localAddress: from });
        const timer = setTimeout(() => socket.destroy(), end - Date.now() + 100);
        socket.setEncoding('latin1').on('error', () => {}).on('data', (text: string) => {
          for (const [, status] of text.matchAll(/HTTP\/1\.1 (\d{3})/g)) {
            counts[Number(status)] = (counts[Number(status)] ?? 0) + 1;
            if (Date.now() < end) socket.write(request);
            else socket.destroy();
          }
        });
        socket.once('close', () => {
          clearTimeout(timer);
          resolve();
        });
        socket.write(request);
      });
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }));
  return counts;
}
