import { roleName } from '../../roles/role-reference.ts';
import type { CredentialService } from '../credential-service.ts';
import { sendText, mapMaybeAsync, type Handler } from '../exchange.ts';

/** `meta-data/iam/security-credentials/`: the bare name of the caller's role. */
export function roleNameListing(credentialService: CredentialService): Handler {
  return (exchange) => mapMaybeAsync(credentialService.roleOf(exchange), ({ role }) => sendText(exchange, roleName(role)));
}
