import { normalAddress } from '../util/ip-address.ts';
import { Memo } from '../util/memo.ts';
import type { EngineContainer } from './engine.ts';

/** What the program keeps of a container: who it is, and what its starter declared for it. */
export interface Container {
  readonly kind: 'container';
  readonly id: string;
  /** The 12 characters that Docker's own tools show. */
  readonly shortId: string;
  /** As `docker ps` shows it. The registry changes it after `docker rename`. */
  name: string;
  readonly image: string;
  /** `hostname.domainname`, or the one that is set. */
  readonly hostname: string;
  /** Only the variables and labels that settings refer to. */
  readonly env: ReadonlyMap<string, string>;
  readonly labels: ReadonlyMap<string, string>;
  /** An address that a label claims (Rancher's managed network). An address that the engine assigned takes precedence. */
  readonly labelledAddress: string | undefined;
  /** The names of its networks when it was created. */
  readonly networks: readonly string[];
  /** Whether it has addresses of its own, or the id of the container whose network it shares. */
  readonly network: 'own' | 'host' | 'none' | { readonly sharedWith: string };
}

/** The variables and labels to keep of each container: a host may run thousands of containers. */
export interface RetainedFields {
  readonly env: ReadonlySet<string>;
  readonly labels: ReadonlySet<string> | 'all';
}

/** The container behind an address cannot be determined now. */
export class DirectoryUnavailable extends Error {}

/** Rancher 1.2 and later write the address on their managed network here, with its prefix length. */
const RANCHER_LABEL = 'io.rancher.container.ip';

/** An IPv6 address with an IPv4 tail and a prefix length is shorter. */
const MAX_ADDRESS_LENGTH = 64;

const NO_VALUES: ReadonlyMap<string, string> = new Map();
/** More images and networks than a host has. */
const MAX_NAMES = 1_000;
/** Each answer of the engine has its own copy of a name. Names that many containers share are kept once. */
const interned = new Memo(MAX_NAMES, (name: string) => name);

/** An equal text that is kept already, or this one. */
export function intern(name: string): string {
  return interned.of(name);
}

export function describeContainer(found: EngineContainer, retained: RetainedFields): Container {
  const { id, name, image, env, labels, hostname, networks, networkMode } = found;
  const shortId = id.slice(0, 12);
  return {
    kind: 'container',
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

/** The part before the slash, if it is an address. A label may be of any length, so it is cut first. */
function labelledAddress(label = ''): string | undefined {
  const [address = ''] = label.slice(0, MAX_ADDRESS_LENGTH).split('/', 1);
  return normalAddress(address);
}

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
