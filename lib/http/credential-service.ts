import type { CallerResolver } from '../callers/resolver.ts';
import { UnknownCaller, type Container } from '../docker/container.ts';
import type { Credentials } from '../credentials/credentials.ts';
import type { CredentialStore } from '../credentials/store.ts';
import type { RoleAssignments } from '../assignments.ts';
import type { RoleRequest } from '../roles/role-request.ts';
import { mapMaybeAsync, type Exchange } from './exchange.ts';

export interface CredentialServiceOptions {
  resolver: Pick<CallerResolver, 'resolve' | 'peersKnown'>;
  assignments: Pick<RoleAssignments, 'requestFor' | 'mayUsePeerRole'>;
  store: Pick<CredentialStore<RoleRequest>, 'get' | 'obtain'>;
}

/** From whoever is asking to what they may have. What is found stands in the exchange, for the log. */
export class CredentialService {
  readonly #options: CredentialServiceOptions;

  constructor(options: CredentialServiceOptions) {
    this.#options = options;
  }

  /** @throws UnknownCaller, DirectoryUnavailable, NoRole, BadRoleRequest */
  roleOf(exchange: Exchange): RoleRequest | Promise<RoleRequest> {
    const found = this.#options.resolver.resolve(exchange.address, exchange.request.socket);
    return mapMaybeAsync(found, (container) => this.#roleOf(exchange, container));
  }

  /**
   * The caller's credentials.
   *
   * @param check may refuse the role by throwing
   * @throws as roleOf; AssumeRoleDenied, CredentialsUnavailable
   */
  credentialsOf(exchange: Exchange, check?: (request: RoleRequest) => void): Credentials | Promise<Credentials> {
    return mapMaybeAsync(this.roleOf(exchange), (request) => {
      check?.(request);
      return this.#credentialsFor(exchange, request);
    });
  }

  #roleOf(exchange: Exchange, container: Container | undefined): RoleRequest | Promise<RoleRequest> {
    if (!container) throw new UnknownCaller(`no container has the address ${exchange.address}`);
    exchange.container = container;
    const { assignments, resolver } = this.#options;
    const known = assignments.mayUsePeerRole(container) ? resolver.peersKnown(container) : undefined;
    const request = (): RoleRequest => (exchange.roleRequest = assignments.requestFor(container));
    return known ? known.then(request) : request();
  }

  #credentialsFor(exchange: Exchange, request: RoleRequest): Credentials | Promise<Credentials> {
    const { store } = this.#options;
    const ready = store.get(request);
    if (ready) return (exchange.credentials = ready);
    exchange.hadToWait = true;
    return store.obtain(request).then((credentials) => (exchange.credentials = credentials));
  }
}
