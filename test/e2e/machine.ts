// A machine made of Linux namespaces: network, PID, mount and UTS.
//
// Its first process, a shell that waits on its standard input, keeps the namespaces alive. When the test's process ends in
// any way, the kernel kills that shell, and with it every process of the machine (a PID namespace ends with its first
// process), the mounts and the network. So nothing needs a cleanup of its own.
import { type ChildProcess, type SpawnOptions, execFile, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { LabDirectory } from './leftovers.ts';

/** A command's output and exit status. */
export interface Result {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** One end of a link between machines; the address has its prefix length. */
export interface LinkEnd {
  readonly name: string;
  readonly address: string;
}

// The kernel kills the child when the parent dies, so the lab's processes cannot outlive the test's.
const DIES_WITH_PARENT = ['/usr/bin/setpriv', '--pdeathsig', 'KILL'];

// The shell reads its process ID before it mounts the new /proc, because the old one shows the outer machine's ID. /run is
// empty, so that the machine does not share sockets and locks with the outer one. Daemons' writes to fixed directories go
// to /run as well (without overlay mounts a key and some empty directories remain).
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
  /** The process ID of its first process on the outer machine. */
  readonly pid: number;
  readonly #firstProcess: ChildProcess;
  readonly #lab: LabDirectory;

  private constructor(pid: number, firstProcess: ChildProcess, lab: LabDirectory) {
    this.pid = pid;
    this.#firstProcess = firstProcess;
    this.#lab = lab;
  }

  static async create(name: string, lab: LabDirectory): Promise<Machine> {
    const unshare = ['unshare', '--net', '--uts', '--mount', '--pid', '--fork', '--kill-child'];
    const command = [...unshare, '/bin/bash', '-c', FIRST_PROCESS, name];
    const firstProcess = start(command, { stdio: ['pipe', 'pipe', 'inherit'] });
    if (firstProcess.stdout === null) throw new Error('no pipe from the first process');
    const lines = createInterface({ input: firstProcess.stdout });
    const pid = await new Promise<number>((resolve, reject) => {
      lines.once('line', (line) => resolve(Number(line)));
      firstProcess.once('error', reject);
      firstProcess.once('exit', (status) => reject(new Error(`cannot make the machine ${name}: status ${status}`)));
    });
    if (firstProcess.pid !== undefined) lab.record(firstProcess.pid);
    lab.record(pid);
    return new Machine(pid, firstProcess, lab);
  }

  /** The path of the machine's network namespace, for `nsenter --net=`. */
  get network(): string {
    return `/proc/${this.pid}/ns/net`;
  }

  /** The outer machine's path of a path inside. */
  path(inside: string): string {
    return `/proc/${this.pid}/root${inside}`;
  }

  /**
   * Starts a program in a network namespace, by default the machine's. Its other namespaces are the outer machine's.
   */
  async spawn(command: string[], options: SpawnOptions, network = this.network): Promise<ChildProcess> {
    const child = start(['nsenter', `--net=${network}`, '--', ...command], options);
    await this.#started(child);
    return child;
  }

  /**
   * Starts a program in all namespaces of the machine. Signal it with `run(['kill' …])`.
   */
  async spawnInside(command: string[], options: SpawnOptions): Promise<ChildProcess> {
    const child = start(this.#inside(command), options);
    await this.#started(child);
    return child;
  }

  /** Runs a command inside and returns its output; a status other than 0 is an error. */
  async run(command: string[]): Promise<string> {
    const result = await this.tryRun(command);
    if (result.status !== 0) throw new Error(`${command.join(' ')} (${result.status}): ${result.stderr}`);
    return result.stdout;
  }

  /** Like run, but returns a failure as a result. */
  tryRun(command: string[]): Promise<Result> {
    const [program = '', ...args] = this.#inside(command);
    return execute(program, args);
  }

  /** Links two machines with a veth pair, and sets the names, addresses and states of its ends. */
  async connect(other: Machine, here: LinkEnd, there: LinkEnd): Promise<void> {
    // On the outer machine, where the other machine's process ID is valid.
    const link = ['ip', 'link', 'add', here.name, 'type', 'veth'];
    const peer = ['peer', 'name', there.name, 'netns', String(other.pid)];
    const made = await execute('nsenter', [`--net=${this.network}`, '--', ...link, ...peer]);
    if (made.status !== 0) throw new Error(`${[...link, ...peer].join(' ')}: ${made.stderr}`);
    for (const [machine, end] of [[this, here], [other, there]] as const) {
      await machine.run(['ip', 'address', 'add', end.address, 'dev', end.name]);
      await machine.run(['ip', 'link', 'set', end.name, 'up']);
    }
  }

  /** Ends the machine with all its processes. */
  async end(): Promise<void> {
    if (this.#firstProcess.exitCode !== null || this.#firstProcess.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#firstProcess.once('exit', resolve));
    this.#firstProcess.stdin?.end();
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
