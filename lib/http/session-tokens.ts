import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

/**
 * Session tokens (IMDSv2) that need no memory: the time of expiry and a MAC over it and over whoever got it, under a
 * key made at start. After a restart SDKs are answered 401 and get themselves a new one.
 */
export class SessionTokens {
  readonly #key = randomBytes(32);
  readonly #now: () => number;

  /** @param now milliseconds since the epoch */
  constructor(now: () => number) {
    this.#now = now;
  }

  /**
   * @param holder identifies the container, or the address of a caller that is none
   * @param seconds how long it is good for, from 1 to 21600
   */
  issue(subject: string, seconds: number): string {
    const expiry = Buffer.alloc(EXPIRY_BYTES);
    expiry.writeUIntBE(this.#now() + seconds * 1000, 0, EXPIRY_BYTES);
    const signed = Buffer.concat([VERSION, expiry]);
    return Buffer.concat([signed, this.#mac(subject, signed)]).toString('base64url');
  }

  /** @returns the whole seconds it has left, at least 1; undefined when it is not a token of this holder, or over */
  remaining(token: string, subject: string): number | undefined {
    const bytes = Buffer.from(token, 'base64url');
    // Exactly one spelling is a token; Node's decoder would take others.
    if (bytes.length !== TOKEN_BYTES || bytes.toString('base64url') !== token) return undefined;
    const signed = bytes.subarray(0, SIGNED_BYTES);
    if (!timingSafeEqual(bytes.subarray(SIGNED_BYTES), this.#mac(subject, signed))) return undefined;
    const left = signed.readUIntBE(VERSION.length, EXPIRY_BYTES) - this.#now();
    return left > 0 ? Math.ceil(left / 1000) : undefined;
  }

  #mac(subject: string, signed: Buffer): Buffer {
    return createHmac('sha256', this.#key).update(signed).update(subject).digest();
  }
}

/** The first byte of a token, which makes it begin with "A" as those of IMDS do. */
const VERSION = Buffer.from([1]);
/** Milliseconds since the epoch. */
const EXPIRY_BYTES = 6;
const SIGNED_BYTES = VERSION.length + EXPIRY_BYTES;
const TOKEN_BYTES = SIGNED_BYTES + 32;
