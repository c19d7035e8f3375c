// The identity of the lab's host, as its stand-in metadata service tells it. No container may ever see the
// mark.

/** Part of every value that tells of the host's own credentials. */
export const HOST_MARK = 'HOSTSECRET';

/**
 * The role of the host's instance profile: what the security-credentials listing would show an unproxied
 * container.
 */
export const HOST_ROLE = `${HOST_MARK}-role`;

/** The access key id of the host's own credentials. */
export const HOST_ACCESS_KEY = `ASIA${HOST_MARK}`;

export const INSTANCE_ID = 'i-0e2e1ab0e2e1ab0e2';

/** What signs requests as the host: its secret key and its session token. */
export const HOST_SECRETS = [`${HOST_MARK}/secret`, `${HOST_MARK}/token`] as const;
