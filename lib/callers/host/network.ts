import type { Clock } from '../../util/clock.ts';
import { DirectoryUnavailable, UnknownCaller, type Container } from '../../docker/container.ts';
import { isLoopback, normalAddress } from '../../util/ip-address.ts';
import { hostAddresses } from '../../util/host-addresses.ts';
import { ROLE_VARIABLE } from '../../roles/container-request.ts';
import type { RoleReference } from '../../roles/role-reference.ts';
import type { SocketProcess, HostProcesses } from './processes.ts';

/** What Node's socket tells of a connection. */
export interface Connection {
  readonly remotePort?: number | undefined;
  readonly localAddress?: string | undefined;
  readonly localPort?: number | undefined;
}

export interface HostNetworkOptions {
  processes: Pick<HostProcesses, 'processesOf' | 'cgroupOf'>;
  /** A container by its id, if the engine has it. */
  containerById: (id: string) => Promise<Container | undefined>;
  /** The number of its first process, if it runs. */
  firstProcessOf: (id: string) => Promise<number | undefined>;
  /** Who processes are that are in no container; without one they are nobody. */
  host: Container | undefined;
  clock: Clock;
  /** Told each time that it cannot be told who somebody is. */
  onError: (reason: string) => void;
  hostAddresses?: () => Iterable<string>;
}

/** Interfaces come and go with containers; until then an address of the host is nobody's. */
const ADDRESSES_TTL_MS = 1_000;

const FOREIGN_GROUPS =
  'a process is in a control group that has the name of a container, but is not that of its first process; or the ' +
  'proxy does not number processes as the engine does (--pid=host)';

/**
 * Who is behind a connection from an address of the host itself: the container on the host's network, or the process
 * of the host. Found out once for each connection; what could not be told is found out anew for the next request.
 */
export class HostNetwork {
  readonly #options: HostNetworkOptions;
  readonly #resolving = new WeakMap<Connection, Promise<Container>>();
  readonly #resolved = new WeakMap<Connection, Container>();
  /** The control groups of containers, as their first processes have shown them. */
  readonly #groups = new WeakMap<Container, ReadonlySet<string>>();
  #addresses: ReadonlySet<string> = new Set();
  #addressesUntil = -Infinity;

  constructor(options: HostNetworkOptions) {
    this.#options = options;
  }

  /**
   * Whether an address, in its normal form, is one of the host's own.
   *
   * @throws DirectoryUnavailable when the system does not tell
   */
  isHostAddress(address: string): boolean {
    if (isLoopback(address)) return true;
    const now = this.#options.clock.monotonic();
    if (now >= this.#addressesUntil) {
      this.#addresses = new Set((this.#options.hostAddresses ?? hostAddresses)());
      this.#addressesUntil = now + ADDRESSES_TTL_MS;
    }
    return this.#addresses.has(address);
  }

  /**
   * @throws UnknownCaller for whom nothing is meant, DirectoryUnavailable when it cannot be told
   */
  resolve(address: string, connection: Connection): Promise<Container> {
    let asked = this.#resolving.get(connection);
    if (!asked) {
      asked = this.#resolve(address, connection);
      this.#resolving.set(connection, asked);
      asked.then(
        (container) => this.#resolved.set(connection, container),
        (error: unknown) => {
          if (error instanceof UnknownCaller) return;
          this.#resolving.delete(connection);
          this.#options.onError((error as Error).message);
        },
      );
    }
    return asked;
  }

  /** Whom `resolve` has found. */
  peek(connection: Connection): Container | undefined {
    return this.#resolved.get(connection);
  }

  async #resolve(address: string, { remotePort, localAddress, localPort }: Connection): Promise<Container> {
    const local = normalAddress(localAddress ?? '');
    if (remotePort === undefined || local === undefined || localPort === undefined) {
      throw new DirectoryUnavailable('the connection has ended');
    }
    const processes = await this.#options.processes.processesOf({
      peer: { address, port: remotePort },
      local: { address: local, port: localPort },
    });
    const ids = new Set<string | undefined>();
    const groups: string[] = [];
    for (const { cgroup } of processes) {
      if (cgroup.kind === 'unclear') throw new DirectoryUnavailable(`the process cannot be placed: ${cgroup.why}`);
      ids.add(cgroup.kind === 'container' ? cgroup.id : undefined);
      if (cgroup.kind === 'container') groups.push(...cgroup.groups);
    }
    if (ids.size !== 1) throw new UnknownCaller('the connection is held by processes of different containers');
    const [id] = ids;
    return id === undefined ? this.#hostCaller(processes) : this.#container(id, groups);
  }

  async #container(id: string, groups: readonly string[]): Promise<Container> {
    const { containerById } = this.#options;
    const container = await containerById(id);
    if (!container) throw new UnknownCaller(`the engine has no container ${id.slice(0, 12)}`);
    await this.#confirm(container, groups);
    const { network } = container;
    // It may be there by a socket that it was handed; but what is that for?
    const other = typeof network === 'object' ? await containerById(network.sharedWith) : undefined;
    if (network !== 'host' && other?.network !== 'host') {
      throw new UnknownCaller(`the container ${container.name} is not on the host's network, but its connection is`);
    }
    return container;
  }

  /** Some users may make control groups of any name below their own (systemd's Delegate=): a name is not enough. */
  async #confirm(container: Container, groups: readonly string[]): Promise<void> {
    const areKnown = (): boolean => groups.every((group) => this.#groups.get(container)?.has(group));
    if (areKnown()) return;
    const { firstProcessOf, processes } = this.#options;
    const pid = await firstProcessOf(container.id).catch((error: Error) => {
      throw new DirectoryUnavailable(error.message, { cause: error });
    });
    const cgroup = pid === undefined ? undefined : await processes.cgroupOf(pid);
    if (cgroup?.kind === 'container' && cgroup.id === container.id) this.#groups.set(container, new Set(cgroup.groups));
    if (!areKnown()) throw new DirectoryUnavailable(FOREIGN_GROUPS);
  }

  /** That no group has a container's name says little: engines may give other ones. But each numbers processes anew. */
  #hostCaller(processes: readonly SocketProcess[]): Container {
    if (!processes.every(({ ownPids }) => ownPids)) {
      throw new UnknownCaller('the process is in a container that the engine does not know');
    }
    const { host } = this.#options;
    if (!host) throw new UnknownCaller('a process of the host is asking, and HOST_ROLE is not set');
    return host;
  }
}

/** The processes of the host, as if they were a container that names a role. */
export function hostCaller(role: RoleReference): Container {
  return {
    id: 'host',
    shortId: '',
    name: 'host',
    image: '',
    hostname: '',
    env: new Map([[ROLE_VARIABLE, role.text]]),
    labels: new Map(),
    labelledAddress: undefined,
    networks: [],
    network: 'own',
  };
}
