import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { Journal } from '../../support/journal.ts';

interface Test {
  after(end: () => Promise<void> | void): void;
}

export interface UdpReceiver {
  readonly port: number;
  /** Each datagram as it came. */
  readonly packets: Journal<string>;
  close(): Promise<void>;
}

/** A socket that takes datagrams on loopback. */
export async function udpReceiver(t: Test, port = 0): Promise<UdpReceiver> {
  const socket = createSocket('udp4');
  const packets = new Journal<string>('a datagram');
  socket.on('message', (bytes) => packets.add(bytes.toString()));
  socket.bind(port, '127.0.0.1');
  await once(socket, 'listening');
  let closed: Promise<void> | undefined;
  const close = (): Promise<void> => (closed ??= new Promise((resolve) => socket.close(resolve)));
  t.after(close);
  return { port: socket.address().port, packets, close };
}

export interface StreamReceiver {
  /** 0 on a path. */
  readonly port: number;
  readonly connections: Journal<Socket>;
  /** What came over all connections, in pieces of any length. */
  readonly text: () => string;
  /** Resolves when all that came matches. */
  came(pattern: RegExp): Promise<string>;
  close(): Promise<void>;
}

/** A listener on loopback, or on a path, that reads what comes; `onConnection` says what it does instead. */
export async function streamReceiver(
  t: Test,
  { port = 0, path, onConnection }: { port?: number; path?: string; onConnection?: (socket: Socket) => void } = {},
): Promise<StreamReceiver> {
  const connections = new Journal<Socket>('a connection');
  const pieces = new Journal<string>('a piece');
  let text = '';
  const server: Server = createServer((socket) => {
    socket.on('error', () => {});
    if (onConnection) onConnection(socket);
    else {
      socket.setEncoding('latin1').on('data', (piece: string) => {
        text += piece;
        pieces.add(text);
      });
    }
    connections.add(socket);
  });
  if (path === undefined) server.listen(port, '127.0.0.1');
  else server.listen(path);
  await once(server, 'listening');
  let closed: Promise<void> | undefined;
  const close = (): Promise<void> => {
    for (const socket of connections.entries) socket.destroy();
    return (closed ??= new Promise((resolve) => server.close(() => resolve())));
  };
  t.after(close);
  return {
    port: path === undefined ? (server.address() as AddressInfo).port : 0,
    connections,
    text: () => text,
    came: (pattern) => pieces.first((all) => pattern.test(all)),
    close,
  };
}
