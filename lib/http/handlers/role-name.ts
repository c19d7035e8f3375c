import { roleName } from '../../roles/role-reference.ts';
import type { Callers } from '../callers.ts';
import { sendText, type Handler } from '../exchange.ts';

/** `meta-data/iam/security-credentials/`: the bare name of the caller's role. */
export function roleNameListing(callers: Callers): Handler {
  return async (exchange) => {
    const { role } = await callers.roleOf(exchange);
    sendText(exchange, roleName(role));
  };
}
