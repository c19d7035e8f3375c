// The identity of the lab's host, as the fake IMDS answers it. No container may ever see HOST_MARK.

/** Part of every value of the host's own identity. */
export const HOST_MARK = 'HOSTSECRET';

/**
 * The role of the host's instance profile. A container without the proxy sees it in the listing.
 */
export const HOST_ROLE = `${HOST_MARK}-role`;

/** The access key ID of the host's credentials. */
export const HOST_ACCESS_KEY = `ASIA${HOST_MARK}`;

export const INSTANCE_ID = 'i-0e2e1ab0e2e1ab0e2';

/** The host's secret key and session token. */
export const HOST_SECRETS = [`${HOST_MARK}/secret`, `${HOST_MARK}/token`] as const;
