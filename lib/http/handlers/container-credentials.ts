import type { CredentialService } from '../credential-service.ts';
import { send, mapMaybeAsync, type Handler } from '../exchange.ts';
import { credentialAnswer } from './credential-answers.ts';

/**
 * The door that SDKs use inside ECS: one request, no session token. Whatever follows `/v2/credentials` or `/creds` is
 * ignored; the caller's address says whose credentials they are.
 */
export function containerCredentials(credentialService: CredentialService): Handler {
  return (exchange) =>
    mapMaybeAsync(credentialService.credentialsOf(exchange), (credentials) => {
      send(exchange, { status: 200, type: 'application/json', body: credentialAnswer(credentials, 'ecs') });
    });
}
