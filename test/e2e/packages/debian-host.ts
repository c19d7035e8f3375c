// An EC2 host that is a whole Debian: its own files, its own systemd, and Docker if it is installed. Around it are
// the metadata service and STS, as in ../lab.ts.
import type { ChildProcess } from 'node:child_process';
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { basename, join, resolve as resolvePath } from 'node:path';
import { createInterface } from 'node:readline';
import { LabDirectory } from '../leftovers.ts';
import { Machine, type Result } from '../machine.ts';
import { startMoto } from '../moto.ts';
import type { ImdsCalls } from '../programs/fake-imds.ts';
import type { StsFrontCalls } from '../programs/sts-front.ts';
import { type Calls, SideProgram } from '../side-program.ts';

const ROOT = resolvePath('build/e2e-root');
const BOOT = resolvePath('test/e2e/packages/boot');
const IMDS = '169.254.169.254';
const HOST = '169.254.169.1';

/** Where its LAB directory is inside. */
const SHARED = '/srv/lab';

export class DebianHost {
  readonly #machine: Machine;
  readonly #metadata: Machine;
  readonly #directory: LabDirectory;
  readonly #sides: { end(): void }[];
  #init: { readonly pid: number; readonly process: ChildProcess } | undefined;

  private constructor(machine: Machine, metadata: Machine, directory: LabDirectory, sides: { end(): void }[]) {
    this.#machine = machine;
    this.#metadata = metadata;
    this.#directory = directory;
    this.#sides = sides;
  }

  /** Builds what is around the host; boot it then. */
  static async create(name: string): Promise<DebianHost> {
    const logs = join('build', 'e2e-packages-logs', name);
    rmSync(logs, { recursive: true, force: true });
    mkdirSync(logs, { recursive: true });
    const directory = new LabDirectory();
    process.once('exit', () => directory.remove());
    const [machine, metadata] = await Promise.all([
      Machine.create('ec2host', directory), Machine.create('metadata', directory),
    ]);
    await machine.connect(metadata, { name: 'metadata', address: `${HOST}/24` },
      { name: 'ec2host', address: `${IMDS}/24` });
    await metadata.run(['ip', 'route', 'add', 'default', 'via', HOST]);
    await machine.run(['/bin/sh', '-c', 'echo 1 >/proc/sys/net/ipv4/ip_forward']);
    const [imds, sts] = await Promise.all([
      SideProgram.start<ImdsCalls>('fake-imds', directory, metadata),
      SideProgram.start<StsFrontCalls>('sts-front', directory, machine),
      startMoto(machine, join(logs, 'moto.log')),
    ]);
    return new DebianHost(machine, metadata, directory, [imds, sts]);
  }

