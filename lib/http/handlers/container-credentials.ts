import type { Callers } from '../callers.ts';
import { send, type Handler } from '../exchange.ts';
import { credentialAnswer } from './credential-answers.ts';

/**
 * The door that SDKs use inside ECS: one request, no session token. Whatever follows `/v2/credentials` or `/creds` is
 * ignored; the caller's address says whose credentials they are.
 */
export function containerCredentials(callers: Callers): Handler {
  return async (exchange) => {
    const credentials = await callers.credentialsFor(exchange, await callers.roleOf(exchange));
    send(exchange, { status: 200, type: 'application/json', body: credentialAnswer(credentials, 'ecs') });
  };
}
