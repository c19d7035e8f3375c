/** Reads the JSON of the Docker Engine API into the types of engine.ts. Unexpected shapes become neutral values. */

import { normalAddress } from '../util/ip-address.ts';
import { array, object, string, type JsonObject } from '../util/json.ts';
import { EngineFailure, type EngineContainer, type EngineEvent, type EngineImage, type ListedContainer } from './engine.ts';

/** States in the list. `stopping`, `configured` and `initialized` are Podman's. */
const RUNNING_STATES: ReadonlySet<string> = new Set(['running', 'paused', 'restarting', 'stopping']);
const STATES_BEFORE_FIRST_RUN: ReadonlySet<string> = new Set(['created', 'configured', 'initialized']);

/** An element of `GET /containers/json`. It has no environment and no host name. */
export function parseListed(value: unknown): ListedContainer {
  const container = object(value);
  const state = string(container['State']);
  return {
    ...parseNetworks(container),
    id: string(container['Id']),
    name: withoutSlash(string(array(container['Names'])[0])),
    image: string(container['Image']),
    running: RUNNING_STATES.has(state),
    hasRun: !STATES_BEFORE_FIRST_RUN.has(state),
    hostname: '',
    imageId: string(container['ImageID']),
    env: new Map(),
    labels: parseLabels(container['Labels']),
  };
}

/** `GET /containers/{id}/json` */
export function parseInspected(value: unknown): EngineContainer {
  const container = object(value);
  const config = object(container['Config']);
  return {
    ...parseNetworks(container),
    id: string(container['Id']),
    name: withoutSlash(string(container['Name'])),
    image: string(config['Image']),
    running: object(container['State'])['Running'] === true,
    hostname: [string(config['Hostname']), string(config['Domainname'])].filter((part) => part !== '').join('.'),
    imageId: string(container['Image']),
    env: parseEnv(config['Env']),
    labels: parseLabels(config['Labels']),
  };
}

/** @returns undefined when the container does not run */
export function parseFirstProcess(value: unknown): number | undefined {
  const { Running, Pid } = object(object(value)['State']);
  return Running === true && typeof Pid === 'number' && Pid > 0 ? Pid : undefined;
}

/** `GET /images/{id}/json` */
export function parseImage(value: unknown): EngineImage {
  const config = object(object(value)['Config']);
  return { env: parseEnv(config['Env']), labels: parseLabels(config['Labels']) };
}

/** The containers of `GET /networks/{id}`, each with its addresses. */
export function parseNetworkContainers(value: unknown): ReadonlyMap<string, readonly string[]> {
  const byContainer = new Map<string, readonly string[]>();
  for (const [container, endpoint] of Object.entries(object(object(value)['Containers']))) {
    const { IPv4Address, IPv6Address } = object(endpoint);
    byContainer.set(container, parseAddresses(IPv4Address, IPv6Address));
  }
  return byContainer;
}

export interface ParsedEvent {
  /** Milliseconds since the epoch, by the engine's clock. */
  readonly sentAt: number | undefined;
  /** Undefined for an event that the directory does not use. */
  readonly event: EngineEvent | undefined;
}

/**
 * A line of `GET /events`
 *
 * @throws EngineFailure when it is not JSON
 */
export function parseEvent(line: string): ParsedEvent {
  let value: JsonObject;
  try {
    value = object(JSON.parse(line));
  } catch {
    throw new EngineFailure('the Docker Engine sent an event that is not JSON');
  }
  const { timeNano } = value;
  return { sentAt: typeof timeNano === 'number' ? timeNano / 1e6 : undefined, event: usedEvent(value) };
}

function usedEvent({ Type, Action, Actor }: JsonObject): EngineEvent | undefined {
  const id = string(object(Actor)['ID']);
  const attributes = object(object(Actor)['Attributes']);
  if (Type === 'container') {
    switch (Action) {
      case 'create':
      case 'start':
      case 'die':
      case 'destroy':
        return { kind: Action, container: id };
      case 'died': // Podman's name.
        return { kind: 'die', container: id };
      case 'remove': // Podman's name.
        return { kind: 'destroy', container: id };
      case 'rename':
        return { kind: Action, container: id, name: withoutSlash(string(attributes['name'])) };
    }
  }
  if (Type === 'network' && (Action === 'connect' || Action === 'disconnect')) {
    // Podman names only the container, in the place of the network.
    if (attributes['container'] === undefined) return { kind: 'networksChanged', container: id };
    return { kind: Action, container: string(attributes['container']), network: id, driver: string(attributes['type']) };
  }
  return undefined;
}

function parseNetworks(container: JsonObject): Pick<EngineContainer, 'networkMode' | 'addresses' | 'networks'> {
  const endpoints = object(object(container['NetworkSettings'])['Networks']);
  const addresses = new Map<string, readonly string[]>();
  for (const endpoint of Object.values(endpoints).map(object)) {
    const found = parseAddresses(endpoint['IPAddress'], endpoint['GlobalIPv6Address']);
    if (found.length > 0) addresses.set(string(endpoint['NetworkID']), found);
  }
  const networkMode = string(object(container['HostConfig'])['NetworkMode']);
  return { networkMode, addresses, networks: Object.keys(endpoints) };
}

/** Addresses in normal form, without their prefix length. */
function parseAddresses(...values: unknown[]): string[] {
  return values
    .map((value) => normalAddress(string(value).replace(/\/.*$/, '')))
    .filter((address) => address !== undefined);
}

/** A list of `NAME=value`. */
function parseEnv(value: unknown): ReadonlyMap<string, string> {
  const env = new Map<string, string>();
  for (const entry of array(value).map(string)) {
    const equals = entry.indexOf('=');
    if (equals !== -1) env.set(entry.slice(0, equals), entry.slice(equals + 1));
  }
  return env;
}

function parseLabels(value: unknown): ReadonlyMap<string, string> {
  return new Map(Object.entries(object(value)).map(([name, label]) => [name, string(label)]));
}

function withoutSlash(name: string): string {
  return name.replace(/^\//, '');
}
