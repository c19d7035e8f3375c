import { roleName } from '../../roles/role-reference.ts';
import type { RoleRequest } from '../../roles/role-request.ts';
import type { CredentialService } from '../credential-service.ts';
import { send, mapMaybeAsync, type Exchange } from '../exchange.ts';
import { Refusal } from '../errors.ts';
import { credentialAnswer } from './credential-answers.ts';

/**
 * `meta-data/iam/security-credentials/{role}` and its `-extended` twin.
 *
 * @returns a handler that takes the role's name as it stands in the path
 */
export function roleCredentials(credentialService: CredentialService) {
  return (exchange: Exchange, role: string, extended: boolean): void | Promise<void> => {
    const check = (request: RoleRequest): void => {
      if (role === roleName(request.role)) return;
      throw new Refusal(404, 'other_role', 'the caller has another role than the one asked for');
    };
    return mapMaybeAsync(credentialService.credentialsOf(exchange, check), (credentials) => {
      const body = credentialAnswer(credentials, extended ? 'imds-extended' : 'imds');
      send(exchange, { status: 200, type: 'text/plain', body });
    });
  };
}