  /** Boots it; resolves when systemd has started all that is enabled. */
  async boot(): Promise<void> {
    const command = [BOOT, ROOT, this.#directory.path, this.#directory.cgroup];
    const booted = await this.#machine.spawnInside(command, { stdio: ['ignore', 'pipe', 'inherit'] });
    const { stdout } = booted;
    if (stdout === null) throw new Error('no pipe from the boot');
    const pid = await new Promise<number>((resolve, reject) => {
      createInterface({ input: stdout }).once('line', (line) => resolve(Number(line)));
      booted.once('exit', (status) => reject(new Error(`the boot ended: ${status}`)));
    });
    this.#init = { pid, process: booted };
    await this.until('[ -S /run/systemd/private ]');
    // It prints "running", or "degraded" with a status if a unit has failed; a test tells which are to run.
    await this.try('systemctl', 'is-system-running', '--wait');
  }

  /** Ends all its processes at once, as a power cut does; the kernel's rules go as well, as they would with it. */
  async powerOff(): Promise<void> {
    const { process: booted } = this.#booted();
    const ended = new Promise((resolve) => booted.once('exit', resolve));
    await this.#machine.run(['kill', '-KILL', String(this.#booted().pid)]);
    await ended;
    this.#init = undefined;
    await this.#machine.run(['/bin/sh', '-ec', `
      nft flush ruleset
      for program in iptables-legacy ip6tables-legacy; do
        for table in $(cat /proc/net/$(echo $program | sed 's/tables-legacy/_tables_names/')); do
          "$program" -w -t "$table" -F; "$program" -w -t "$table" -X
        done
      done
      for family in -4 -6; do
        ip "$family" rule flush
        ip "$family" rule add priority 32766 table main protocol kernel
      done
      ip rule add priority 32767 table default protocol kernel
      for interface in docker0 mdproxy0 $(cd /sys/class/net && echo br-*); do
        ip link delete "$interface" 2>/dev/null || true
      done
    `]);
  }

  /** Runs a command on it and returns what it printed; a status other than 0 is an error. */
  async run(...command: string[]): Promise<string> {
    const { status, stdout, stderr } = await this.try(...command);
    if (status !== 0) throw new Error(`${command.join(' ')} (${status}): ${stderr}${stdout}`);
    return stdout.trim();
  }

  /** The same, but a failure is a result. */
  try(...command: string[]): Promise<Result> {
    const inside = ['nsenter', `--target=${this.#booted().pid}`, '--mount', '--uts', '--ipc', '--pid', '--cgroup',
      '--root', '--wd', '--', 'env', '--ignore-environment', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL=C.UTF-8',
      'DEBIAN_FRONTEND=noninteractive', ...command];
    return this.#machine.tryRun(inside);
  }

  /** Runs a line of shell. */
  shell(line: string): Promise<string> {
    return this.run('/bin/sh', '-ec', line);
  }

  /** Resolves when a line of shell succeeds; one that does not within half a minute is an error. */
  until(line: string): Promise<string> {
    return this.run('timeout', '30', '/bin/sh', '-c', `until ${line}; do sleep 0.1; done`);
  }

  /** Resolves when the proxy is ready for containers. */
  ready(): Promise<string> {
    return this.until('curl --silent --fail http://127.0.0.1:18001/readyz >/dev/null');
  }

  /** Gives it a file of the outer machine's; @returns its path there */
  give(path: string): string {
    copyFileSync(path, join(this.#directory.path, basename(path)));
    return `${SHARED}/${basename(path)}`;
  }

  /** All rules of its network, as the outer machine's programs print them: nftables, iptables-legacy and routing. */
  networkRules(): Promise<string> {
    return this.#machine.run(['/bin/sh', '-ec', `
      nft list ruleset
      [ -z "$(cat /proc/net/ip_tables_names)" ] || iptables-legacy-save
      [ -z "$(cat /proc/net/ip6_tables_names)" ] || ip6tables-legacy-save
      ip rule; ip -6 rule; ip link
    `]);
  }

  /** A unit's property, as `systemctl show` has it. */
  property(unit: string, name: string): Promise<string> {
    return this.run('systemctl', 'show', '--value', '--property', name, unit);
  }

  /** What a unit has logged. */
  journal(unit: string): Promise<string> {
    return this.run('journalctl', '--unit', unit, '--output', 'cat', '--no-pager');
  }

  /** Imports an image of a static busybox under the name `busybox`. */
  async makeImage(): Promise<void> {
    await this.shell(`
      mkdir -p /tmp/image/bin && cp /bin/busybox /tmp/image/bin/
      for program in sh sleep wget timeout cat; do ln -sf busybox "/tmp/image/bin/$program"; done
      tar -C /tmp/image -c . | docker import - busybox
    `);
  }

  /** Starts a container that waits to be told; `--network host` and the like in `options`. */
  async startContainer(name: string, role: string, ...options: string[]): Promise<void> {
    await this.run('docker', 'run', '--detach', '--name', name, '--env', `IAM_ROLE=${role}`, ...options, 'busybox',
      '/bin/sh', '-c', 'trap exit TERM; sleep 3600 & wait');
  }

  /** What a container is answered by the metadata service. */
  ask(container: string, path: string): Promise<Result> {
    return this.try('docker', 'exec', container, 'timeout', '5', 'wget', '-q', '-O', '-', `http://${IMDS}${path}`);
  }

  /** Starts a program of the lab's in the network of a container, or as a process of the host. */
  async startProgram<M extends Calls<M>>(name: string, container?: string): Promise<SideProgram<M>> {
    const init = this.#machine.path(`/proc/${this.#booted().pid}`);
    let [network, within] = [this.#machine.network, ['nsenter', `--pid=${init}/ns/pid`, '--']];
    if (container !== undefined) {
      const pid = await this.run('docker', 'inspect', '--format', '{{.State.Pid}}', container);
      // As the host's own /proc numbers it.
      [network, within] = [`${init}/root/proc/${pid}/ns/net`, []];
    }
    const program = await SideProgram.start<M>(name, this.#directory, this.#machine, network, within);
    this.#sides.push(program);
    return program;
  }

  /** Gives the metadata service its IPv6 address, and a program of the lab's that answers there. */
  async addMetadataV6(program: string): Promise<void> {
    for (const [machine, name, address] of [[this.#machine, 'metadata', 'fd00:ec2::1'], [this.#metadata, 'ec2host', 'fd00:ec2::254']] as const) {
      await machine.run(['ip', 'address', 'add', `${address}/64`, 'dev', name, 'nodad']);
    }
    await this.#metadata.run(['ip', '-6', 'route', 'add', 'default', 'via', 'fd00:ec2::1']);
    await this.#machine.run(['/bin/sh', '-c', 'echo 1 >/proc/sys/net/ipv6/conf/all/forwarding']);
    this.#sides.push(await SideProgram.start(program, this.#directory, this.#metadata));
  }

  async remove(): Promise<void> {
    await Promise.all([this.#machine.end(), this.#metadata.end()]);
    for (const side of this.#sides) side.end();
    this.#directory.remove();
  }

  #booted(): { readonly pid: number; readonly process: ChildProcess } {
    if (this.#init === undefined) throw new Error('the host is not booted');
    return this.#init;
  }
}
