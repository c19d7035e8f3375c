import { isIPv4, isIPv6, SocketAddress } from 'node:net';

/**
 * The normal form of an address: IPv4 dotted (also for `::ffff:10.0.0.1`), IPv6 compressed, in lower case, without a zone.
 *
 * @returns undefined if the text is not an IP address
 */
export function normalAddress(address: string): string | undefined {
  if (isIPv4(address)) return address;
  const zone = address.indexOf('%');
  const bare = zone === -1 ? address : address.slice(0, zone);
  if (!isIPv6(bare)) return undefined;
  const compressed = new SocketAddress({ address: bare, family: 'ipv6' }).address;
  return compressed.startsWith('::ffff:') && isIPv4(compressed.slice(7)) ? compressed.slice(7) : compressed;
}

export function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1';
}

/** As a URL writes it: an IPv6 address in brackets. */
export function hostAndPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
