import { roleName } from '../../roles/role-reference.ts';
import type { Callers } from '../callers.ts';
import { send, type Exchange } from '../exchange.ts';
import { Refusal } from '../failure.ts';
import { credentialAnswer } from './credential-answers.ts';

/**
 * `meta-data/iam/security-credentials/{role}` and its `-extended` twin.
 *
 * @returns a handler that takes the role's name as it stands in the path
 */
export function roleCredentials(callers: Callers) {
  return async (exchange: Exchange, role: string, extended: boolean): Promise<void> => {
    const request = await callers.roleOf(exchange);
    if (role !== roleName(request.role)) throw new Refusal(404, 'other_role', 'the caller has another role than the one asked for');
    const credentials = await callers.credentialsFor(exchange, request);
    const body = credentialAnswer(credentials, extended ? 'imds-extended' : 'imds');
    send(exchange, { status: 200, type: 'text/plain', body });
  };
}
