/**
 * The stand-in engine's containers, networks and images, and their JSON: the fields of Docker Engine 20.10 (API 1.41) that
 * a client might read.
 */

export interface Image {
  readonly id: string;
  readonly name: string;
  readonly env: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

export interface Network {
  readonly id: string;
  readonly name: string;
  readonly driver: string;
  readonly scope: 'local' | 'swarm';
  /** The length of the prefix behind an IPv4 address, as in "172.17.0.2/16". */
  readonly prefixLength: number;
  /** True for docker_gwbridge: no container's inspect shows it, and joining it sends no event. */
  readonly hidden: boolean;
}

/** A container's addresses on one network; '' where it has none. */
export interface Endpoint {
  readonly network: Network;
  readonly address: string;
  readonly ipv6: string;
}

export type ContainerState = 'created' | 'running' | 'paused' | 'exited';

export interface Container {
  readonly id: string;
  name: string;
  readonly image: Image;
  readonly env: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly hostname: string;
  readonly domainname: string;
  readonly networkMode: string;
  readonly created: Date;
  state: ContainerState;
  exitCode: number;
  /** The endpoints that the container gets when it starts, by the network's name. */
  readonly planned: Map<string, Endpoint>;
  /** The endpoints that exist, by the network's name: what a network's inspect shows. */
  readonly connected: Map<string, Endpoint>;
  /** The endpoints that a container's inspect and the list show: they lag behind until the start is done. */
  shown: Map<string, Endpoint>;
}

export function isRunning(container: Container): boolean {
  return container.state === 'running' || container.state === 'paused';
}

/** GET /containers/{id}/json */
export function containerInspect(container: Container): object {
  const running = isRunning(container);
  const bridge = container.shown.get('bridge');
  return {
    Id: container.id,
    Created: container.created.toISOString(),
    Path: '/bin/sh',
    Args: [],
    State: {
      Status: container.state,
      Running: running,
      Paused: container.state === 'paused',
      Restarting: false,
      OOMKilled: false,
      Dead: false,
      Pid: running ? 4711 : 0,
      ExitCode: container.exitCode,
      Error: '',
    },
    Image: container.image.id,
    Name: `/${container.name}`,
    RestartCount: 0,
    Driver: 'overlay2',
    Platform: 'linux',
    HostConfig: { NetworkMode: container.networkMode, RestartPolicy: { Name: 'no', MaximumRetryCount: 0 } },
    Config: {
      Hostname: container.hostname,
      Domainname: container.domainname,
      User: '',
      Env: container.env,
      Cmd: ['sh'],
      Image: container.image.name,
      Labels: container.labels,
    },
    NetworkSettings: {
      Bridge: '',
      SandboxID: running ? container.id : '',
      // These three are filled for the default bridge only.
      IPAddress: bridge?.address ?? '',
      IPPrefixLen: bridge === undefined || bridge.address === '' ? 0 : bridge.network.prefixLength,
      GlobalIPv6Address: bridge?.ipv6 ?? '',
      Networks: endpoints(container),
    },
  };
}

/** One element of GET /containers/json */
export function containerSummary(container: Container): object {
  return {
    Id: container.id,
    Names: [`/${container.name}`],
    Image: container.image.name,
    ImageID: container.image.id,
    Command: 'sh',
    Created: Math.floor(container.created.getTime() / 1000),
    Ports: [],
    Labels: container.labels,
    State: container.state,
    Status: isRunning(container) ? 'Up 1 second' : container.state,
    HostConfig: { NetworkMode: container.networkMode },
    NetworkSettings: { Networks: endpoints(container) },
    Mounts: [],
  };
}

function endpoints(container: Container): object {
  const visible = [...container.shown].filter(([, endpoint]) => !endpoint.network.hidden);
  return Object.fromEntries(visible.map(([name, { network, address, ipv6 }]) => [name, {
    IPAMConfig: null,
    Links: null,
    Aliases: null,
    // A container that was never started has joined nothing yet.
    NetworkID: container.state === 'created' ? '' : network.id,
    EndpointID: address === '' ? '' : container.id,
    Gateway: '',
    IPAddress: address,
    IPPrefixLen: address === '' ? 0 : network.prefixLength,
    IPv6Gateway: '',
    GlobalIPv6Address: ipv6,
    GlobalIPv6PrefixLen: ipv6 === '' ? 0 : 64,
    MacAddress: '',
    DriverOpts: null,
  }]));
}

/**
 * GET /networks/{id} with the network's members; without `members` one element of GET /networks, where the
 * engine leaves them out.
 */
export function networkInspect(network: Network, members: readonly Container[] = []): object {
  const containers = members.flatMap((container) => {
    const endpoint = container.connected.get(network.name);
    if (endpoint === undefined) return [];
    return [[container.id, {
      Name: container.name,
      EndpointID: container.id,
      MacAddress: '',
      IPv4Address: endpoint.address === '' ? '' : `${endpoint.address}/${network.prefixLength}`,
      IPv6Address: endpoint.ipv6 === '' ? '' : `${endpoint.ipv6}/64`,
    }] as const];
  });
  return {
    Name: network.name,
    Id: network.id,
    Created: '2024-01-01T00:00:00.000000000Z',
    Scope: network.scope,
    Driver: network.driver,
    EnableIPv6: false,
    IPAM: { Driver: 'default', Options: {}, Config: [] },
    Internal: false,
    Attachable: network.driver === 'overlay',
    Ingress: false,
    Containers: Object.fromEntries(containers),
    Options: {},
    Labels: {},
  };
}

/** GET /images/{name or id}/json */
export function imageInspect(image: Image): object {
  return {
    Id: image.id,
    RepoTags: [image.name],
    RepoDigests: [],
    Architecture: 'amd64',
    Os: 'linux',
    Config: { Env: image.env, Cmd: ['sh'], Labels: image.labels },
  };
}

/** One line of GET /events. `status`, `id` and `from` are there for containers only. */
export interface EngineEvent {
  readonly status?: string;
  readonly id?: string;
  readonly from?: string;
  readonly Type: string;
  readonly Action: string;
  readonly Actor: { readonly ID: string; readonly Attributes: Readonly<Record<string, string>> };
  readonly scope: string;
  readonly time: number;
  readonly timeNano: number;
}

/** An event of a container as the engine writes it: its labels are among the attributes. */
export function containerEvent(
  container: Container, action: string, at: number, more: Record<string, string> = {},
): EngineEvent {
  const attributes = { ...container.labels, ...more, image: container.image.name, name: container.name };
  return {
    status: action,
    id: container.id,
    from: container.image.name,
    Type: 'container',
    Action: action,
    Actor: { ID: container.id, Attributes: attributes },
    scope: 'local',
    ...timestamps(at),
  };
}

/** `network connect` and `network disconnect` name the container among the attributes. */
export function networkEvent(
  network: Network, action: string, at: number, containerId?: string,
): EngineEvent {
  const attributes = { name: network.name, type: network.driver };
  return {
    Type: 'network',
    Action: action,
    Actor: {
      ID: network.id,
      Attributes: containerId === undefined ? attributes : { container: containerId, ...attributes },
    },
    scope: 'local',
    ...timestamps(at),
  };
}

function timestamps(at: number): { time: number; timeNano: number } {
  return { time: Math.floor(at / 1000), timeNano: at * 1_000_000 };
}
