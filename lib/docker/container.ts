import { normalAddress } from '../util/ip-address.ts';
import { Memo } from '../util/memo.ts';
import type { EngineContainer } from './client.ts';

/** What is kept of a container: who it is, and what its starter asked for it. */
export interface Container {
  readonly id: string;
  /** The 12 characters that Docker's own tools show; empty for a caller that is no container of Docker's. */
  readonly shortId: string;
  /** As `docker ps` shows it; changes with `docker rename`. */
  name: string;
  readonly image: string;
  /** `hostname.domainname`, as far as it has them. */
  readonly hostname: string;
  /** Only the variables and labels that settings refer to. */
  readonly env: ReadonlyMap<string, string>;
  readonly labels: ReadonlyMap<string, string>;
  /** An address that a label claims for it (Rancher's managed network); the engine knows better where it knows. */
  readonly labelledAddress: string | undefined;
  /** The names of its networks when it was created. */
  readonly networks: readonly string[];
  /** Whether it has addresses of its own, or whose it shares. */
  readonly network: 'own' | 'host' | 'none' | { readonly sharedWith: string };
}

/** Which variables and labels are kept of a container; a host may run thousands of them. */
export interface RetainedFields {
  readonly env: ReadonlySet<string>;
  readonly labels: ReadonlySet<string> | 'all';
}

/** Thrown when no container is known under an address. */
export class UnknownCaller extends Error {}

/** Thrown while it cannot be told which container an address belongs to. */
export class DirectoryUnavailable extends Error {}

/** Rancher 1.2 and later put the address on its managed network here, with its prefix length. */
const RANCHER_LABEL = 'io.rancher.container.ip';

const NO_VALUES: ReadonlyMap<string, string> = new Map();
/** More images and networks than a host has. */
const MAX_NAMES = 1_000;
/** The engine's answers have each name anew; what many containers have in common is kept once. */
const interned = new Memo(MAX_NAMES, (name: string) => name);

/** The same text, as it was first seen. */
export function intern(name: string): string {
  return interned.of(name);
}

export function describeContainer(found: EngineContainer, retained: RetainedFields): Container {
  const { id, name, image, env, labels, hostname, networks, networkMode } = found;
  const shortId = id.slice(0, 12);
  return {
    id,
    shortId,
    name,
    image: intern(image),
    hostname: hostname === shortId ? shortId : hostname,
    env: pick(env, retained.env),
    labels: pick(labels, retained.labels),
    labelledAddress: labelledAddress(labels.get(RANCHER_LABEL)),
    networks: networks.map(intern),
    network: networkOf(networkMode),
  };
}

/** What stands before the slash of an address with its prefix length; a label may be of any length. */
function labelledAddress(label = ''): string | undefined {
  const [address = ''] = label.slice(0, MAX_ADDRESS_LENGTH).split('/', 1);
  return normalAddress(address);
}

/** IPv6 with an IPv4 tail and a prefix length. */
const MAX_ADDRESS_LENGTH = 64;

function pick(values: ReadonlyMap<string, string>, names: ReadonlySet<string> | 'all'): ReadonlyMap<string, string> {
  if (names === 'all') return values;
  const retained = new Map<string, string>();
  for (const name of names) {
    const value = values.get(name);
    if (value !== undefined) retained.set(name, value);
  }
  return retained.size === 0 ? NO_VALUES : retained;
}

function networkOf(mode: string): Container['network'] {
  if (mode === 'host' || mode === 'none') return mode;
  return mode.startsWith('container:') ? { sharedWith: mode.slice('container:'.length) } : 'own';
}
