// The ports of the lab's host. Its network is its own, so they are free.

/** moto, on every address of the host: containers ask it who they are. */
export const MOTO_PORT = 5000;

/** What the proxy takes for STS and IAM, on the host's loopback. */
export const STS_FRONT_PORT = 5001;

/** The proxy under test: its default ports. */
export const PROXY_PORT = 18000;
export const ADMIN_PORT = 18001;
