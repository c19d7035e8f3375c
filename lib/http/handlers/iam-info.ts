import type { CredentialService } from '../credential-service.ts';
import { send, mapMaybeAsync, type Handler } from '../exchange.ts';
import { credentialAnswer } from './credential-answers.ts';

/** `meta-data/iam/info`: in the place of an instance profile, the assumed role's ARN and id. */
export function iamInfo(credentialService: CredentialService): Handler {
  return (exchange) =>
    mapMaybeAsync(credentialService.credentialsOf(exchange), (credentials) => {
      send(exchange, { status: 200, type: 'text/plain', body: credentialAnswer(credentials, 'info') });
    });
}
