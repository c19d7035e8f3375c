// A host for the firewall's tests: a machine with IPv6, a cable to the metadata service's machine, a Docker Engine that
// starts when the test says so, containers on each kind of network, and the real proxy.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, resolve as resolvePath } from 'node:path';
import type { Container } from '../container.ts';
import { BUSYBOX, DockerEngine } from '../docker-engine.ts';
import { HOST_ROLE } from '../host-identity.ts';
import { LabDirectory } from '../leftovers.ts';
import { Machine, type Result } from '../machine.ts';
import { PROXY_PORT } from '../ports.ts';
import { Proxy } from '../proxy.ts';
import { SideProgram } from '../side-program.ts';
import {
  CUSTOM_BRIDGE, type ClientNetwork, HOST_CLIENTS, IMDS4, IMDS6, NETWORKS, PROXY_USER, ROLE_NAMES_PATH, SETUP,
  UNPRIVILEGED_USER,
} from './addresses.ts';
import { type Backend, type IptablesVariant, searchPath } from './backends.ts';
import type { ListenerCalls } from './listener.ts';
import { buildMachines } from './machines.ts';
import { ARRIVALS, DEPARTURES, PacketCounters, SENTINEL_PORT } from './packet-counters.ts';
import { type Answer, NOTHING, OTHERS, type ProbeCalls } from './probe.ts';
import { listRules } from './rule-listing.ts';
import { until } from './until.ts';

/** The answer to a request that a rule dropped or refused. */
export const STOPPED: Answer = 'stopped';
const REFUSALS: readonly Answer[] = [NOTHING, 'EHOSTUNREACH', 'EACCES', 'ENETUNREACH'];

const FAMILIES = ['iptables', 'ip6tables'] as const;
const OWN_PATH = process.env['PATH'] ?? '';

/** What became of the packets that all clients sent. */
export interface Outcome {
  /** By the client's name. */
  readonly answers: Readonly<Record<string, Answer>>;
  /** Packets that reached the metadata service: pings, UDP, and openings of TCP connections. */
  readonly leaked: number;
}

export interface Client {
  readonly name: string;
  readonly imds: string;
  readonly probe: SideProgram<ProbeCalls>;
}

interface ContainerClient extends Client {
  readonly network: string;
  readonly container: Container;
}

export class FirewallHost {
  readonly machine: Machine;
  readonly docker: DockerEngine;
  readonly variant: IptablesVariant;
  /** The backend that `setup` uses. */
  backend: Backend;
  readonly sent: PacketCounters;
  readonly arrived: PacketCounters;
  /** A probe on the metadata service's machine: outside of the host. */
  readonly outside: SideProgram<ProbeCalls>;
  readonly #metadata: Machine;
  readonly #directory: LabDirectory;
  readonly #logs: string;
  readonly #listener: SideProgram<ListenerCalls>;
  readonly #dockerRules = new Map<string, string>();
  #proxy: Proxy | undefined;
  #clients: ContainerClient[] = [];
  #hostClients: Client[] = [];

  private constructor(
    [machine, metadata]: readonly [Machine, Machine], variant: IptablesVariant, backend: Backend,
    directory: LabDirectory, logs: string, listener: SideProgram<ListenerCalls>, outside: SideProgram<ProbeCalls>,
  ) {
    this.machine = machine;
    this.variant = variant;
    this.backend = backend;
    this.docker = new DockerEngine(machine, directory, join(logs, 'dockerd.log'));
    this.sent = new PacketCounters(machine, DEPARTURES);
    this.arrived = new PacketCounters(metadata, ARRIVALS);
    this.outside = outside;
    this.#metadata = metadata;
    this.#directory = directory;
    this.#logs = logs;
    this.#listener = listener;
  }

  /** Builds the host, without Docker and without rules. */
  static async create(variant: IptablesVariant, backend: Backend): Promise<FirewallHost> {
    const logs = join('build', 'e2e-firewall', variant);
    rmSync(logs, { recursive: true, force: true });
    mkdirSync(logs, { recursive: true });
    const directory = new LabDirectory();
    process.once('exit', () => directory.remove());
    // dockerd finds iptables there, and so does iptables/setup.
    process.env['PATH'] = searchPath(variant, join(directory.path, 'bin'));
    const [machine, metadata] = await buildMachines(directory);
    const listener = await SideProgram.start<ListenerCalls>('../firewall/listener', directory, metadata);
    for (const port of [80, 8080, SENTINEL_PORT]) await listener.call('listen', port, HOST_ROLE);
    const outside = await SideProgram.start<ProbeCalls>('../firewall/probe', directory, metadata);
    return new FirewallHost([machine, metadata], variant, backend, directory, logs, listener, outside);
  }

