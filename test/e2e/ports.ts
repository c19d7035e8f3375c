// The ports of the lab's host. They are free, because it has its own network namespace.

/** moto, on all addresses of the host: containers call its GetCallerIdentity. */
export const MOTO_PORT = 5000;

/** The proxy's STS and IAM endpoint, on the host's loopback. */
export const STS_FRONT_PORT = 5001;

/** The proxy under test: its default ports. */
export const PROXY_PORT = 18000;
export const ADMIN_PORT = 18001;
