// A host for the firewall's tests: as in ../lab.ts, but without moto, with IPv6, with counters on the cable
// to the metadata service, with Docker started when the test says so, and with iptables of one backend.
import { mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join, resolve as resolvePath } from 'node:path';
import type { Container } from '../container.ts';
import { BUSYBOX, DockerEngine } from '../docker-engine.ts';
import { LabDirectory } from '../leftovers.ts';
import { Machine, type Result, execute } from '../machine.ts';
import { PROXY_PORT } from '../ports.ts';
import { Proxy } from '../proxy.ts';
import { SideProgram } from '../side-program.ts';
import type { ListenerCalls } from './listener.ts';
import { type Answer, OTHERS, type ProbeCalls } from './probe.ts';

export type Exporter = 'nft' | 'legacy';

export const IMDS4 = '169.254.169.254';
export const IMDS6 = 'fd00:ec2::254';
/** The host's end of the cable to the metadata service. */
export const HOST4 = '169.254.169.1';
export const HOST6 = 'fd00:ec2::1';

const SETUP = resolvePath('iptables/setup');
const FAMILIES = ['iptables', 'ip6tables'] as const;
const OWN_PATH = process.env['PATH'] ?? '';

/** A container's place on the host, and the metadata service's address that it asks. */
export interface Seat {
  readonly name: string;
  readonly network: string;
  readonly imds: string;
  /** The host's address on the cable, in the same family. */
  readonly host: string;
}

export const SEATS: readonly Seat[] = [
  { name: 'docker0', network: 'default', imds: IMDS4, host: HOST4 },
  { name: 'a user-defined bridge', network: 'team', imds: IMDS4, host: HOST4 },
  { name: 'docker_gwbridge', network: 'mesh', imds: IMDS4, host: HOST4 },
  { name: 'IPv6', network: 'six', imds: IMDS6, host: HOST6 },
];

/** What came of the packets that all guests sent. */
export interface Outcome {
  /** By the name of the seat. */
  readonly answers: Readonly<Record<string, Answer>>;
  /** Packets that reached the metadata service: pings, UDP, and openings of TCP connections. */
  readonly leaked: number;
  /** Packets that our rules dropped on their way there. */
  readonly dropped: number;
}

interface Guest {
  readonly seat: Seat;
  readonly container: Container;
  readonly probe: SideProgram<ProbeCalls>;
}

export class FirewallHost {
  readonly machine: Machine;
  readonly docker: DockerEngine;
  /** A probe on the metadata service's machine: outside of the host. */
  readonly outside: SideProgram<ProbeCalls>;
  readonly #metadata: Machine;
  readonly #directory: LabDirectory;
  readonly #logs: string;
  readonly #listener: SideProgram<ListenerCalls>;
  #proxy: Proxy | undefined;
  #guests: Guest[] = [];

  private constructor(
    machine: Machine, docker: DockerEngine, outside: SideProgram<ProbeCalls>, metadata: Machine,
    directory: LabDirectory, logs: string, listener: SideProgram<ListenerCalls>,
  ) {
    this.machine = machine;
    this.docker = docker;
    this.outside = outside;
    this.#metadata = metadata;
    this.#directory = directory;
    this.#logs = logs;
    this.#listener = listener;
  }

  /** Builds the host, without Docker and without rules. */
  static async create(backend: Exporter): Promise<FirewallHost> {
    const logs = join('build', 'e2e-firewall', backend);
    rmSync(logs, { recursive: true, force: true });
    mkdirSync(logs, { recursive: true });
    const directory = new LabDirectory();
    process.once('exit', () => directory.remove());
    useBackend(backend, join(directory.path, 'bin'));
    const [machine, metadata] = await Promise.all([
      Machine.create('ec2host', directory), Machine.create('metadata', directory),
    ]);
    await machine.connect(metadata, { name: 'metadata', address: `${HOST4}/24` },
      { name: 'ec2host', address: `${IMDS4}/24` });
    await metadata.run(['/bin/sh', '-ec', `
      ip address add ${IMDS6}/64 dev ec2host nodad
      ip route add default via ${HOST4}
      ip route add default via ${HOST6}
      count() {
        "$1" --wait --table raw --append PREROUTING --in-interface ec2host --destination "$2" $3
      }
      for what in '--protocol tcp --syn' '--protocol udp' '--protocol icmp'; do
        count iptables ${IMDS4} "$what"
      done
      for what in '--protocol tcp --syn' '--protocol udp' '--protocol icmpv6 --icmpv6-type echo-request'; do
        count ip6tables ${IMDS6} "$what"
      done
    `]);
    // The kernel's own check of source addresses is off, so that only the rules' can hold anything up.
    await machine.run(['/bin/sh', '-ec', `
      ip address add ${HOST6}/64 dev metadata nodad
      echo 1 >/proc/sys/net/ipv4/ip_forward
      echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
      echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter
      echo 0 >/proc/sys/net/ipv4/conf/default/rp_filter
    `]);
    const docker = new DockerEngine(machine, directory, join(logs, 'dockerd.log'));
    const [listener, outside] = [
      await SideProgram.start<ListenerCalls>('../firewall/listener', directory, metadata),
      await SideProgram.start<ProbeCalls>('../firewall/probe', directory, metadata),
    ];
    return new FirewallHost(machine, docker, outside, metadata, directory, logs, listener);
  }

