import { networkInterfaces } from 'node:os';
import { normalAddress } from './ip-address.ts';

/**
 * The addresses of this host, in normal form.
 *
 * @throws if the process may not read them
 */
export function hostAddresses(): Set<string> {
  let interfaces: ReturnType<typeof networkInterfaces>;
  try {
    interfaces = networkInterfaces();
  } catch (error) {
    const reason = (error as Error).message;
    throw new Error(`cannot read the host's addresses (are netlink sockets forbidden?): ${reason}`, { cause: error });
  }
  const addresses = Object.values(interfaces).flatMap((entries = []) => entries.map(({ address }) => normalAddress(address)));
  return new Set(addresses.filter((address) => address !== undefined));
}
