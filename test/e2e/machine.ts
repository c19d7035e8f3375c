// A machine made of Linux namespaces: its own network, process numbers, mounts and host name.
//
// Its first process (a shell that waits on its standard input) holds the namespaces. When the test's process
// goes, in whatever way, the kernel kills that shell, with it every process of the machine (a process
// namespace ends with its first process), and with those the mounts and the network. So nothing has to be
// found and undone one by one.
import { type ChildProcess, type SpawnOptions, execFile, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { LabDirectory } from './leftovers.ts';

/** What a command printed, and its exit status. */
export interface Result {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** One end of a cable between machines; the address with its prefix length. */
export interface CableEnd {
  readonly name: string;
  readonly address: string;
}

// With the parent's death the kernel kills the child: the lab's processes cannot outlive the test's.
const DIES_WITH_PARENT = ['/usr/bin/setpriv', '--pdeathsig', 'KILL'];

// The shell's number is read before /proc is mounted anew, while /proc still shows it as the outer machine
// numbers it. /run is fresh, so that nothing of the machine meets the outer one's sockets and locks; and what
// a daemon writes to the directories that it insists on stays there, too (without overlay mounts: a key and
// some empty directories remain).
const FIRST_PROCESS = String.raw`
  set -e
  read -r pid _ </proc/self/stat
  mount -t proc proc /proc
  mount -t tmpfs tmpfs /run
  for directory in /etc /opt /var/lib; do
    mkdir -p "/run/changed$directory" "/run/work$directory"
    mount -t overlay overlay "$directory" \
      -o "lowerdir=$directory,upperdir=/run/changed$directory,workdir=/run/work$directory" || true
  done
  hostname "$0"
  ip link set lo up
  echo "$pid"
  read -r _
`;

export class Machine {
  /** The number of its first process, as the outer machine numbers it. */
  readonly pid: number;
  readonly #holder: ChildProcess;
  readonly #lab: LabDirectory;

  private constructor(pid: number, holder: ChildProcess, lab: LabDirectory) {
    this.pid = pid;
    this.#holder = holder;
    this.#lab = lab;
  }

  static async create(name: string, lab: LabDirectory): Promise<Machine> {
    const unshare = ['unshare', '--net', '--uts', '--mount', '--pid', '--fork', '--kill-child'];
    const command = [...unshare, '/bin/bash', '-c', FIRST_PROCESS, name];
    const holder = start(command, { stdio: ['pipe', 'pipe', 'inherit'] });
    if (holder.stdout === null) throw new Error('no pipe from the first process');
    const lines = createInterface({ input: holder.stdout });
    const pid = await new Promise<number>((resolve, reject) => {
      lines.once('line', (line) => resolve(Number(line)));
      holder.once('error', reject);
      holder.once('exit', (status) => reject(new Error(`cannot make the machine ${name}: status ${status}`)));
    });
    if (holder.pid !== undefined) lab.record(holder.pid);
    lab.record(pid);
    return new Machine(pid, holder, lab);
  }

  /** Path of the machine's network namespace, for `nsenter --net=`. */
  get network(): string {
    return `/proc/${this.pid}/ns/net`;
  }

  /** A path inside the machine, as the outer one reaches it. */
  path(inside: string): string {
    return `/proc/${this.pid}/root${inside}`;
  }

  /**
   * Starts a program in a network namespace, by default the machine's own; everything else of it is the outer
   * machine's.
   */
  async spawn(command: string[], options: SpawnOptions, network = this.network): Promise<ChildProcess> {
    const child = start(['nsenter', `--net=${network}`, '--', ...command], options);
    await this.#started(child);
    return child;
  }

  /**
   * Starts a program wholly inside: with the machine's process numbers and mounts, too. Signal it by
   * `run(['kill' …])`.
   */
  async spawnInside(command: string[], options: SpawnOptions): Promise<ChildProcess> {
    const child = start(this.#inside(command), options);
    await this.#started(child);
    return child;
  }

  /** Runs a command inside to its end and returns what it printed; a status other than 0 is an error. */
  async run(command: string[]): Promise<string> {
    const result = await this.tryRun(command);
    if (result.status !== 0) throw new Error(`${command.join(' ')} (${result.status}): ${result.stderr}`);
    return result.stdout;
  }

  /** The same, but a failure is a result. */
  tryRun(command: string[]): Promise<Result> {
    const [program = '', ...args] = this.#inside(command);
    return execute(program, args);
  }

  /** Lays a cable to another machine: one end here, one end there, each named, with its address, and up. */
  async connect(other: Machine, here: CableEnd, there: CableEnd): Promise<void> {
    // From the outer machine, where the other's process number means something.
    const link = ['ip', 'link', 'add', here.name, 'type', 'veth'];
    const peer = ['peer', 'name', there.name, 'netns', String(other.pid)];
    const made = await execute('nsenter', [`--net=${this.network}`, '--', ...link, ...peer]);
    if (made.status !== 0) throw new Error(`${[...link, ...peer].join(' ')}: ${made.stderr}`);
    for (const [machine, end] of [[this, here], [other, there]] as const) {
      await machine.run(['ip', 'address', 'add', end.address, 'dev', end.name]);
      await machine.run(['ip', 'link', 'set', end.name, 'up']);
    }
  }

  /** Ends the machine and everything in it. */
  async end(): Promise<void> {
    if (this.#holder.exitCode !== null || this.#holder.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#holder.once('exit', resolve));
    this.#holder.stdin?.end();
    await ended;
  }

  #inside(command: string[]): string[] {
    return ['nsenter', `--target=${this.pid}`, '--net', '--uts', '--mount', '--pid', '--', ...command];
  }

  async #started(child: ChildProcess): Promise<void> {
    await new Promise((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', reject);
    });
    if (child.pid !== undefined) this.#lab.record(child.pid);
  }
}

/** Runs a program to its end. Rejects only when it cannot be started. */
export function execute(program: string, args: string[], env = process.env): Promise<Result> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { env, maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      if (error === null) resolve({ status: 0, stdout, stderr });
      else if (typeof error.code === 'number') resolve({ status: error.code, stdout, stderr });
      else reject(error);
    });
  });
}

function start(command: string[], options: SpawnOptions): ChildProcess {
  const [program = '', ...args] = [...DIES_WITH_PARENT, ...command];
  return spawn(program, args, options);
}
