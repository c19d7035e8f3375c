import { isIPv6 } from 'node:net';

/** Where a receiver of metrics listens. Every export looks up a host name anew. */
export interface HostAndPort {
  readonly host: string;
  readonly port: number;
}

/** A Unix stream socket. */
export interface SocketPath {
  readonly path: string;
}

export const RECEIVER_FORM = 'host:port';
export const DATADOG_FORM = 'host:port or unix:///path';

/** The kernel's limit: sun_path of unix(7) has 108 bytes and ends in a zero byte. */
const MAX_PATH_LENGTH = 107;

/** `host:port` or `[v6]:port`. Unlike an address to listen on, it needs both, and a port other than 0. */
export function parseReceiverAddress(text: string): HostAndPort | undefined {
  const [, v6, name, digits = ''] = /^(?:\[([^\]]+)\]|([\w.-]+)):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  const host = v6 === undefined ? name : isIPv6(v6) ? v6 : undefined;
  return host !== undefined && port >= 1 && port <= 65_535 ? { host, port } : undefined;
}

/** As above, or the path of a socket. Datadog also writes `unixstream://`. */
export function parseDatadogAddress(text: string): HostAndPort | SocketPath | undefined {
  const [, path] = /^unix(?:stream)?:\/\/(\/.+)$/.exec(text) ?? [];
  if (path === undefined) return parseReceiverAddress(text);
  return Buffer.byteLength(path) <= MAX_PATH_LENGTH && !path.includes('\0') ? { path } : undefined;
}