  /** Starts Docker for the first time, and makes the networks of all seats. */
  async startDocker(): Promise<void> {
    await this.docker.start();
    await this.docker.makeImage(BUSYBOX);
    await this.docker.docker('network', 'create', 'team');
    await this.docker.docker('network', 'create', '--ipv6', '--subnet', 'fd00:d0c::/64', 'six');
    await this.docker.docker('swarm', 'init', '--advertise-addr', '127.0.0.1');
    await this.docker.docker('network', 'create', '--driver', 'overlay', '--attachable', 'mesh');
  }

  /** Takes a container to every seat, in place of those that sit there. */
  async seatGuests(): Promise<void> {
    await this.unseatGuests();
    // A Swarm that has just come back needs a moment to know its networks.
    await until(async () => (await this.docker.tryDocker('network', 'inspect', 'mesh')).status === 0);
    this.#guests = await Promise.all(SEATS.map(async (seat, n) => {
      const { network: name } = seat;
      const container = await this.docker.startIdle(`guest-${n}`, { IAM_ROLE: 'app' }, { network: name });
      const network = await container.networkNamespace();
      return { seat, container, probe: await this.#probe(network) };
    }));
  }

  async unseatGuests(): Promise<void> {
    await Promise.all(this.#guests.map(({ container, probe }) => {
      probe.end();
      return container.remove();
    }));
    this.#guests = [];
  }

  /** The container at a seat, and a probe in its network. */
  guest(network: string): Guest {
    const guest = this.#guests.find(({ seat }) => seat.network === network);
    if (guest === undefined) throw new Error(`nobody sits at ${network}`);
    return guest;
  }

  /** Starts the real proxy; with a metadata tree and credentials of its own it asks nobody else. */
  async startProxy(): Promise<Proxy> {
    this.#proxy = await Proxy.start(this.machine, this.docker.socket, join(this.#logs, 'proxy.log'), {
      HOST: '::', MOCK_API: 'true', MOCK_CREDENTIALS: 'true', AWS_REGION: 'us-east-1',
    });
    return this.#proxy;
  }

  async stopProxy(): Promise<void> {
    await this.#proxy?.stop();
    this.#proxy = undefined;
  }

  /** Runs iptables/setup; a status other than 0 is an error. */
  setup(...args: string[]): Promise<string> {
    return this.machine.run([SETUP, ...args]);
  }

  /** The same, but a failure is a result. */
  trySetup(...args: string[]): Promise<Result> {
    return this.#tryInside(SETUP, ...args);
  }

  /** Runs a command of both families of iptables. */
  async iptables(...args: string[]): Promise<void> {
    for (const program of FAMILIES) await this.machine.run([program, '--wait', ...args]);
  }

  /**
   * The rules of both families, without their counters and without what does nothing: comments, and tables
   * that have neither rules nor chains of somebody's.
   */
  async rules(): Promise<string[]> {
    const kept: string[] = [];
    for (const program of FAMILIES) {
      const saved = await this.machine.run([`${program}-save`]);
      let table = '';
      for (const line of saved.split('\n')) {
        if (line.startsWith('*')) table = line.slice(1);
        const says = /^[:-]/.test(line) && !/^:[A-Z]+ ACCEPT /.test(line);
        if (says) kept.push(`${program} ${table} ${line.replace(/ \[\d+:\d+\]$/, '')}`);
      }
    }
    return kept.sort((a, b) => order(a) - order(b));
  }

  /**
   * Has every guest ask for its role at its metadata address, and send it other packets; resolves when each
   * packet is accounted for: answered, dropped by our rules, or arrived at the metadata service.
   */
  async probeAll(): Promise<Outcome> {
    const before = { dropped: await this.#dropped(), leaked: await this.#leaked() };
    const pending = new Set(this.#guests);
    const answers: Record<string, Answer> = {};
    await Promise.all(this.#guests.map(async (guest) => {
      await guest.probe.call('ask', guest.seat.imds, 80);
      await guest.probe.call('sendOthers', guest.seat.imds);
      void guest.probe.call('answer').then((answer) => {
        answers[guest.seat.name] = answer;
        pending.delete(guest);
      });
    }));
    let [dropped, leaked] = [0, 0];
    // A request without an answer is one packet; what was answered was a connection, of some more.
    await until(async () => {
      dropped = (await this.#dropped()) - before.dropped;
      leaked = (await this.#leaked()) - before.leaked;
      return dropped + leaked >= this.#guests.length * OTHERS + pending.size;
    });
    await Promise.all(this.#guests.map(({ probe }) => probe.call('giveUp')));
    await until(() => Promise.resolve(pending.size === 0));
    return { answers, leaked, dropped };
  }

  /** As `Outcome.leaked`. */
  async leakedDuring(action: () => Promise<unknown>): Promise<number> {
    const before = await this.#leaked();
    await action();
    return (await this.#leaked()) - before;
  }

  /** What the host itself is told by the metadata service, as some user: the body, or curl's status. */
  async askAsHost(user: number, url: string): Promise<string> {
    const { status, stdout } = await this.#tryInside('setpriv', '--reuid', String(user), '--clear-groups',
      'curl', '--silent', '--noproxy', '*', '--max-time', '1', '--fail', url);
    return status === 0 ? stdout : `curl ${status}`;
  }

  /** Packets that the rules of a chain have matched, in both families. */
  async matched(table: string, chain: string, target: string): Promise<number> {
    let sum = 0;
    for (const program of FAMILIES) {
      sum += packets(await this.machine.run([program, '--wait', '--table', table, '--list', chain,
        '--verbose', '--exact', '--numeric']).catch(() => ''), target);
    }
    return sum;
  }

  /** Waits until the rules of a chain have matched more packets than `before`. */
  matchedMore(table: string, chain: string, target: string, before: number): Promise<void> {
    return until(async () => (await this.matched(table, chain, target)) > before);
  }

  /** The URL of the proxy on the host's loopback. */
  get proxyOnLoopback(): string {
    return `http://127.0.0.1:${PROXY_PORT}/latest/meta-data/iam/security-credentials/`;
  }

  async remove(): Promise<void> {
    await this.stopProxy();
    await Promise.all([this.machine.end(), this.#metadata.end()]);
    for (const { probe } of this.#guests) probe.end();
    this.outside.end();
    this.#listener.end();
    this.#directory.remove();
    process.env['PATH'] = OWN_PATH;
  }

  #probe(network: string): Promise<SideProgram<ProbeCalls>> {
    return SideProgram.start<ProbeCalls>('../firewall/probe', this.#directory, this.machine, network);
  }

  #tryInside(...command: string[]): Promise<Result> {
    const inside = [`--target=${this.machine.pid}`, '--net', '--mount', '--pid', '--'];
    return execute('nsenter', [...inside, ...command]);
  }

  async #dropped(): Promise<number> {
    return (await this.matched('mangle', 'METADATAPROXY-FORWARD', 'DROP')) +
      (await this.matched('filter', 'METADATAPROXY-FORWARD', 'DROP'));
  }

  async #leaked(): Promise<number> {
    let sum = 0;
    for (const program of FAMILIES) {
      sum += packets(await this.#metadata.run([program, '--wait', '--table', 'raw', '--list', 'PREROUTING',
        '--verbose', '--exact', '--numeric']), '');
    }
    return sum;
  }
}

