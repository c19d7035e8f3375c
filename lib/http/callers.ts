import type { CallerFinder } from '../callers/finder.ts';
import { UnknownCaller, type Container } from '../containers/container.ts';
import type { Credentials } from '../credentials/credentials.ts';
import type { CredentialStore } from '../credentials/store.ts';
import type { RoleAssignments } from '../roles/assignments.ts';
import type { RoleRequest } from '../roles/role-request.ts';
import { whenThere, type Exchange } from './exchange.ts';

export interface CallerSources {
  directory: Pick<CallerFinder, 'find'>;
  assignments: Pick<RoleAssignments, 'requestFor'>;
  store: Pick<CredentialStore<RoleRequest>, 'get' | 'obtain'>;
}

/** From whoever is asking to what they may have. What is found stands in the exchange, for the log. */
export class Callers {
  readonly #sources: CallerSources;

  constructor(sources: CallerSources) {
    this.#sources = sources;
  }

  /** @throws UnknownCaller, DirectoryUnavailable, NoRole, BadRoleRequest */
  roleOf(exchange: Exchange): RoleRequest | Promise<RoleRequest> {
    const found = this.#sources.directory.find(exchange.address, exchange.request.socket);
    return whenThere(found, (container) => this.#roleOf(exchange, container));
  }

  /**
   * The caller's credentials.
   *
   * @param check may refuse the role by throwing
   * @throws as roleOf; AssumeRoleDenied, CredentialsUnavailable
   */
  credentialsOf(exchange: Exchange, check?: (request: RoleRequest) => void): Credentials | Promise<Credentials> {
    return whenThere(this.roleOf(exchange), (request) => {
      check?.(request);
      return this.#credentialsFor(exchange, request);
    });
  }

  #roleOf(exchange: Exchange, container: Container | undefined): RoleRequest {
    if (!container) throw new UnknownCaller(`no container has the address ${exchange.address}`);
    exchange.container = container;
    return (exchange.roleRequest = this.#sources.assignments.requestFor(container));
  }

  #credentialsFor(exchange: Exchange, request: RoleRequest): Credentials | Promise<Credentials> {
    const { store } = this.#sources;
    const ready = store.get(request);
    if (ready) return (exchange.credentials = ready);
    exchange.hadToWait = true;
    return store.obtain(request).then((credentials) => (exchange.credentials = credentials));
  }
}
