import { UnknownCaller, type Container } from '../containers/container.ts';
import type { ContainerDirectory } from '../containers/directory.ts';
import type { Credentials } from '../credentials/credentials.ts';
import type { CredentialStore } from '../credentials/store.ts';
import type { RoleAssignments } from '../roles/assignments.ts';
import type { RoleRequest } from '../roles/role-request.ts';
import type { Exchange } from './exchange.ts';

export interface CallerSources {
  directory: Pick<ContainerDirectory, 'find'>;
  assignments: Pick<RoleAssignments, 'requestFor'>;
  store: Pick<CredentialStore<RoleRequest>, 'get' | 'obtain'>;
}

/** From whoever is asking to what they may have. What is found stands in the exchange, for the log. */
export class Callers {
  readonly #sources: CallerSources;

  constructor(sources: CallerSources) {
    this.#sources = sources;
  }

  /** @throws UnknownCaller, DirectoryUnavailable, NoRole, BadRoleString */
  async roleOf(exchange: Exchange): Promise<RoleRequest> {
    const found = this.#sources.directory.find(exchange.address);
    const container: Container | undefined = found instanceof Promise ? await found : found;
    if (!container) throw new UnknownCaller(`no container has the address ${exchange.address}`);
    exchange.container = container;
    return (exchange.roleRequest = this.#sources.assignments.requestFor(container));
  }

  /** @throws AssumeRoleDenied, CredentialsUnavailable */
  async credentialsFor(exchange: Exchange, request: RoleRequest): Promise<Credentials> {
    const { store } = this.#sources;
    const ready = store.get(request);
    exchange.hadToWait = !ready;
    return (exchange.credentials = ready ?? (await store.obtain(request)));
  }
}
