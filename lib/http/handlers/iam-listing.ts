import type { Callers } from '../credential-service.ts';
import { sendText, whenThere, type Handler } from '../exchange.ts';

/** `meta-data/iam/`: what there is for a caller that has a role. */
export function iamListing(callers: Callers): Handler {
  return (exchange) =>
    whenThere(callers.roleOf(exchange), () => sendText(exchange, 'info\nsecurity-credentials/'));
}
