import { TOKEN_TTL_HEADER, send, type Handler } from '../exchange.ts';
import { Refusal } from '../errors.ts';
import { subjectOf, type SessionTokens } from '../session-tokens.ts';

/** Six hours. Source: EC2 user guide, "Use the Instance Metadata Service to access instance metadata". */
const MAX_TTL_S = 21_600;

/** Issues a session token. Like IMDS, it refuses a request that came through another proxy. */
export function sessionToken(tokens: SessionTokens): Handler {
  return (exchange) => {
    const { headers } = exchange.request;
    if (headers['x-forwarded-for'] !== undefined) throw new Refusal(403, 'forwarded', 'the token request has an X-Forwarded-For header');
    const ttl = headers[TOKEN_TTL_HEADER.toLowerCase()];
    const seconds = typeof ttl === 'string' && /^\d{1,5}$/.test(ttl) ? Number(ttl) : 0;
    if (seconds < 1 || seconds > MAX_TTL_S) {
      throw new Refusal(400, 'token_ttl', `${TOKEN_TTL_HEADER} must be a whole number from 1 to ${MAX_TTL_S}`);
    }
    exchange.tokenSeconds = seconds;
    const body = tokens.issue(subjectOf(exchange), seconds);
    send(exchange, { status: 200, type: 'text/plain', body });
  };
}
