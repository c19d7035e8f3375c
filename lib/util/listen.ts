import { once } from 'node:events';
import type { Server } from 'node:net';

/**
 * @param port 0 lets the system choose one
 * @returns the port that the server listens on
 * @throws what `listen` reports, such as EADDRINUSE
 */
export async function listen(server: Server, host: string, port: number): Promise<number> {
  server.listen(port, host);
  await once(server, 'listening');
  const address = server.address();
  return typeof address === 'object' && address ? address.port : port;
}