/** Why a backend cannot be used on this machine; undefined if it can. */
export async function whyNot(backend: Exporter): Promise<string | undefined> {
  for (const program of FAMILIES) {
    const command = `/usr/sbin/${program}-${backend}`;
    // In a namespace of its own, because even a look makes the tables.
    const { status, stderr } = await execute('unshare', ['--net', command, '--table', 'nat', '--list-rules']);
    if (status !== 0) return `${command} does not work here: ${stderr.trim()}`;
  }
  return undefined;
}

/** Asks again and again, until it is so. The test's own limit ends it otherwise. */
export async function until(isSo: () => Promise<boolean>): Promise<void> {
  const started = performance.now();
  while (!(await isSo())) {
    if (performance.now() - started > 20_000) throw new Error('it does not come about');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Makes `iptables` on PATH that of a backend: Docker finds it there, and so does iptables/setup. */
function useBackend(backend: Exporter, directory: string): void {
  mkdirSync(directory);
  for (const program of FAMILIES) {
    for (const part of ['', '-save', '-restore']) {
      symlinkSync(`/usr/sbin/${program}-${backend}${part}`, join(directory, `${program}${part}`));
    }
  }
  process.env['PATH'] = `${directory}:${OWN_PATH}`;
}

/** Sums up the packets in a listing with counters, of the rules with a target (of all, if that is empty). */
function packets(listing: string, target: string): number {
  const rules = listing.split('\n').slice(2).map((line) => line.trim().split(/\s+/));
  const counted = rules.filter(([, , name]) => target === '' || name === target);
  return counted.reduce((sum, [count]) => sum + Number(count), 0);
}

/** Tables come out in different orders; within one the order of the rules matters. */
function order(line: string): number {
  const [program = '', table = ''] = line.split(' ');
  return (program === 'iptables' ? 0 : 10) + ['raw', 'mangle', 'nat', 'filter'].indexOf(table);
}
