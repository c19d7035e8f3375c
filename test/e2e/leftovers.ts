// What a killed lab leaves behind, and how the next lab removes it.
//
// A lab's processes die with the test's process (see machine.ts), and with them its mounts and namespaces. Its directory
// and control groups remain. The processes recorded here are a second safeguard.
import {
  mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, rmdirSync, writeFileSync, type Dirent,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

const PREFIX = 'metadataproxy-e2e-';
const CGROUPS = '/sys/fs/cgroup';

/**
 * A process, identified by its ID and its start (clock ticks since boot), because IDs are reused.
 */
interface ProcessIdentity {
  readonly pid: number;
  readonly started: string;
}

interface State {
  readonly owner: ProcessIdentity;
  readonly processes: ProcessIdentity[];
}

/** The directory of a lab, with a record of its owner and of the processes that it started. */
export class LabDirectory {
  readonly path: string;
  /** The parent of the Docker daemon's control groups. */
  readonly cgroup: string;
  readonly #state: State;

  /** Removes what killed labs left, then makes a new lab's directory. */
  constructor() {
    const owner = identify(process.pid);
    if (owner === undefined) throw new Error('/proc does not show this process: is it mounted?');
    clearLeftovers();
    this.path = mkdtempSync(join(tmpdir(), PREFIX));
    this.cgroup = basename(this.path);
    this.#state = { owner, processes: [] };
    this.#write();
    mkdirSync(join(this.path, 'programs'));
  }

  /** Records a process, so that a later lab can kill it if this one cannot. */
  record(pid: number): void {
    const identity = identify(pid);
    if (identity === undefined) return; // ended already
    this.#state.processes.push(identity);
    this.#write();
  }

  /** Kills the recorded processes that still run, and removes the directory and the control groups. */
  remove(): void {
    clear(this.path, this.#state);
  }

  #write(): void {
    writeFileSync(stateFile(this.path), JSON.stringify(this.#state));
  }
}

function clearLeftovers(): void {
  for (const name of readdirSync(tmpdir())) {
    if (!name.startsWith(PREFIX)) continue;
    const path = join(tmpdir(), name);
    const state = readState(path);
    if (state !== undefined && isAlive(state.owner)) continue; // another lab at work
    clear(path, state ?? { owner: { pid: 0, started: '' }, processes: [] });
  }
}

/**
 * Synchronous, so that it works in an "exit" handler.
 */
function clear(path: string, { processes }: State): void {
  for (const identity of processes) endProcess(identity);
  const gone = (): boolean => !processes.some(isAlive) && removeCgroups(basename(path));
  for (let waits = 0; waits < 200 && !gone(); waits += 1) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 25); // they need a moment to exit
  }
  rmSync(path, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
}

function endProcess(identity: ProcessIdentity): void {
  if (!isAlive(identity)) return;
  try {
    process.kill(identity.pid, 'SIGKILL');
  } catch {
    // It ended between the check and the signal.
  }
}

function isAlive(identity: ProcessIdentity): boolean {
  return identify(identity.pid)?.started === identity.started;
}

/**
 * A process's identity from /proc; undefined if there is no such process, or it is a zombie.
 */
function identify(pid: number): ProcessIdentity | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The second field, the command in parentheses, may contain any character; the fields after it are regular.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const started = fields[19];
  return started === undefined || fields[0] === 'Z' ? undefined : { pid, started };
}

/** Removes a lab's control groups from each hierarchy. @returns whether none is left */
function removeCgroups(name: string): boolean {
  let gone = true;
  for (const cgroup of cgroupsOf(name)) {
    try {
      rmdirSync(cgroup);
    } catch {
      gone = false; // a process in it has not ended yet
    }
  }
  return gone;
}

/** A lab's control group and those below it, innermost first, as rmdir needs them. */
function cgroupsOf(name: string): string[] {
  const found: string[] = [];
  const walk = (path: string): void => {
    for (const entry of directories(path)) walk(join(path, entry.name));
    found.push(path);
  };
  // In cgroup v2 it is at the top, in cgroup v1 in each hierarchy.
  for (const hierarchy of [CGROUPS, ...directories(CGROUPS).map((entry) => join(CGROUPS, entry.name))]) {
    if (directories(hierarchy).some((entry) => entry.name === name)) walk(join(hierarchy, name));
  }
  return found;
}

function directories(path: string): Dirent[] {
  try {
    return readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  } catch {
    return []; // gone since it was listed
  }
}

function readState(path: string): State | undefined {
  try {
    return JSON.parse(readFileSync(stateFile(path), 'utf8')) as State;
  } catch {
    return undefined;
  }
}

function stateFile(path: string): string {
  return join(path, 'state.json');
}
