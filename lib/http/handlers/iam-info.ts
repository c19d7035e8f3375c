import type { Callers } from '../credential-service.ts';
import { send, whenThere, type Handler } from '../exchange.ts';
import { credentialAnswer } from './credential-answers.ts';

/** `meta-data/iam/info`: in the place of an instance profile, the assumed role's ARN and id. */
export function iamInfo(callers: Callers): Handler {
  return (exchange) =>
    whenThere(callers.credentialsOf(exchange), (credentials) => {
      send(exchange, { status: 200, type: 'text/plain', body: credentialAnswer(credentials, 'info') });
    });
}
