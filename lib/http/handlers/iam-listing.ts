import type { CredentialService } from '../credential-service.ts';
import { sendText, mapMaybeAsync, type Handler } from '../exchange.ts';

/** `meta-data/iam/`: what there is for a caller that has a role. */
export function iamListing(credentialService: CredentialService): Handler {
  return (exchange) =>
    mapMaybeAsync(credentialService.roleOf(exchange), () => sendText(exchange, 'info\nsecurity-credentials/'));
}
