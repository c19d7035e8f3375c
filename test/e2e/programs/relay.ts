// A relay between the proxy and a Docker Engine's socket, on the lab's host: what DOCKER_URL=tcp://… leads to where the
// engine is reached through a socket proxy. It can lose the events and keep everything else.
import { once } from 'node:events';
import { type AddressInfo, type Socket, connect, createServer } from 'node:net';
import { answerCalls } from '../side-program.ts';

export interface RelayCalls {
  /** Listens on loopback, in front of a socket. Returns the port. */
  listen(socketPath: string): Promise<number>;
  /** Whether bytes of event streams stay in the relay, of open streams and of new ones after the response's head. */
  loseEvents(lose: boolean): void;
  /** The relay's process, to suspend it. */
  pid(): number;
}

let losesEvents = false;

function serve(client: Socket, socketPath: string): void {
  const engine = connect(socketPath);
  let isStream = false;
  let hasHead = false;
  client.on('data', (chunk: Buffer) => {
    isStream = /^GET \/events/.test(chunk.toString('latin1'));
    engine.write(chunk);
  });
  engine.on('data', (chunk: Buffer) => {
    if (isStream && hasHead && losesEvents) return;
    client.write(chunk);
    hasHead = true;
  });
  engine.on('close', () => (isStream && losesEvents) || client.end());
  client.on('close', () => engine.destroy());
  for (const socket of [client, engine]) socket.on('error', () => socket.destroy());
}

answerCalls<RelayCalls>({
  async listen(socketPath) {
    const server = createServer((client) => serve(client, socketPath)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  },
  loseEvents: (lose) => {
    losesEvents = lose;
  },
  pid: () => process.pid,
});
