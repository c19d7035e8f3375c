/** The Docker Engine API in the program's own types, and the two ways in which a call to it can fail. */

/** A container as `GET /containers/{id}/json` or `GET /containers/json` shows it. */
export interface EngineContainer {
  readonly id: string;
  readonly name: string;
  readonly image: string;
  readonly running: boolean;
  /** `bridge`, `host`, `none`, a network's name or `container:{id}`. Not reliable in Podman's list. */
  readonly networkMode: string;
  /** By network id. Networks on which the container has no valid address (yet) are left out. */
  readonly addresses: ReadonlyMap<string, readonly string[]>;
  /** The names of all its networks, with or without an address. */
  readonly networks: readonly string[];
  readonly hostname: string;
  readonly imageId: string;
  readonly env: ReadonlyMap<string, string>;
  readonly labels: ReadonlyMap<string, string>;
}

export interface ListedContainer extends EngineContainer {
  /** Whether it has ever been started. */
  readonly hasRun: boolean;
}

/** What an image brings into its containers. */
export interface EngineImage {
  readonly env: ReadonlyMap<string, string>;
  readonly labels: ReadonlyMap<string, string>;
}

export type EngineEvent =
  | { readonly kind: 'create' | 'start' | 'die' | 'destroy'; readonly container: string }
  /** A network of the container has changed; Podman does not say which, nor how. */
  | { readonly kind: 'networksChanged'; readonly container: string }
  | { readonly kind: 'rename'; readonly container: string; readonly name: string }
  | {
      readonly kind: 'connect' | 'disconnect';
      readonly container: string;
      readonly network: string;
      readonly driver: string;
    };

/** An open event stream. */
export interface EngineEvents {
  /** Resolves with the reason when the stream ends. */
  readonly ended: Promise<Error>;
  /** See podman.ts. */
  readonly isPodman: boolean;
}

/** The calls that the container directory makes. Each throws EngineUnreachable or EngineFailure. */
export interface Engine {
  allContainers(): Promise<ListedContainer[]>;
  /** @returns undefined when there is no such container */
  inspect(container: string): Promise<EngineContainer | undefined>;
  /** @returns addresses by container; undefined when there is no such network */
  networkAddresses(network: string): Promise<ReadonlyMap<string, readonly string[]> | undefined>;
  /** Resolves once the stream is open. Calls `onEvent` in the engine's order until the stream ends. */
  events(onEvent: (event: EngineEvent) => void, signal: AbortSignal): Promise<EngineEvents>;
}

/** No engine listens on its socket, so Docker cannot have started a container meanwhile. */
export class EngineUnreachable extends Error {}
/** The engine may be running, but it did not answer as it should. */
export class EngineFailure extends Error {}

/**
 * The host never sees a packet from these addresses: an overlay's containers reach it through docker_gwbridge, and
 * macvlan and ipvlan bypass it. A container on another network may have the same address, and that one is the caller.
 * Addresses of unknown drivers (plugins) count.
 */
const DRIVERS_THAT_BYPASS_HOST = new Set(['overlay', 'macvlan', 'ipvlan']);

/** Whether a container's packets to this host carry its address on a network of this driver. */
export function reachesHost(driver: string): boolean {
  return !DRIVERS_THAT_BYPASS_HOST.has(driver);
}
