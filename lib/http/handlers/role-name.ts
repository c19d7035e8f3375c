import { roleName } from '../../roles/role-reference.ts';
import type { Callers } from '../credential-service.ts';
import { sendText, whenThere, type Handler } from '../exchange.ts';

/** `meta-data/iam/security-credentials/`: the bare name of the caller's role. */
export function roleNameListing(callers: Callers): Handler {
  return (exchange) => whenThere(callers.roleOf(exchange), ({ role }) => sendText(exchange, roleName(role)));
}
