// Podman on the lab's host, with the service of its Docker-compatible socket, and all its files in the lab's directory.
import { createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Container, type ContainerSpec, IDLE } from './container.ts';
import { BUSYBOX, callApi, makeArchive } from './docker-engine.ts';
import type { LabDirectory } from './leftovers.ts';
import type { Machine, Result } from './machine.ts';

const PODMAN = '/usr/bin/podman';

export class PodmanEngine {
  /** The path of the unix socket of `podman system service`. */
  readonly socket: string;
  readonly #machine: Machine;
  readonly #lab: LabDirectory;
  readonly #log: string;

  constructor(machine: Machine, lab: LabDirectory, log: string) {
    this.socket = join(lab.path, 'podman.sock');
    this.#machine = machine;
    this.#lab = lab;
    this.#log = log;
  }

  /** Starts the service and makes the default image. Resolves when the service answers. */
  async start(): Promise<void> {
    await mkdir(join(this.#lab.path, 'podman'), { recursive: true });
    await this.startService();
    const archive = await makeArchive(this.#lab, BUSYBOX);
    await this.docker('import', '--quiet', archive, BUSYBOX);
  }

  /** Starts only the service. Containers do not need it, because Podman has no daemon. */
  async startService(): Promise<void> {
    const service = await this.#machine.spawnInside(
      ['/usr/bin/setsid', '/bin/sh', '-c', 'echo $$ >/run/podman-service.pid; exec "$@"', 'sh',
        ...this.#command('--log-level=info', 'system', 'service', '--time=0', `unix://${this.socket}`)],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    const { stderr } = service;
    if (stderr === null) throw new Error('no pipe from the service');
    stderr.pipe(createWriteStream(this.#log, { flags: 'a' }));
    await new Promise<void>((resolve, reject) => {
      createInterface({ input: stderr }).on('line', (line) => {
        if (line.includes('API service listening on')) resolve();
      });
      service.once('exit', (status) => reject(new Error(`podman's service ended (${status}): see ${this.#log}`)));
    });
  }

  /** Ends the service. Containers keep running, and new ones can start. */
  async stopService(): Promise<void> {
    await this.#machine.run(['/bin/sh', '-c', 'kill -TERM "$(cat /run/podman-service.pid)"']);
    await this.#machine.run(['/bin/sh', '-c',
      'while kill -0 "$(cat /run/podman-service.pid)" 2>/dev/null; do sleep 0.05; done']);
  }

  /** Runs the podman command line with docker's arguments and returns the trimmed output. */
  async docker(...args: string[]): Promise<string> {
    const result = await this.tryDocker(...args);
    if (result.status !== 0) throw new Error(`podman ${args.join(' ')}: ${result.stderr}${result.stdout}`);
    return result.stdout.trim();
  }

  /** Like docker(), but returns a failure as a result. */
  tryDocker(...args: string[]): Promise<Result> {
    return this.#machine.tryRun(this.#command(...args));
  }

  /**
   * `podman run` with these options before the image, and a command after it.
   * @returns its output
   */
  run(options: readonly string[], command: readonly string[]): Promise<Result> {
    return this.tryDocker('run', `--cgroup-parent=/${this.#lab.cgroup}`, ...options, BUSYBOX, ...command);
  }

  /** Starts a container that does nothing, for `exec`. */
  async startIdle(name: string, env: ContainerSpec['env'], ...options: string[]): Promise<Container> {
    const variables = Object.entries(env ?? {}).map(([key, value]) => `--env=${key}=${value}`);
    const { status, stdout, stderr } = await this.run(['--detach', `--name=${name}`, ...variables, ...options], IDLE);
    if (status !== 0) throw new Error(`podman run ${name}: ${stderr}`);
    return new Container(stdout.trim(), name, this, this.#machine);
  }

  /** Calls the Docker-compatible API, as DockerEngine's `api` does. */
  api(method: string, path: string, body?: unknown): Promise<Buffer> {
    return callApi(this.socket, method, path, body);
  }

  /** Podman writes only below the lab's directory. The storage driver vfs works on every filesystem. */
  #command(...args: string[]): string[] {
    const at = (name: string): string => join(this.#lab.path, 'podman', name);
    return ['/usr/bin/env', '-i', `PATH=${process.env['PATH'] ?? ''}`, `HOME=${at('')}`, PODMAN,
      `--root=${at('root')}`, `--runroot=${at('run')}`, `--tmpdir=${at('tmp')}`,
      `--network-config-dir=${at('networks')}`, '--network-backend=netavark', '--storage-driver=vfs',
      '--cgroup-manager=cgroupfs', '--events-backend=file', ...args];
  }
}
