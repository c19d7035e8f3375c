import { once } from 'node:events';
import type { AddressInfo, ListenOptions, Server } from 'node:net';

/**
 * Starts listening on an address, where the system chooses a port for 0, or on a socket that listens already.
 *
 * @returns where the server listens
 * @throws what `listen` reports, such as EADDRINUSE
 */
export async function listen(server: Server, at: ListenOptions | { readonly fd: number }): Promise<AddressInfo> {
  server.listen(at);
  await once(server, 'listening');
  // A string is the path of a Unix socket, on which nothing here listens.
  return server.address() as AddressInfo;
}
