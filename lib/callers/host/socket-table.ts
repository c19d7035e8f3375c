/** The kernel's table of TCP sockets, as /proc/net/tcp and /proc/net/tcp6 show it. Source: proc_pid_net(5). */

import { endianness } from 'node:os';
import { normalAddress } from '../../util/ip-address.ts';

/** One end of a connection. */
export interface End {
  /** In its normal form. */
  readonly address: string;
  readonly port: number;
}

/** A socket that is one end of a connection, by a row of the table. */
export interface SocketRow {
  readonly local: End;
  /** The address that the process connected to; a redirect does not show here. */
  readonly remote: End;
  /** The user that created it. */
  readonly uid: number;
  /** As in the links of /proc/PID/fd. A socket that no process holds has 0; such rows are skipped. */
  readonly inode: string;
}

/**
 * Neither end has closed the connection. A process may keep a socket that its peer has closed; by then another process
 * may have its port. Source: include/net/tcp_states.h.
 */
const ESTABLISHED = '01';

/** The established connections with a local port. Parses only their rows: a host may have tens of thousands of others. */
export function socketsAtPort(table: string, port: number): SocketRow[] {
  const rows: SocketRow[] = [];
  const needle = `:${port.toString(16).toUpperCase().padStart(4, '0')} `;
  let at = table.indexOf(needle);
  while (at !== -1) {
    const found = table.indexOf('\n', at);
    const end = found === -1 ? table.length : found;
    const row = parseRow(table.slice(table.lastIndexOf('\n', at) + 1, end));
    // The match may be the remote port.
    if (row?.local.port === port) rows.push(row);
    at = table.indexOf(needle, end);
  }
  return rows;
}

/** @returns undefined for anything but the row of an established connection */
export function parseRow(line: string): SocketRow | undefined {
  // sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …
  const [, localText = '', remoteText = '', state = '', , , , uid = '', , inode = ''] = line.trim().split(/\s+/);
  const [local, remote] = [parseEnd(localText), parseEnd(remoteText)];
  if (!local || !remote || state !== ESTABLISHED) return undefined;
  if (!/^\d+$/.test(uid) || !/^[1-9]\d*$/.test(inode)) return undefined;
  return { local, remote, uid: Number(uid), inode };
}

/** `0100007F:4650`: the address as 32-bit words in host byte order, the port in network byte order. */
function parseEnd(text: string): End | undefined {
  const [, words, port] = /^([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4})$/.exec(text) ?? [];
  if (words === undefined || port === undefined) return undefined;
  const bytes = Buffer.from(words, 'hex');
  if (endianness() === 'LE') bytes.swap32();
  const address = normalAddress(bytes.length === 4 ? bytes.join('.') : ipv6Text(bytes));
  return address === undefined ? undefined : { address, port: parseInt(port, 16) };
}

function ipv6Text(bytes: Buffer): string {
  return Array.from({ length: 8 }, (_, group) => bytes.readUInt16BE(group * 2).toString(16)).join(':');
}
