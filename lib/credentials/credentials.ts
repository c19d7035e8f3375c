/** What AssumeRole gave, with times in milliseconds since the epoch. Never changed once made. */
export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  /** As STS says; the answer has it. */
  readonly expiration: number;
  /** The same moment by this host's clock, which may be wrong. */
  readonly validUntil: number;
  readonly lastUpdated: number;
  /** The role that was assumed. */
  readonly roleArn: string;
  readonly accountId: string;
  readonly assumedRoleArn: string;
  readonly assumedRoleId: string;
}

/** Passing trouble: STS cannot be reached, is slow, throttles, or does not know the proxy's own credentials now. */
export class CredentialsUnavailable extends Error {
  /** Milliseconds until another attempt makes sense; set by the store. */
  retryAfter = 0;
}

/** The code of a refusal by our own settings, which asks STS nothing. */
export const ROLE_NOT_ALLOWED = 'RoleNotAllowed';

/** STS (or IAM) says no, and will until somebody changes a policy, a role or a setting. */
export class AssumeRoleDenied extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