  /** Starts Docker for the first time, and makes all networks. */
  async startDocker(): Promise<void> {
    await this.restartDocker();
    await this.docker.makeImage(BUSYBOX);
    await this.docker.docker('network', 'create', 'team');
    await this.docker.docker('network', 'create', '--opt', `com.docker.network.bridge.name=${CUSTOM_BRIDGE}`, 'custom');
    await this.docker.docker('network', 'create', '--ipv6', '--subnet', 'fd00:d0c::/64', 'six');
    await this.docker.docker('swarm', 'init', '--advertise-addr', '127.0.0.1');
    await this.docker.docker('network', 'create', '--driver', 'overlay', '--attachable', 'mesh');
    for (const program of this.variant === 'none' ? [] : FAMILIES) {
      this.#dockerRules.set(program, await this.shell(`${program}-save | grep -v METADATAPROXY`));
    }
  }

  /** Brings back the rules that Docker made at its first start, and takes all others of iptables away. */
  async restoreDockerRules(): Promise<void> {
    for (const [program, saved] of this.#dockerRules) {
      await this.shell(`printf '%s' '${saved}' | ${program}-restore`);
    }
  }

  /** Stops Docker if it runs, and starts it. Its containers end. */
  async restartDocker(): Promise<void> {
    await this.stopClients();
    const mark = this.#proxy?.log.length;
    await this.docker.stop();
    await this.docker.start({ iptables: this.variant !== 'none' });
    await this.#proxy?.knowsContainers(mark);
  }

