import { networkInterfaces } from 'node:os';
import { DirectoryUnavailable } from '../docker/container.ts';
import { normalAddress } from './ip-address.ts';

/**
 * The addresses of this host, in their normal form.
 *
 * @throws DirectoryUnavailable where the process may not ask for them
 */
export function hostAddresses(): Set<string> {
  let ends: ReturnType<typeof networkInterfaces>;
  try {
    ends = networkInterfaces();
  } catch (error) {
    const reason = (error as Error).message;
    throw new DirectoryUnavailable(`the host's addresses cannot be had (are netlink sockets forbidden?): ${reason}`, { cause: error });
  }
  const addresses = Object.values(ends).flatMap((end = []) => end.map(({ address }) => normalAddress(address)));
  return new Set(addresses.filter((address) => address !== undefined));
}
