/**
 * From a connection to the processes that hold its other end, on this host:
 *
 *   /proc/net/tcp, tcp6    the peer's address and port  →  the socket's number (inode)
 *   /proc/PID/fd/*         the socket's number          →  every process that has it open
 *   /proc/PID/cgroup       a process                    →  the container that it is in
 *
 * A socket may be held by several processes, so all are looked at for each look-up. That takes long enough to matter:
 * look-ups that come together share one, it lets other work through every few milliseconds, and it rests.
 */

import { constants, opendirSync, readlinkSync, type Dir, type Dirent } from 'node:fs';
import { open, readdir, readFile, readlink, type FileHandle } from 'node:fs/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { sleep, withTimeout, type Clock } from '../../util/clock.ts';
import { DirectoryUnavailable } from '../../docker/container.ts';
import { parseCgroups, type CgroupIdentity } from './cgroup.ts';
import { socketsAtPort, type End, type SocketRow } from './socket-table.ts';

export interface HostProcessesOptions {
  clock: Clock;
  /** What the firewall surely redirects: where the peer's process may have wanted to connect to. */
  redirected: readonly End[];
  /** Users whose connections it does not redirect. */
  exempt: ReadonlySet<number>;
  /** Where /proc is mounted. */
  proc?: string;
}

/** A connection as the proxy has it: addresses in their normal form. */
export interface HostConnection {
  readonly peer: End;
  readonly local: End;
}

/** A process that holds the other end of a connection. */
export interface SocketProcess {
  readonly cgroup: CgroupIdentity;
  /** Whether it is in the proxy's own process namespace, as everything of the host is. */
  readonly ownPids: boolean;
}

/** A turn in which nothing else is done; what is asked meanwhile waits no longer than for a garbage collection. */
const TURN_MS = 2;
/** How many names of open files the kernel is asked for at once. */
const READDIR_BATCH = 256;
/** Looking rests as long as it took: half of the time is left to the others if one container connects all day. */
const REST_FACTOR = 1;
/** SDKs give a request up after a second or two. */
const SCAN_TIMEOUT_MS = 5_000;

export const NO_PERMISSION =
  'the proxy may not look at every process: it needs root, or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, and no ' +
  'security module that forbids it';
const NO_ROW =
  'the connection is not among the sockets of this host: it has ended, or its source port was changed on the way';
const EXEMPT =
  'it looks like the connection of a user that is not redirected (for root that takes --host-network-root and ' +
  'HOST_NETWORK=root)';
const SEVERAL_ROWS = 'several sockets of this host have the address and port of the connection';
const NO_PROCESS =
  'no process is seen that holds the connection: has it ended, or are not all processes in /proc (--pid=host)?';
const TOO_SLOW = 'the processes of this host take too long to look at';

interface Question {
  readonly connection: HostConnection;
  readonly resolve: (processes: readonly SocketProcess[]) => void;
  readonly reject: (error: Error) => void;
}

interface OpenSocket {
  readonly pid: string;
  /** The number under which the process has it. */
  readonly fd: string;
}

export class HostProcesses {
  readonly #options: HostProcessesOptions;
  readonly #proc: string;
  #questions: Question[] = [];
  #isScanning = false;

  constructor(options: HostProcessesOptions) {
    this.#options = options;
    this.#proc = options.proc ?? '/proc';
  }

