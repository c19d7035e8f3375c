/** The answers that depend on the caller's role. Each is synchronous where role and credentials are ready. */

import { roleName } from '../../roles/role-reference.ts';
import type { RoleRequest } from '../../roles/role-request.ts';
import type { CredentialService } from '../credential-service.ts';
import { Refusal } from '../errors.ts';
import { send, sendText, mapMaybeAsync, type Exchange, type Handler } from '../exchange.ts';
import { credentialAnswer, type CredentialForm } from './credential-answers.ts';

export interface CredentialHandlers {
  /** `meta-data/iam/`: what a caller with a role finds there. */
  iamListing: Handler;
  /** `meta-data/iam/info`: the assumed role's ARN and id in place of the instance profile's. */
  iamInfo: Handler;
  /** `meta-data/iam/security-credentials/`: the bare name of the caller's role. */
  roleName: Handler;
  /** `meta-data/iam/security-credentials/{role}`, and the same below `security-credentials-extended`. */
  roleCredentials: (exchange: Exchange, role: string, extended: boolean) => void | Promise<void>;
  /** `/v2/credentials…` and `/creds…`, which SDKs use in ECS: one request, and no session token. */
  containerCredentials: Handler;
}

export function credentialHandlers(service: CredentialService): CredentialHandlers {
  const answer = (
    exchange: Exchange,
    form: CredentialForm,
    type = 'text/plain',
    check?: (request: RoleRequest) => void,
  ): void | Promise<void> =>
    mapMaybeAsync(service.credentialsOf(exchange, check), (credentials) => {
      send(exchange, { status: 200, type, body: credentialAnswer(credentials, form) });
    });
  return {
    iamListing: (exchange) => mapMaybeAsync(service.roleOf(exchange), () => sendText(exchange, 'info\nsecurity-credentials/')),
    iamInfo: (exchange) => answer(exchange, 'info'),
    roleName: (exchange) => mapMaybeAsync(service.roleOf(exchange), ({ role }) => sendText(exchange, roleName(role))),
    roleCredentials: (exchange, role, extended) =>
      answer(exchange, extended ? 'imds-extended' : 'imds', 'text/plain', (request) => {
        if (role === roleName(request.role)) return;
        throw new Refusal(404, 'other_role', "the requested role is not the caller's");
      }),
    containerCredentials: (exchange) => answer(exchange, 'ecs', 'application/json'),
  };
}
