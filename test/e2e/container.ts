// A container on the lab's Docker daemon.
import { BUSYBOX, type DockerEngine } from './docker-engine.ts';
import type { Machine, Result } from './machine.ts';

export interface ContainerSpec {
  readonly name?: string;
  readonly image?: string;
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** What it runs. Without it, the image's entrypoint. */
  readonly command?: readonly string[];
  /** Network or mode as `docker run --network` takes it; the default bridge unless given. */
  readonly network?: string;
  /** Lets it run the host's own programs (the AWS CLI) from the host's read-only directories. */
  readonly hostPrograms?: boolean;
  /** Comes back when the daemon does. */
  readonly restartAlways?: boolean;
}

/** A container's end: what it printed, and when it ran (milliseconds since 1970). */
export interface Run extends Result {
  readonly started: number;
  readonly finished: number;
}

/** What a container is driven by: Docker's API, and a command line with docker's words. */
export type Engine = Pick<DockerEngine, 'api' | 'docker' | 'tryDocker'>;

interface Inspect {
  readonly State: { readonly StartedAt: string; readonly FinishedAt: string; readonly ExitCode: number };
  readonly NetworkSettings: {
    readonly SandboxKey: string;
    readonly Networks: Readonly<Record<string, { readonly IPAddress: string; readonly GlobalIPv6Address: string }>>;
  };
}

/** The command of a container that does nothing, and ends when it is asked to. */
export const IDLE = ['/bin/sh', '-c', 'trap exit TERM; sleep 3600 & wait'];

const HOST_DIRECTORIES = ['/usr', '/lib', '/lib64', '/etc/ssl'];

let unnamed = 0;

export class Container {
  readonly id: string;
  readonly name: string;
  readonly #engine: Engine;
  readonly #machine: Machine;

  /** A container that is there already. */
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

  /** Twelve digits, as `docker ps` shows it and as the default role session name ends with. */
  get shortId(): string {
    return this.id.slice(0, 12);
  }

  async start(): Promise<this> {
    await this.#engine.api('POST', `/containers/${this.id}/start`);
    return this;
  }

  /** Starts it, waits for its end, and removes it. */
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

  /** Runs a command in it and returns what that printed, trimmed; a status other than 0 is an error. */
  exec(...command: string[]): Promise<string> {
    return this.#engine.docker('exec', this.id, ...command);
  }

  /** The same, but a failure is a result. */
  tryExec(...command: string[]): Promise<Result> {
    return this.#engine.tryDocker('exec', this.id, ...command);
  }

  /** Its IPv4 address in a network, by default in the only one that it is in. */
  async address(network?: string): Promise<string> {
    const { Networks } = (await this.#inspect()).NetworkSettings;
    const address = (network === undefined ? Object.values(Networks)[0] : Networks[network])?.IPAddress;
    if (address === undefined || address === '') throw new Error(`${this.name} has no such address`);
    return address;
  }

  /** Path of its network namespace, for `nsenter --net=` on the outer machine. */
  async networkNamespace(): Promise<string> {
    return this.#machine.path((await this.#inspect()).NetworkSettings.SandboxKey);
  }

  /** Stops it at once and takes it away. */
  async remove(): Promise<void> {
    await this.#engine.api('DELETE', `/containers/${this.id}?force=true`);
  }

  async #inspect(): Promise<Inspect> {
    return JSON.parse((await this.#engine.api('GET', `/containers/${this.id}/json`)).toString()) as Inspect;
  }

  /**
   * The log, which comes in frames: one byte stream number, three of nothing, four of length, and that many
   * bytes.
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
