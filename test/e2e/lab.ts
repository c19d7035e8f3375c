// An EC2 host and its surroundings, made of namespaces on this machine:
//
//   containers
//       │ docker0, br-*, docker_gwbridge, podman*
//   ┌───┴─────┐ 169.254.169.1       169.254.169.254 ┌──────────┐
//   │ ec2host ├───────────── veth pair ─────────────┤ metadata │
//   │         ├─ eth0 ────── veth pair ─────── vpc ─┤          │
//   └─────────┘ 10.0.0.10                  10.0.0.1 └──────────┘
//   proxy, dockerd, moto               fake IMDS, neighbours
//
// The host's firewall rules redirect the containers' IMDS requests to the proxy. Without these rules the requests reach the
// fake IMDS, which answers with the host's credentials.
import { readFileSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { BUSYBOX, DockerEngine } from './docker-engine.ts';
import { LabDirectory } from './leftovers.ts';
import { Machine, type Result } from './machine.ts';
import { startMoto } from './moto.ts';
import { PodmanEngine } from './podman-engine.ts';
import { MOTO_PORT, PROXY_PORT } from './ports.ts';
import type { ImdsCalls } from './programs/fake-imds.ts';
import type { AssumedRole, StsFrontCalls } from './programs/sts-front.ts';
import { Proxy, STATIC_KEYS } from './proxy.ts';
import { type Calls, SideProgram } from './side-program.ts';

/** The logs of the run, which are kept. */
const LOGS = join('build', 'e2e');
const PROXY_LOG = join(LOGS, 'proxy.log');

export const IMDS_ADDRESS = '169.254.169.254';
export const IMDS_ADDRESS_V6 = 'fd00:ec2::254';
export const ECS_ADDRESS = '169.254.170.2';

/** The host's address on the link to IMDS: the source address of all its requests. */
const HOST_ADDRESS = '169.254.169.1';

/** The host's address on eth0, IMDS's local-ipv4. */
export const LOCAL_IPV4 = '10.0.0.10';

/** The interfaces of containers' packets. */
const CONTAINER_INTERFACES = ['docker0', 'br-+', 'docker_gwbridge', 'podman+'];

/** The account of moto's roles. */
export const ACCOUNT = '123456789012';

/**
 * moto's address for containers: docker0's, which every bridge can reach.
 */
export const STS_FOR_CONTAINERS = `http://172.17.0.1:${MOTO_PORT}`;

export class Lab {
  readonly host: Machine;
  readonly docker: DockerEngine;
  /** Not started, because most tests do not need it. */
  readonly podman: PodmanEngine;
  readonly imds: SideProgram<ImdsCalls>;
  readonly sts: SideProgram<StsFrontCalls>;
  readonly #metadata: Machine;
  readonly #directory: LabDirectory;
  #proxy: Proxy | undefined;

  private constructor(
    host: Machine, docker: DockerEngine, imds: SideProgram<ImdsCalls>, sts: SideProgram<StsFrontCalls>,
    metadata: Machine, directory: LabDirectory,
  ) {
    this.host = host;
    this.docker = docker;
    this.podman = new PodmanEngine(host, directory, join(LOGS, 'podman.log'));
    this.imds = imds;
    this.sts = sts;
    this.#metadata = metadata;
    this.#directory = directory;
  }

  /**
   * Builds the lab, with the containers' requests redirected, but without a proxy. It ends with this process.
   */
  static async create(): Promise<Lab> {
    await rm(LOGS, { recursive: true, force: true });
    await mkdir(LOGS, { recursive: true });
    const directory = new LabDirectory();
    process.once('exit', () => directory.remove());
    // When the test runner has ended, these tests end, too.
    const runner = process.ppid;
    setInterval(() => process.ppid === runner || process.exit(1), 1000).unref();
    for (const [signal, number] of [['SIGHUP', 1], ['SIGINT', 2], ['SIGTERM', 15]] as const) {
      process.once(signal, () => process.exit(128 + number));
    }

    const [host, metadata] = await Promise.all([
      Machine.create('ec2host', directory), Machine.create('metadata', directory),
    ]);
    await host.connect(metadata, { name: 'metadata', address: `${HOST_ADDRESS}/24` },
      { name: 'ec2host', address: `${IMDS_ADDRESS}/24` });
    await host.connect(metadata, { name: 'eth0', address: `${LOCAL_IPV4}/24` },
      { name: 'vpc', address: '10.0.0.1/24' });
    await metadata.run(['ip', 'route', 'add', 'default', 'via', HOST_ADDRESS]);
    await host.run(['/bin/sh', '-c', 'echo 1 >/proc/sys/net/ipv4/ip_forward']);

    const docker = new DockerEngine(host, directory, join(LOGS, 'dockerd.log'));
    const [imds, sts] = await Promise.all([
      SideProgram.start<ImdsCalls>('fake-imds', directory, metadata),
      SideProgram.start<StsFrontCalls>('sts-front', directory, host),
      startMoto(host, join(LOGS, 'moto.log')),
      docker.start().then(() => docker.makeImage(BUSYBOX)),
    ]);
    const lab = new Lab(host, docker, imds, sts, metadata, directory);
    await lab.redirect();
    return lab;
  }

  /** The running proxy. */
  get proxy(): Proxy {
    if (this.#proxy === undefined) throw new Error('no proxy runs in the lab');
    return this.#proxy;
  }

  /** Starts the proxy, instead of the running one, with these settings and the lab's. */
  async startProxy(settings: Readonly<Record<string, string>> = STATIC_KEYS): Promise<Proxy> {
    await this.#proxy?.stop();
    this.#proxy = await Proxy.start(this.host, this.docker.socket, PROXY_LOG, settings);
    return this.#proxy;
  }

  /** Runs a command on a neighbour of the host, 10.0.0.1. */
  tryAsNeighbour(command: string[]): Promise<Result> {
    return this.#metadata.tryRun(command);
  }

  /** The log of all proxies of this lab. */
  proxyLog(): string {
    return readFileSync(PROXY_LOG, 'utf8');
  }

  /** Redirects the containers' IMDS requests to the proxy. */
  redirect(): Promise<void> {
    return this.#redirection('--append');
  }

  /** Lets the containers reach the fake IMDS, like a host without the proxy's rules. */
  stopRedirecting(): Promise<void> {
    return this.#redirection('--delete');
  }

  /**
   * Gives IMDS's answers a hop limit of 1, as EC2 does: they reach the host and no container.
   */
  async limitHops(limited: boolean): Promise<void> {
    const action = limited ? '--append' : '--delete';
    await this.#metadata.run(['iptables', '--wait', '--table', 'mangle', action, 'OUTPUT',
      '--protocol', 'tcp', '--source-port', '80', '--jump', 'TTL', '--ttl-set', '1']);
  }

  /** Creates roles in moto's IAM, for iam:GetRole. */
  async makeRoles(...names: string[]): Promise<void> {
    for (const RoleName of names) {
      await this.sts.call('query', 'iam', {
        Action: 'CreateRole',
        Version: '2010-05-08',
        RoleName,
        AssumeRolePolicyDocument: '{"Version":"2012-10-17"}',
      });
    }
  }

  /** Starts one of the lab's programs in the network namespace of a container. */
  startProgram<M extends Calls<M>>(name: string, network: string): Promise<SideProgram<M>> {
    return SideProgram.start<M>(name, this.#directory, this.host, network);
  }

  /** The AssumeRole that issued an access key, as STS recorded it. */
  async assumedRole(accessKeyId: string | undefined): Promise<AssumedRole | undefined> {
    return (await this.sts.call('assumedRoles')).find((role) => role.accessKeyId === accessKeyId);
  }

  /** Ends everything in the lab and removes it. */
  async remove(): Promise<void> {
    await this.#proxy?.stop();
    await Promise.all([this.host.end(), this.#metadata.end()]);
    this.imds.end();
    this.sts.end();
    this.#directory.remove();
  }

  async #redirection(action: '--append' | '--delete'): Promise<void> {
    for (const destination of [IMDS_ADDRESS, ECS_ADDRESS]) {
      for (const from of CONTAINER_INTERFACES) {
        await this.host.run(['iptables', '--wait', '--table', 'nat', action, 'PREROUTING',
          '--in-interface', from, '--destination', destination,
          '--protocol', 'tcp', '--destination-port', '80', '--jump', 'REDIRECT', '--to-ports', String(PROXY_PORT)]);
      }
    }
  }
}
