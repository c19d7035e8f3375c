import { CallerUndetermined, rethrowUndetermined, UnknownCaller, type Caller, type HostProcess } from '../../caller.ts';
import type { Container } from '../../docker/container.ts';
import type { Events } from '../../events.ts';
import type { RoleReference } from '../../roles/role-reference.ts';
import { normalAddress } from '../../util/ip-address.ts';
import type { Connection } from '../connection.ts';
import type { SocketProcess, HostProcesses } from './processes.ts';

export interface HostNetworkOptions {
  processes: Pick<HostProcesses, 'processesOf' | 'cgroupOf'>;
  /** @returns undefined when the engine has no such container */
  containerById: (id: string) => Promise<Container | undefined>;
  /** @returns undefined when the container does not run */
  firstProcessOf: (id: string) => Promise<number | undefined>;
  /** The caller for processes in no container; undefined without HOST_ROLE. */
  hostProcess: HostProcess | undefined;
  events: Pick<Events, 'hostNetworkFailed'>;
}

const FOREIGN_GROUPS =
  "a process is in a control group that has a container's name, but its container's first process is not in that " +
  'group; or the proxy and the engine number processes differently (--pid=host)';

/**
 * Identifies who is behind a connection from an address of the host itself: the host-network container, or the process
 * of the host. A result, and that there is none, stands for the whole connection. A failure stands for one request.
 */
export class HostNetwork {
  readonly #options: HostNetworkOptions;
  readonly #resolving = new WeakMap<Connection, Promise<Caller>>();
  readonly #resolved = new WeakMap<Connection, Caller>();
  /** The control groups of each container's first process: another process with the same name of a group is no proof. */
  readonly #groups = new WeakMap<Container, ReadonlySet<string>>();

  constructor(options: HostNetworkOptions) {
    this.#options = options;
  }

  /** @throws UnknownCaller when the process has no role; CallerUndetermined when it cannot be identified */
  resolve(connection: Connection): Promise<Caller> {
    let resolving = this.#resolving.get(connection);
    if (!resolving) {
      resolving = this.#resolve(connection).catch(rethrowUndetermined);
      this.#resolving.set(connection, resolving);
      resolving.then(
        (caller) => this.#resolved.set(connection, caller),
        (error: unknown) => {
          if (error instanceof UnknownCaller) return;
          this.#resolving.delete(connection);
          this.#options.events.hostNetworkFailed((error as Error).message);
        },
      );
    }
    return resolving;
  }

  /** The caller that `resolve` has found for this connection. */
  peek(connection: Connection): Caller | undefined {
    return this.#resolved.get(connection);
  }

  async #resolve({ address, remotePort, localAddress, localPort }: Connection): Promise<Caller> {
    const local = normalAddress(localAddress ?? '');
    if (remotePort === undefined || local === undefined || localPort === undefined) {
      throw new CallerUndetermined('the connection has ended');
    }
    const processes = await this.#options.processes.processesOf({
      peer: { address, port: remotePort },
      local: { address: local, port: localPort },
    });
    const ids = new Set<string | undefined>();
    const groups: string[] = [];
    for (const { cgroup } of processes) {
      if (cgroup.kind === 'unclear') throw new CallerUndetermined(`cannot tell which container a process is in: ${cgroup.why}`);
      ids.add(cgroup.kind === 'container' ? cgroup.id : undefined);
      if (cgroup.kind === 'container') groups.push(...cgroup.groups);
    }
    if (ids.size !== 1) throw new UnknownCaller('processes of different containers hold the connection');
    const [id] = ids;
    return id === undefined ? this.#hostProcess(processes) : this.#container(id, groups);
  }

  async #container(id: string, groups: readonly string[]): Promise<Container> {
    const { containerById } = this.#options;
    const container = await containerById(id);
    if (!container) throw new UnknownCaller(`the engine has no container ${id.slice(0, 12)}`);
    await this.#confirm(container, groups);
    const { network } = container;
    // Another process may have handed it a socket of the host's network. No legitimate use of that is known.
    const owner = typeof network === 'object' ? await containerById(network.sharedWith) : undefined;
    if (network !== 'host' && owner?.network !== 'host') {
      throw new UnknownCaller(`the container ${container.name} is not on the host's network, but its connection is`);
    }
    return container;
  }

  /** A name proves nothing: some users may create control groups of any name below their own (systemd's Delegate=). */
  async #confirm(container: Container, groups: readonly string[]): Promise<void> {
    const areKnown = (): boolean => groups.every((group) => this.#groups.get(container)?.has(group));
    if (areKnown()) return;
    const { firstProcessOf, processes } = this.#options;
    const pid = await firstProcessOf(container.id).catch((error: Error) => {
      throw new CallerUndetermined(error.message, { cause: error });
    });
    const cgroup = pid === undefined ? undefined : await processes.cgroupOf(pid);
    if (cgroup?.kind === 'container' && cgroup.id === container.id) this.#groups.set(container, new Set(cgroup.groups));
    if (!areKnown()) throw new CallerUndetermined(FOREIGN_GROUPS);
  }

  /**
   * A cgroup path without a container id proves nothing, because engines name cgroups differently. A PID namespace of
   * its own does: every engine creates one.
   */
  #hostProcess(processes: readonly SocketProcess[]): HostProcess {
    if (!processes.every(({ ownPids }) => ownPids)) {
      throw new UnknownCaller('the process is in a container that the engine does not know');
    }
    const { hostProcess } = this.#options;
    if (!hostProcess) throw new UnknownCaller('the caller is a process of the host, and HOST_ROLE is not set');
    return hostProcess;
  }
}

/** @param role HOST_ROLE */
export function hostProcess(role: RoleReference): HostProcess {
  return { kind: 'host-process', id: 'host', name: 'host', role };
}