  /**
   * @returns one holder at least, of everyone that there is
   * @throws DirectoryUnavailable when it cannot be told
   */
  processesOf(connection: HostConnection): Promise<readonly SocketProcess[]> {
    const answer = new Promise<readonly SocketProcess[]>((resolve, reject) => {
      this.#questions.push({ connection, resolve, reject });
    });
    if (!this.#isScanning) void this.#scan();
    return withTimeout(this.#options.clock, SCAN_TIMEOUT_MS, answer, () => new DirectoryUnavailable(TOO_SLOW));
  }

  /** @returns undefined when there is no such process */
  cgroupOf(pid: number): Promise<CgroupIdentity | undefined> {
    return readFile(`${this.#proc}/${pid}/cgroup`, 'utf8').then(parseCgroups, () => undefined);
  }

  /**
   * Whether every process can be looked at.
   *
   * @returns how many there are
   * @throws DirectoryUnavailable that says what is missing
   */
  async survey(): Promise<number> {
    return (await this.#findSockets(new Set())).processes;
  }

  async #scan(): Promise<void> {
    const { clock } = this.#options;
    this.#isScanning = true;
    while (this.#questions.length > 0) {
      const began = clock.monotonic();
      const questions = this.#questions;
      this.#questions = [];
      try {
        await this.#answer(questions);
      } catch (error) {
        const failure = error instanceof DirectoryUnavailable ? error : unavailable(error);
        for (const { reject } of questions) reject(failure);
      }
      await sleep(clock, (clock.monotonic() - began) * REST_FACTOR);
    }
    this.#isScanning = false;
  }

  async #answer(questions: readonly Question[]): Promise<void> {
    const tables = await Promise.all(['tcp', 'tcp6'].map((name) => this.#table(name)));
    const asked: { question: Question; inode: string }[] = [];
    for (const question of questions) {
      const row = this.#rowOf(question.connection, tables);
      if (row instanceof Error) question.reject(row);
      else asked.push({ question, inode: row.inode });
    }
    if (asked.length === 0) return;
    const { sockets } = await this.#findSockets(new Set(asked.map(({ inode }) => inode)));
    const ownPids = await readlink(`${this.#proc}/self/ns/pid`);
    for (const { question, inode } of asked) {
      const processes: SocketProcess[] = [];
      for (const socket of sockets.get(inode) ?? []) {
        const owner = await this.#readProcess(socket, inode, ownPids);
        if (owner) processes.push(owner);
      }
      if (processes.length > 0) question.resolve(processes);
      else question.reject(new DirectoryUnavailable(NO_PROCESS));
    }
  }

  /** Of the proxy's own network namespace. IPv6 may be off. */
  #table(name: string): Promise<string> {
    return readFile(`${this.#proc}/net/${name}`, 'latin1').catch((error: NodeJS.ErrnoException) => {
      if (name === 'tcp6' && error.code === 'ENOENT') return '';
      throw error;
    });
  }

  /**
   * The socket at the other end. Whoever makes two connections from one port, which a redirect would make the same,
   * gets another port for one of them on the way (conntrack): that port may be one at which somebody else's socket is.
   * Such a socket is not redirected itself, or conntrack would not give its port to another one; so where it leads to
   * and whose it is must be right as well.
   */
  #rowOf({ peer, local }: HostConnection, tables: readonly string[]): SocketRow | DirectoryUnavailable {
    const { redirected, exempt } = this.#options;
    const rows = tables
      .flatMap((table) => socketsAtPort(table, peer.port))
      .filter((row) => row.local.address === peer.address)
      .filter((row) => isSame(row.remote, local) || redirected.some((end) => isSame(row.remote, end)));
    const [row] = rows;
    if (!row) return new DirectoryUnavailable(NO_ROW);
    if (rows.length > 1) return new DirectoryUnavailable(SEVERAL_ROWS);
    if (!isSame(row.remote, local) && exempt.has(row.uid)) return new DirectoryUnavailable(EXEMPT);
    return row;
  }

  /**
   * Every process that holds one of some sockets. Read without waiting, as Node's way to wait takes several times as
   * long for such small calls; the kernel answers them from memory.
   */
  async #findSockets(inodes: ReadonlySet<string>): Promise<{ sockets: Map<string, OpenSocket[]>; processes: number }> {
    const links = new Map([...inodes].map((inode) => [`socket:[${inode}]`, inode]));
    const sockets = new Map<string, OpenSocket[]>();
    const pids = (await readdir(this.#proc)).filter((name) => /^\d+$/.test(name));
    let turn = performance.now();
    const isOver = (): boolean => performance.now() - turn > TURN_MS;
    const rest = async (): Promise<void> => {
      await nextTurn();
      turn = performance.now();
    };
    for (const pid of pids) {
      if (isOver()) await rest();
      const seen = new Set<string>();
      const path = `${this.#proc}/${pid}/fd`;
      const directory = ifThere(() => opendirSync(path, { bufferSize: READDIR_BATCH }));
      try {
        for (let file = nextIn(directory); file; file = nextIn(directory)) {
          // A process may have a million files open.
          if (isOver()) await rest();
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
   * Who a process is that was seen with a socket. Its number may be another one's by now: so it is taken hold of first,
   * through a directory that stays this process's, and has the socket before and after it is read.
   *
   * @returns undefined when it has gone meanwhile, or has closed the socket
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

/** @returns undefined when a process, or what it had open, has gone meanwhile */
function ifThere<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (isGone(error)) return undefined;
    throw unavailable(error);
  }
}

function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ESRCH';
}

function unavailable(error: unknown): DirectoryUnavailable {
  const { code, message } = error as NodeJS.ErrnoException;
  const isDenied = code === 'EACCES' || code === 'EPERM';
  return new DirectoryUnavailable(isDenied ? NO_PERMISSION : message, { cause: error });
}
