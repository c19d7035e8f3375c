// HTTP servers that answer every request with one text: the metadata service's, and other programs' on the host.
import { once } from 'node:events';
import { type Server, createServer } from 'node:http';
import { answerCalls } from '../side-program.ts';

export interface ListenerCalls {
  /** Listens on all addresses, or on one. */
  listen(port: number, text: string, address?: string): Promise<void>;
  /** Frees all ports. */
  close(): Promise<void>;
}

const servers: Server[] = [];

answerCalls<ListenerCalls>({
  async listen(port, text, address = '::') {
    const server = createServer((_, response) => response.end(text));
    await once(server.listen(port, address), 'listening');
    servers.push(server);
  },
  async close() {
    for (const server of servers.splice(0)) {
      const closed = once(server.close(), 'close');
      server.closeAllConnections();
      await closed;
    }
  },
});
