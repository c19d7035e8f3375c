import { networkInterfaces } from 'node:os';
import { DirectoryUnavailable } from '../docker/container.ts';
import { normalAddress } from './ip-address.ts';

/**
 * The addresses of this host, in normal form.
 *
 * @throws DirectoryUnavailable if the process may not read them
 */
export function hostAddresses(): Set<string> {
  let interfaces: ReturnType<typeof networkInterfaces>;
  try {
    interfaces = networkInterfaces();
  } catch (error) {
    const reason = (error as Error).message;
    throw new DirectoryUnavailable(`cannot read the host's addresses (are netlink sockets forbidden?): ${reason}`, { cause: error });
  }
  const addresses = Object.values(interfaces).flatMap((entries = []) => entries.map(({ address }) => normalAddress(address)));
  return new Set(addresses.filter((address) => address !== undefined));
}
