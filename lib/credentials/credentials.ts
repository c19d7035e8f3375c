/** The result of AssumeRole. Immutable; times are milliseconds since the epoch. */
export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  /** From STS's answer; containers see this time. */
  readonly expiration: number;
  /** The same moment on this host's clock, which may be wrong. */
  readonly validUntil: number;
  readonly lastUpdated: number;
  readonly roleArn: string;
  readonly accountId: string;
  readonly assumedRoleArn: string;
  readonly assumedRoleId: string;
}

/** Retryable: STS is unreachable, slow or throttling, or the source credentials do not work. */
export class CredentialsUnavailable extends Error {
  /** Milliseconds until the store's next attempt. */
  retryAfter = 0;
}

/** The code of a denial by this proxy's settings, without a call to STS. */
export const ROLE_NOT_ALLOWED = 'RoleNotAllowed';

/** STS, IAM or a setting denies the role. Retrying helps only after a policy, a role or a setting has changed. */
export class AssumeRoleDenied extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
