// A real Docker daemon on the lab's host, with everything of it in the lab's directory.
import type { ChildProcess } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { chmod, copyFile, mkdir, symlink, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { Container, type ContainerSpec, IDLE } from './container.ts';
import type { LabDirectory } from './leftovers.ts';
import { type Machine, type Result, execute } from './machine.ts';

/** The image of every container, unless it says otherwise: a static busybox, no entrypoint. */
export const BUSYBOX = 'lab/busybox';

// The names on PATH may lead elsewhere (another client, say); the Debian packages' are meant.
const DOCKERD = '/usr/sbin/dockerd';
const DOCKER = '/usr/bin/docker';

/** What an image has besides busybox. */
export interface MoreOfImage {
  /** By their paths in the image, those on this machine. */
  readonly files?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
}

export class DockerEngine {
  /** Path of the API's unix socket. */
  readonly socket: string;
  readonly #machine: Machine;
  readonly #lab: LabDirectory;
  readonly #log: string;
  #daemon: ChildProcess | undefined;

  constructor(machine: Machine, lab: LabDirectory, log: string) {
    this.socket = join(lab.path, 'docker.sock');
    this.#machine = machine;
    this.#lab = lab;
    this.#log = log;
  }

  /**
   * Starts the daemon; resolves when it answers its API. With `liveRestore` containers outlive the daemon
   * (and Swarm is not to be had). Without `iptables` it makes no firewall rules.
   */
  async start({ liveRestore = false, iptables = true } = {}): Promise<void> {
    const at = (name: string): string => join(this.#lab.path, name);
    await mkdir(at('docker'), { recursive: true });
    // A configuration file of our own, because the daemon would read the machine's.
    await writeFile(at('daemon.json'), JSON.stringify({ 'live-restore': liveRestore, iptables }));
    const daemon = await this.#machine.spawnInside([
      DOCKERD, `--config-file=${at('daemon.json')}`, `--data-root=${at('docker/data')}`,
      `--exec-root=${at('docker/exec')}`, `--pidfile=${at('docker/pid')}`, `--host=unix://${this.socket}`,
      `--cgroup-parent=/${this.#lab.cgroup}`, '--exec-opt=native.cgroupdriver=cgroupfs',
    ], { stdio: ['ignore', 'ignore', 'pipe'], env: { PATH: process.env['PATH'] } });
    const { stderr } = daemon;
    if (stderr === null) throw new Error('no pipe from the daemon');
    stderr.pipe(createWriteStream(this.#log, { flags: 'a' }));
    await new Promise<void>((resolve, reject) => {
      createInterface({ input: stderr }).on('line', (line) => {
        if (line.includes('API listen on')) resolve();
      });
      daemon.once('exit', (status) => reject(new Error(`dockerd ended (${status}): see ${this.#log}`)));
    });
    this.#daemon = daemon;
  }

  /** Ends the daemon in its orderly way, as `systemctl stop docker` does. */
  async stop(): Promise<void> {
    const daemon = this.#daemon;
    if (daemon === undefined) return;
    const ended = new Promise((resolve) => daemon.once('exit', resolve));
    // The pid file has the number that the daemon has inside.
    await this.#machine.run(['/bin/sh', '-c', `kill -TERM "$(cat ${join(this.#lab.path, 'docker/pid')})"`]);
    await ended;
    this.#daemon = undefined;
  }

  /** Runs the docker command line and returns what it printed, trimmed. */
  async docker(...args: string[]): Promise<string> {
    const result = await this.tryDocker(...args);
    if (result.status !== 0) throw new Error(`docker ${args.join(' ')}: ${result.stderr}${result.stdout}`);
    return result.stdout.trim();
  }

  /** The same, but a failure is a result. */
  tryDocker(...args: string[]): Promise<Result> {
    return execute(DOCKER, args, {
      PATH: process.env['PATH'],
      DOCKER_HOST: `unix://${this.socket}`,
      DOCKER_CONFIG: join(this.#lab.path, 'docker'),
    });
  }

  /** Makes an image of a static busybox, with each of its programs in /bin, and what `more` says. */
  async makeImage(name: string, entrypoint: string[] = [], more: MoreOfImage = {}): Promise<void> {
    const { files = {}, env = {} } = more;
    const archive = await makeArchive(this.#lab, name, files);
    const changes = Object.entries(env).map(([key, value]) => `ENV ${key}=${value}`);
    if (entrypoint.length > 0) changes.push(`ENTRYPOINT ${JSON.stringify(entrypoint)}`);
    await this.docker('import', ...changes.flatMap((change) => ['--change', change]), archive, name);
  }

  /** Creates a container; start it with its methods. */
  create(spec: ContainerSpec): Promise<Container> {
    return Container.create(this, this.#machine, spec);
  }

  /** Creates and starts a container that does nothing until it is told to by its `exec`. */
  async startIdle(name: string, env: ContainerSpec['env'], more: ContainerSpec = {}): Promise<Container> {
    return (await this.create({ ...more, name, env, command: IDLE })).start();
  }

  /**
   * Calls the Engine API and returns the answer's body; a status from 400 on is an error.
   * @param path with its query, without a version.
   */
  api(method: string, path: string, body?: unknown): Promise<Buffer> {
    return callApi(this.socket, method, path, body);
  }
}

/** Calls an Engine API on a unix socket: see DockerEngine's `api`. */
export function callApi(socketPath: string, method: string, path: string, body?: unknown): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, method, path, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const answer = Buffer.concat(chunks);
        if ((response.statusCode ?? 500) < 400) resolve(answer);
        else reject(new Error(`${method} ${path}: ${response.statusCode}: ${answer.toString()}`));
      });
    });
    call.on('error', reject);
    if (body !== undefined) call.setHeader('Content-Type', 'application/json');
    call.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/**
 * Makes the file system of an image: a static busybox, with each of its programs in /bin, and the files that
 * are given, by their paths in the image.
 * @returns the path of the archive
 */
export async function makeArchive(
  lab: LabDirectory, name: string, files: Readonly<Record<string, string>> = {},
): Promise<string> {
  const root = join(lab.path, 'images', name.replace(/\W/g, '-'));
  for (const directory of ['bin', 'etc', 'lib', 'lib64', 'tmp', 'usr']) {
    await mkdir(join(root, directory), { recursive: true });
  }
  for (const [inside, source] of [['/bin/busybox', '/bin/busybox'], ...Object.entries(files)] as const) {
    await mkdir(join(root, dirname(inside)), { recursive: true });
    await copyFile(source, join(root, inside));
    await chmod(join(root, inside), 0o755);
  }
  const { stdout } = await execute('/bin/busybox', ['--list']);
  for (const program of stdout.split('\n')) {
    if (program === '' || program === 'busybox') continue;
    // The link may be there since the last image of that name.
    await symlink('busybox', join(root, 'bin', program)).catch(() => undefined);
  }
  const archive = `${root}.tar`;
  await execute('/bin/tar', ['--create', `--file=${archive}`, `--directory=${root}`, '.']);
  return archive;
}
