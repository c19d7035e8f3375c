import type { RoleAssignments } from '../assignments.ts';
import type { Caller } from '../caller.ts';
import type { CallerResolver } from '../callers/resolver.ts';
import type { Credentials } from '../credentials/credentials.ts';
import type { CredentialStore } from '../credentials/store.ts';
import type { RoleRequest } from '../roles/role-request.ts';
import { mapMaybeAsync, type Exchange } from './exchange.ts';

export interface CredentialServiceOptions {
  resolver: Pick<CallerResolver, 'resolve'>;
  assignments: Pick<RoleAssignments, 'requestFor'>;
  store: Pick<CredentialStore<RoleRequest>, 'get' | 'obtain'>;
}

/**
 * From a request to the caller's credentials, in three steps: resolve the caller, find its role request, obtain
 * credentials. Each may wait, and none does in the usual case. The exchange keeps each result for the log.
 */
export class CredentialService {
  readonly #options: CredentialServiceOptions;

  constructor(options: CredentialServiceOptions) {
    this.#options = options;
  }

  /** @throws UnknownCaller, CallerUndetermined, NoRole, BadRoleRequest */
  roleOf(exchange: Exchange): RoleRequest | Promise<RoleRequest> {
    const { resolver, assignments } = this.#options;
    return mapMaybeAsync(resolver.resolve(exchange.connection), (caller: Caller) => {
      exchange.caller = caller;
      return mapMaybeAsync(assignments.requestFor(caller), (request) => (exchange.roleRequest = request));
    });
  }

  /**
   * @param check may refuse the role by throwing
   * @throws as roleOf; AssumeRoleDenied, CredentialsUnavailable
   */
  credentialsOf(exchange: Exchange, check?: (request: RoleRequest) => void): Credentials | Promise<Credentials> {
    return mapMaybeAsync(this.roleOf(exchange), (request) => {
      check?.(request);
      return this.#obtain(exchange, request);
    });
  }

  #obtain(exchange: Exchange, request: RoleRequest): Credentials | Promise<Credentials> {
    const { store } = this.#options;
    const ready = store.get(request);
    if (ready) return (exchange.credentials = ready);
    exchange.hadToWait = true;
    return store.obtain(request).then((credentials) => (exchange.credentials = credentials));
  }
}