  /** Starts a container on each network, in place of those that run. */
  async startClients(): Promise<void> {
    await this.stopClients();
    // After a restart, Swarm needs a moment to know its networks.
    await until(async () => (await this.docker.tryDocker('network', 'inspect', 'mesh')).status === 0);
    this.#clients = await Promise.all(NETWORKS.map(async (place, n) => {
      const container = await this.docker.startIdle(`client-${n}`, { IAM_ROLE: 'app' }, { network: place.network });
      return { ...place, container, probe: await this.probe(await container.networkNamespace()) };
    }));
  }

  async stopClients(): Promise<void> {
    await Promise.all(this.#clients.map(({ container, probe }) => {
      probe.end();
      return container.remove();
    }));
    this.#clients = [];
  }

  /** Starts unprivileged processes on the host's network, which `probeAll` includes from then on. */
  async startHostClients(): Promise<void> {
    this.#hostClients = await Promise.all(HOST_CLIENTS.map(async ({ name, imds }) => {
      const probe = await this.probe();
      await probe.call('becomeUser', UNPRIVILEGED_USER);
      return { name, imds, probe };
    }));
  }

  stopHostClients(): void {
    for (const { probe } of this.#hostClients) probe.end();
    this.#hostClients = [];
  }

  /** The container on a network, and a probe in its network namespace. */
  client(network: ClientNetwork['network']): ContainerClient {
    const client = this.#clients.find((each) => each.network === network);
    if (client === undefined) throw new Error(`no container runs on ${network}`);
    return client;
  }

  /** Starts the real proxy; with mock metadata and mock credentials it needs no other service. */
  async startProxy(settings: Readonly<Record<string, string>> = {}): Promise<Proxy> {
    this.#proxy = await Proxy.start(this.machine, this.docker.socket, join(this.#logs, 'proxy.log'), {
      HOST: '::', MOCK_API: 'true', MOCK_CREDENTIALS: 'true', AWS_REGION: 'us-east-1', ...settings,
    });
    return this.#proxy;
  }

  async stopProxy(): Promise<void> {
    await this.#proxy?.stop();
    this.#proxy = undefined;
  }

  /** Runs iptables/setup with the backend's options; a status other than 0 is an error. */
  async setup(...args: string[]): Promise<string> {
    const { status, stdout, stderr } = await this.trySetup(...args);
    if (status !== 0) throw new Error(`setup ${args.join(' ')} (${status}): ${stderr}${stdout}`);
    return stdout;
  }

  /** The same, but a failure is a result. */
  trySetup(...args: string[]): Promise<Result> {
    return this.machine.tryRun(this.#command(args));
  }

  /** Starts `setup watch`. */
  watch(...args: string[]): Promise<ChildProcess> {
    const program = ['/bin/sh', '-c', 'echo $$ >/run/watch.pid; exec "$@"', 'sh', ...this.#command(['watch', ...args])];
    return this.machine.spawnInside(['setsid', ...program], { stdio: 'ignore' });
  }

  /** Ends it with the programs that it listens to, as systemd ends a service's control group. */
  async endWatch(watcher: ChildProcess): Promise<void> {
    const ended = once(watcher, 'exit');
    await this.shell('kill -- "-$(cat /run/watch.pid)"');
    await ended;
  }

  /** What the proxy reads: "ok" or "failed", and the problems. */
  state(): Promise<string> {
    return readFile(this.machine.path('/run/metadataproxy-firewall/state'), 'utf8');
  }

  /** Runs a command of both families of iptables. */
  async iptables(...args: string[]): Promise<void> {
    for (const program of FAMILIES) await this.machine.run([program, '--wait', ...args]);
  }

  shell(script: string): Promise<string> {
    return this.machine.run(['/bin/sh', '-ec', script]);
  }

  /** Every rule that there is: see listRules. */
  rules(): Promise<string[]> {
    return listRules(this.machine, this.variant !== 'none');
  }

  /**
   * Every client requests its role at its metadata address, and sends other packets. Resolves when each packet has
   * been counted, the clients that `expected` names have that answer, and whatever leaked has arrived.
   */
  async probeAll(expected: Readonly<Record<string, Answer>> = {}): Promise<Outcome> {
    await Promise.all([this.sent.reset(), this.arrived.reset()]);
    const answers: Record<string, Answer> = {};
    const clients = [...this.#clients, ...this.#hostClients];
    await Promise.all(clients.map(async ({ name, imds, probe }) => {
      await probe.call('ask', imds, 80);
      await probe.call('sendOthers', imds, !this.#hostClients.some((client) => client.name === name));
      void probe.call('answer').then((answer) => {
        answers[name] = REFUSALS.includes(answer) ? STOPPED : answer;
      });
    }));
    // Packets of the host's own processes are sent, or refused, before the call returns.
    const packets = this.#clients.length * (OTHERS + 1);
    await until(async () => (await this.sent.read('sent')) >= packets);
    const awaited = clients.filter(({ name }) => (expected[name] ?? STOPPED) !== STOPPED);
    await until(() => awaited.every(({ name }) => answers[name] !== undefined), { orAfterMs: 5_000 });
    await this.passSentinel();
    const leaked = await this.arrived.read('leaked');
    await Promise.all(clients.map(({ probe }) => probe.call('giveUp')));
    await until(() => clients.every(({ name }) => answers[name] !== undefined));
    return { answers, leaked };
  }

  /** Packets that reach the metadata service during an action. */
  async leakedDuring(action: () => Promise<unknown>): Promise<number> {
    await this.arrived.reset();
    await action();
    await this.passSentinel();
    return this.arrived.read('leaked');
  }

  /** A request that no rule stops: when it is answered, packets that left before it have arrived. */
  async passSentinel(): Promise<void> {
    const answers = await Promise.all([IMDS4, `[${IMDS6}]`].map((address) =>
      this.askAsHost(PROXY_USER, `http://${address}:${SENTINEL_PORT}/`)));
    if (answers.some((answer) => answer !== HOST_ROLE)) throw new Error(`the proxy's user got ${answers.join(' and ')}`);
  }

  /** What a process of the host gets as some user: the body, or curl's status. */
  async askAsHost(user: number, url: string): Promise<string> {
    const { status, stdout } = await this.machine.tryRun(['setpriv', '--reuid', String(user), '--clear-groups',
      'curl', '--silent', '--noproxy', '*', '--max-time', '1', '--fail', url]);
    return status === 0 ? stdout : `curl ${status}`;
  }

  /** The URL of the proxy on the host's loopback. */
  get proxyOnLoopback(): string {
    return `http://127.0.0.1:${PROXY_PORT}${ROLE_NAMES_PATH}`;
  }

  async remove(): Promise<void> {
    await this.stopProxy();
    await Promise.all([this.machine.end(), this.#metadata.end()]);
    for (const { probe } of [...this.#clients, ...this.#hostClients]) probe.end();
    this.outside.end();
    this.#listener.end();
    this.#directory.remove();
    process.env['PATH'] = OWN_PATH;
  }

  /** Starts a probe in a network namespace, by default the host's. */
  probe(network?: string): Promise<SideProgram<ProbeCalls>> {
    return SideProgram.start<ProbeCalls>('../firewall/probe', this.#directory, this.machine, network);
  }

  /** Starts a program on the host that listens where it is told to. */
  listener(): Promise<SideProgram<ListenerCalls>> {
    return SideProgram.start<ListenerCalls>('../firewall/listener', this.#directory, this.machine);
  }

  #command(args: readonly string[]): string[] {
    const environment = Object.entries(this.backend.environment).map(([name, value]) => `${name}=${value}`);
    return ['env', ...environment, resolvePath(SETUP), ...this.backend.options, ...args];
  }
}
