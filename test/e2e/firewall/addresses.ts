// The addresses and users of the firewall tests.

export const IMDS4 = '169.254.169.254';
export const IMDS6 = 'fd00:ec2::254';
/** The host's end of the cable to the metadata service. */
export const HOST4 = '169.254.169.1';
export const HOST6 = 'fd00:ec2::1';
/** The host's interface to the metadata service. */
export const CABLE = 'metadata';

export const SETUP = 'iptables/setup';
export const ROLE_NAMES_PATH = '/latest/meta-data/iam/security-credentials/';

export const UNPRIVILEGED_USER = 65534;
/** Stands for the proxy's own user: Debian's `daemon`. */
export const PROXY_USER = 1;

/** The bridge name of the network "custom", set by Docker's option com.docker.network.bridge.name. */
export const CUSTOM_BRIDGE = 'metal0';

/** A network that a container is on, and the metadata address that it requests. */
export interface ClientNetwork {
  readonly name: string;
  readonly network: string;
  readonly imds: string;
  /** The host's address on the cable, in the same family. */
  readonly host: string;
}

/** Networks whose bridges the default --container-iface names. */
export const NAMED_NETWORKS: readonly ClientNetwork[] = [
  { name: 'docker0', network: 'default', imds: IMDS4, host: HOST4 },
  { name: 'user bridge', network: 'team', imds: IMDS4, host: HOST4 },
  { name: 'docker_gwbridge', network: 'mesh', imds: IMDS4, host: HOST4 },
  { name: 'IPv6', network: 'six', imds: IMDS6, host: HOST6 },
];

export const CUSTOM_NETWORK: ClientNetwork = { name: 'custom bridge', network: 'custom', imds: IMDS4, host: HOST4 };

export const NETWORKS: readonly ClientNetwork[] = [...NAMED_NETWORKS, CUSTOM_NETWORK];

/** An unprivileged process on the host's network, in each family. */
export const HOST_CLIENTS = [
  { name: 'host network', imds: IMDS4 }, { name: 'host network, IPv6', imds: IMDS6 },
] as const;
