/**
 * Finds the processes that hold the other end of a connection, on this host:
 *
 *   /proc/net/tcp, tcp6    the peer's address and port  →  the socket's inode
 *   /proc/PID/fd/*         the socket's inode           →  every process that has it open
 *   /proc/PID/cgroup       a process                    →  the container that it is in
 *
 * Several processes may hold one socket, so each lookup scans all processes. A scan takes milliseconds: concurrent
 * lookups share one, a scan yields to other work every few milliseconds, and the scanner pauses after each.
 */

import { constants, opendirSync, readlinkSync, type Dir, type Dirent } from 'node:fs';
import { open, readdir, readFile, readlink, type FileHandle } from 'node:fs/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { sleep, withTimeout, type Clock } from '../../util/clock.ts';
import { CallerUndetermined } from '../../caller.ts';
import { parseCgroups, type CgroupIdentity } from './cgroup.ts';
import { socketsAtPort, type End, type SocketRow } from './socket-table.ts';

export interface HostProcessesOptions {
  clock: Clock;
  /** The addresses that the firewall redirects for certain: the peer's process may have connected to one of them. */
  redirected: readonly End[];
  /** Users whose connections the firewall does not redirect. */
  exempt: ReadonlySet<number>;
  /** Where /proc is mounted. */
  proc?: string;
}

/** A connection as the proxy's own socket shows it. */
export interface HostConnection {
  readonly peer: End;
  readonly local: End;
}

/** A process that holds the other end of a connection. */
export interface SocketProcess {
  readonly cgroup: CgroupIdentity;
  /** Whether it is in the proxy's own PID namespace, as every process of the host is. */
  readonly ownPids: boolean;
}

/** Time between yields. A request that arrives in between waits no longer than for a garbage collection. */
const YIELD_INTERVAL_MS = 2;
const READDIR_BATCH = 256;
/** Pause as long as the scan took, so that a container that connects all day takes at most half of the time. */
const PAUSE_FACTOR = 1;
/** SDKs give up after one or two seconds. */
const SCAN_TIMEOUT_MS = 5_000;

export const NO_PERMISSION =
  'the proxy may not inspect every process: it needs root, or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, and no ' +
  'security module that forbids it';
const NO_ROW =
  'the connection is not among the sockets of this host: it has ended, or its source port was changed on the way';
const EXEMPT =
  'the connection seems to belong to a user that the firewall does not redirect (redirecting root takes ' +
  '--host-network-root and HOST_NETWORK=root)';
const SEVERAL_ROWS = 'several sockets of this host have the address and port of the connection';
const NO_PROCESS =
  'no visible process holds the connection: has it ended, or does /proc not show all processes (--pid=host)?';
const TOO_SLOW = `scanning the processes of this host takes more than ${SCAN_TIMEOUT_MS / 1000} s`;

interface Lookup {
  readonly connection: HostConnection;
  readonly resolve: (processes: readonly SocketProcess[]) => void;
  readonly reject: (error: Error) => void;
}

interface OpenSocket {
  readonly pid: string;
  /** The file descriptor. */
  readonly fd: string;
}

export class HostProcesses {
  readonly #options: HostProcessesOptions;
  readonly #proc: string;
  #lookups: Lookup[] = [];
  #isScanning = false;

  constructor(options: HostProcessesOptions) {
    this.#options = options;
    this.#proc = options.proc ?? '/proc';
  }

