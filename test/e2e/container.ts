// A container on the lab's Docker daemon.
import { BUSYBOX, type DockerEngine } from './docker-engine.ts';
import type { Machine, Result } from './machine.ts';

export interface ContainerSpec {
  readonly name?: string;
  readonly image?: string;
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Its command; by default the image's entrypoint. */
  readonly command?: readonly string[];
  /** Network or mode, as for `docker run --network`; by default the default bridge. */
  readonly network?: string;
  /** Mounts the host's directories read-only, so that it can run the host's programs (the AWS CLI). */
  readonly hostPrograms?: boolean;
  /** Restarts with the daemon. */
  readonly restartAlways?: boolean;
}

/** A finished container: its output, and when it ran (milliseconds since 1970). */
export interface Run extends Result {
  readonly started: number;
  readonly finished: number;
}

/** What controls a container: Docker's API, and a command line that accepts docker's arguments. */
export type Engine = Pick<DockerEngine, 'api' | 'docker' | 'tryDocker'>;

interface Inspect {
  readonly State: { readonly StartedAt: string; readonly FinishedAt: string; readonly ExitCode: number };
  readonly NetworkSettings: {
    readonly SandboxKey: string;
    readonly Networks: Readonly<Record<string, { readonly IPAddress: string; readonly GlobalIPv6Address: string }>>;
  };
}

/** The command of a container that does nothing and exits on SIGTERM. */
export const IDLE = ['/bin/sh', '-c', 'trap exit TERM; sleep 3600 & wait'];

const HOST_DIRECTORIES = ['/usr', '/lib', '/lib64', '/etc/ssl'];

let unnamed = 0;

export class Container {
  readonly id: string;
  readonly name: string;
  readonly #engine: Engine;
  readonly #machine: Machine;

  /** An existing container. */
  constructor(id: string, name: string, engine: Engine, machine: Machine) {
    this.id = id;
    this.name = name;
    this.#engine = engine;
    this.#machine = machine;
  }

  static async create(engine: Engine, machine: Machine, spec: ContainerSpec): Promise<Container> {
    const name = spec.name ?? `unnamed-${(unnamed += 1)}`;
    const answer = await engine.api('POST', `/containers/create?name=${name}`, {
      Image: spec.image ?? BUSYBOX,
      Env: Object.entries(spec.env ?? {}).map(([key, value]) => `${key}=${value}`),
      ...(spec.command === undefined ? {} : { Cmd: spec.command }),
      HostConfig: {
        NetworkMode: spec.network ?? 'default',
        Binds: spec.hostPrograms === true ? HOST_DIRECTORIES.map((path) => `${path}:${path}:ro`) : [],
        RestartPolicy: { Name: spec.restartAlways === true ? 'always' : 'no' },
      },
    });
    const { Id } = JSON.parse(answer.toString()) as { Id: string };
    return new Container(Id, name, engine, machine);
  }

  /** Twelve digits, as in `docker ps` and at the end of the default session name. */
  get shortId(): string {
    return this.id.slice(0, 12);
  }

  async start(): Promise<this> {
    await this.#engine.api('POST', `/containers/${this.id}/start`);
    return this;
  }

  /** Starts it, waits until it exits, and removes it. */
  async run(): Promise<Run> {
    await this.start();
    await this.#engine.api('POST', `/containers/${this.id}/wait`);
    const [output, { State }] = await Promise.all([this.#output(), this.#inspect()]);
    await this.remove();
    return {
      ...output,
      status: State.ExitCode,
      started: Date.parse(State.StartedAt),
      finished: Date.parse(State.FinishedAt),
    };
  }

  /** Runs a command in it and returns the trimmed output; a status other than 0 is an error. */
  exec(...command: string[]): Promise<string> {
    return this.#engine.docker('exec', this.id, ...command);
  }

  /** Like exec, but returns a failure as a result. */
  tryExec(...command: string[]): Promise<Result> {
    return this.#engine.tryDocker('exec', this.id, ...command);
  }

  /** Its IPv4 address in a network, by default in its only network. */
  async address(network?: string): Promise<string> {
    const { Networks } = (await this.#inspect()).NetworkSettings;
    const address = (network === undefined ? Object.values(Networks)[0] : Networks[network])?.IPAddress;
    if (address === undefined || address === '') throw new Error(`${this.name} has no such address`);
    return address;
  }

  /** The path of its network namespace, for `nsenter --net=` on the outer machine. */
  async networkNamespace(): Promise<string> {
    return this.#machine.path((await this.#inspect()).NetworkSettings.SandboxKey);
  }

  /** Kills and removes it. */
  async remove(): Promise<void> {
    await this.#engine.api('DELETE', `/containers/${this.id}?force=true`);
  }

  async #inspect(): Promise<Inspect> {
    return JSON.parse((await this.#engine.api('GET', `/containers/${this.id}/json`)).toString()) as Inspect;
  }

  /**
   * The log. It consists of frames: one byte with the stream's number, three zero bytes, four bytes with the length, and
   * the content.
   */
  async #output(): Promise<{ stdout: string; stderr: string }> {
    const frames = await this.#engine.api('GET', `/containers/${this.id}/logs?stdout=1&stderr=1`);
    const streams: Record<'stdout' | 'stderr', Buffer[]> = { stdout: [], stderr: [] };
    for (let at = 0; at + 8 <= frames.length;) {
      const end = at + 8 + frames.readUInt32BE(at + 4);
      streams[frames[at] === 2 ? 'stderr' : 'stdout'].push(frames.subarray(at + 8, end));
      at = end;
    }
    const { stdout, stderr } = streams;
    return { stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() };
  }
}
