import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { Refusal } from './errors.ts';
import { TOKEN_HEADER, type Exchange } from './exchange.ts';

/** The first byte of a token makes it begin with "A", as tokens of IMDS do. */
const VERSION = Buffer.from([1]);
/** Milliseconds since the epoch. */
const EXPIRY_BYTES = 6;
const SIGNED_BYTES = VERSION.length + EXPIRY_BYTES;
const TOKEN_BYTES = SIGNED_BYTES + 32;

/**
 * Stateless session tokens (IMDSv2): the expiry, and a MAC over it and the token's subject under a key that is made at
 * start. After a restart SDKs are answered 401 and request a new token.
 */
export class SessionTokens {
  readonly #key = randomBytes(32);
  readonly #now: () => number;

  /** @param now milliseconds since the epoch */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** @param seconds the TTL, from 1 to 21600 */
  issue(subject: string, seconds: number): string {
    const expiry = Buffer.alloc(EXPIRY_BYTES);
    expiry.writeUIntBE(this.#now() + seconds * 1000, 0, EXPIRY_BYTES);
    const signed = Buffer.concat([VERSION, expiry]);
    return Buffer.concat([signed, this.#mac(subject, signed)]).toString('base64url');
  }

  /** @returns the whole seconds until it expires, at least 1; undefined for an invalid, expired or another's token */
  remaining(token: string, subject: string): number | undefined {
    const bytes = Buffer.from(token, 'base64url');
    // Node's decoder accepts other spellings of the same bytes; only one is a token.
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

/** Whom a token is for: the caller, so that it is valid at all its addresses; else the address of an unknown caller. */
export function subjectOf({ caller, address }: Exchange): string {
  return caller?.id ?? address;
}

/**
 * Checks a request's token, and keeps its remaining TTL in the exchange.
 *
 * @throws Refusal
 */
export function checkToken(exchange: Exchange, tokens: SessionTokens, isRequired: boolean): void {
  const token = exchange.request.headers[TOKEN_HEADER];
  if (token === undefined) {
    if (isRequired) throw new Refusal(401, 'token_missing', 'a session token is required');
    return;
  }
  if (typeof token === 'string') {
    // The address is the subject of a token that was issued before its container was known.
    exchange.tokenSeconds = tokens.remaining(token, subjectOf(exchange)) ?? tokens.remaining(token, exchange.address);
  }
  if (exchange.tokenSeconds === undefined) throw new Refusal(401, 'token_invalid', 'the session token is invalid or expired');
}