  /**
   * @returns all processes that hold the other end, at least one
   * @throws CallerUndetermined
   */
  processesOf(connection: HostConnection): Promise<readonly SocketProcess[]> {
    const answer = new Promise<readonly SocketProcess[]>((resolve, reject) => {
      this.#lookups.push({ connection, resolve, reject });
    });
    if (!this.#isScanning) void this.#scan();
    return withTimeout(this.#options.clock, SCAN_TIMEOUT_MS, answer, () => new CallerUndetermined(TOO_SLOW));
  }

  /** @returns undefined when there is no such process */
  cgroupOf(pid: number): Promise<CgroupIdentity | undefined> {
    return readFile(`${this.#proc}/${pid}/cgroup`, 'utf8').then(parseCgroups, () => undefined);
  }

  /**
   * Inspects every process once.
   *
   * @returns the number of processes
   * @throws CallerUndetermined saying which permission is missing
   */
  async survey(): Promise<number> {
    return (await this.#findSockets(new Set())).processes;
  }

  async #scan(): Promise<void> {
    const { clock } = this.#options;
    this.#isScanning = true;
    while (this.#lookups.length > 0) {
      const began = clock.monotonic();
      const lookups = this.#lookups;
      this.#lookups = [];
      try {
        await this.#answer(lookups);
      } catch (error) {
        const failure = error instanceof CallerUndetermined ? error : undetermined(error);
        for (const { reject } of lookups) reject(failure);
      }
      await sleep(clock, (clock.monotonic() - began) * PAUSE_FACTOR);
    }
    this.#isScanning = false;
  }

  async #answer(lookups: readonly Lookup[]): Promise<void> {
    const tables = await Promise.all(['tcp', 'tcp6'].map((name) => this.#table(name)));
    const asked: { lookup: Lookup; inode: string }[] = [];
    for (const lookup of lookups) {
      const row = this.#rowOf(lookup.connection, tables);
      if (row instanceof Error) lookup.reject(row);
      else asked.push({ lookup, inode: row.inode });
    }
    if (asked.length === 0) return;
    const { sockets } = await this.#findSockets(new Set(asked.map(({ inode }) => inode)));
    const ownPids = await readlink(`${this.#proc}/self/ns/pid`);
    for (const { lookup, inode } of asked) {
      const processes: SocketProcess[] = [];
      for (const socket of sockets.get(inode) ?? []) {
        const owner = await this.#readProcess(socket, inode, ownPids);
        if (owner) processes.push(owner);
      }
      if (processes.length > 0) lookup.resolve(processes);
      else lookup.reject(new CallerUndetermined(NO_PROCESS));
    }
  }

  /** A table of the proxy's own network namespace. Without IPv6 there is no tcp6. */
  #table(name: string): Promise<string> {
    return readFile(`${this.#proc}/net/${name}`, 'latin1').catch((error: NodeJS.ErrnoException) => {
      if (name === 'tcp6' && error.code === 'ENOENT') return '';
      throw error;
    });
  }

  /**
   * The socket at the other end. A process may open two connections from one port that a redirect would make equal;
   * conntrack then changes the source port of one, perhaps to the port of another process's socket. That socket is not
   * redirected, or conntrack would not have chosen its port. So the row's remote address and user must fit as well.
   */
  #rowOf({ peer, local }: HostConnection, tables: readonly string[]): SocketRow | CallerUndetermined {
    const { redirected, exempt } = this.#options;
    const rows = tables
      .flatMap((table) => socketsAtPort(table, peer.port))
      .filter((row) => row.local.address === peer.address)
      .filter((row) => isSame(row.remote, local) || redirected.some((end) => isSame(row.remote, end)));
    const [row] = rows;
    if (!row) return new CallerUndetermined(NO_ROW);
    if (rows.length > 1) return new CallerUndetermined(SEVERAL_ROWS);
    if (!isSame(row.remote, local) && exempt.has(row.uid)) return new CallerUndetermined(EXEMPT);
    return row;
  }

  /**
   * Finds every process that holds one of the sockets. Uses synchronous calls: the kernel answers them from memory, and
   * asynchronous ones take several times as long.
   */
  async #findSockets(inodes: ReadonlySet<string>): Promise<{ sockets: Map<string, OpenSocket[]>; processes: number }> {
    const links = new Map([...inodes].map((inode) => [`socket:[${inode}]`, inode]));
    const sockets = new Map<string, OpenSocket[]>();
    const pids = (await readdir(this.#proc)).filter((name) => /^\d+$/.test(name));
    let turn = performance.now();
    const isTurnOver = (): boolean => performance.now() - turn > YIELD_INTERVAL_MS;
    const yieldToOthers = async (): Promise<void> => {
      await nextTurn();
      turn = performance.now();
    };
    for (const pid of pids) {
      if (isTurnOver()) await yieldToOthers();
      const seen = new Set<string>();
      const path = `${this.#proc}/${pid}/fd`;
      const directory = ifThere(() => opendirSync(path, { bufferSize: READDIR_BATCH }));
      try {
        for (let file = nextIn(directory); file; file = nextIn(directory)) {
          // A process may have a million open files.
          if (isTurnOver()) await yieldToOthers();
          const fd = file.name;
          const inode = links.get(ifThere(() => readlinkSync(`${path}/${fd}`)) ?? '');
          if (inode === undefined || seen.has(inode)) continue;
          seen.add(inode);
          sockets.set(inode, [...(sockets.get(inode) ?? []), { pid, fd }]);
        }
      } finally {
        directory?.closeSync();
      }
    }
    return { sockets, processes: pids.length };
  }

  /**
   * Reads a process that the scan saw with a socket. Another process may have its number by now: an open directory
   * handle stays with one process, and the process must hold the socket both before and after its files are read.
   *
   * @returns undefined when it has ended, or has closed the socket
   */
  async #readProcess({ pid, fd }: OpenSocket, inode: string, ownPids: string): Promise<SocketProcess | undefined> {
    let handle: FileHandle | undefined;
    try {
      handle = await open(`${this.#proc}/${pid}`, constants.O_RDONLY | constants.O_DIRECTORY);
      const held = `/proc/self/fd/${handle.fd}`;
      const hasSocket = async (): Promise<boolean> => (await readlink(`${held}/fd/${fd}`)) === `socket:[${inode}]`;
      if (!(await hasSocket())) return undefined;
      const [cgroups, pids] = await Promise.all([readFile(`${held}/cgroup`, 'utf8'), readlink(`${held}/ns/pid`)]);
      if (!(await hasSocket())) return undefined;
      return { cgroup: parseCgroups(cgroups), ownPids: pids === ownPids };
    } catch (error) {
      if (isGone(error)) return undefined;
      throw error;
    } finally {
      await handle?.close();
    }
  }
}

function isSame(one: End, other: End): boolean {
  return one.port === other.port && one.address === other.address;
}

function nextIn(directory: Dir | undefined): Dirent | undefined {
  return (directory && ifThere(() => directory.readSync())) ?? undefined;
}

/** @returns undefined when the process has ended, or has closed the file */
function ifThere<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (isGone(error)) return undefined;
    throw undetermined(error);
  }
}

function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ESRCH';
}

function undetermined(error: unknown): CallerUndetermined {
  const { code, message } = error as NodeJS.ErrnoException;
  const isDenied = code === 'EACCES' || code === 'EPERM';
  return new CallerUndetermined(isDenied ? NO_PERMISSION : message, { cause: error });
}
