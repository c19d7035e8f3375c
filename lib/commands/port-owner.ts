/** Who listens on a TCP port of this host. Source: proc_pid_net(5) and proc_pid_fd(5). */

import { readdir, readFile, readlink } from 'node:fs/promises';

export interface PortOwner {
  /** The user that made the socket; systemd makes it as root (0). */
  readonly uid: number;
  /** Processes that hold the socket, as far as this user may see them. */
  readonly processes: readonly { readonly pid: number; readonly command: string }[];
}

/** A listening socket, in the state column. Source: include/net/tcp_states.h. */
const LISTEN = '0A';

/** @returns one for each listening socket; empty when the port is free */
export async function portOwners(port: number, proc = '/proc'): Promise<PortOwner[]> {
  const tables = await Promise.all(['tcp', 'tcp6'].map((name) => readFile(`${proc}/net/${name}`, 'utf8').catch(() => '')));
  const sockets = tables.flatMap((table) => table.split('\n').slice(1)).flatMap((line) => {
    // sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …
    const [, local = '', , state, , , , uid = '', , inode = ''] = line.trim().split(/\s+/);
    const isOnPort = parseInt(local.slice(local.lastIndexOf(':') + 1), 16) === port;
    return state === LISTEN && isOnPort ? [{ uid: Number(uid), inode }] : [];
  });
  if (sockets.length === 0) return [];
  const holders = await processesByInode(new Set(sockets.map(({ inode }) => inode)), proc);
  return sockets.map(({ uid, inode }) => ({ uid, processes: holders.get(inode) ?? [] }));
}

async function processesByInode(inodes: ReadonlySet<string>, proc: string): Promise<Map<string, PortOwner['processes'][number][]>> {
  const found = new Map<string, PortOwner['processes'][number][]>();
  const pids = (await readdir(proc)).filter((name) => /^\d+$/.test(name));
  for (const pid of pids) {
    // Another user's process, or one that has ended meanwhile, shows nothing.
    const fds = await readdir(`${proc}/${pid}/fd`).catch(() => []);
    for (const fd of fds) {
      const target = await readlink(`${proc}/${pid}/fd/${fd}`).catch(() => '');
      const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
      if (inode === undefined || !inodes.has(inode)) continue;
      const command = await readFile(`${proc}/${pid}/comm`, 'utf8').catch(() => '');
      const processes = found.get(inode) ?? [];
      if (!processes.some((process) => process.pid === Number(pid))) processes.push({ pid: Number(pid), command: command.trim() });
      found.set(inode, processes);
    }
  }
  return found;
}
