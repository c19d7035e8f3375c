import { rethrowUndetermined, type Caller } from './caller.ts';
import type { CredentialStore } from './credentials/store.ts';
import type { Container } from './docker/container.ts';
import type { ContainerDirectory } from './docker/directory.ts';
import type { Events } from './events.ts';
import { BadRoleRequest } from './roles/bad-request.ts';
import { parseRoleClaim, type Assignment, type RoleClaim } from './roles/role-claim.ts';
import { roleKey, type RoleRequest } from './roles/role-request.ts';
import type { RoleSettings } from './roles/role-settings.ts';

/** The caller declares no role, and no default role applies. */
export class NoRole extends Error {}

export interface AssignmentOptions {
  directory: Pick<ContainerDirectory, 'subscribe' | 'peersOf' | 'peersKnown'>;
  store: Pick<CredentialStore<RoleRequest>, 'warm' | 'retain' | 'release' | 'intern'>;
  settings: RoleSettings;
  /** Whether host-network containers can be identified, and so have roles. */
  hostNetwork: boolean;
  events: Pick<Events, 'roleRequestInvalid'>;
}

/**
 * The role request of each caller. Follows the container directory, so that the credential store fetches a container's
 * credentials before its first request and keeps them as long as it runs.
 */
export class RoleAssignments {
  readonly #options: Omit<AssignmentOptions, 'settings'>;
  #settings: RoleSettings;
  #claims = new WeakMap<Caller, RoleClaim>();
  readonly #retained = new Map<Caller, RoleRequest | undefined>();

  constructor({ settings, ...options }: AssignmentOptions) {
    this.#options = options;
    this.#settings = settings;
    options.directory.subscribe(this);
  }

  /**
   * The role request of a caller, in this order: what it declares, what its network peers declare, the fallback. Returns
   * the request itself, without a promise, where the peers are known or do not matter.
   *
   * @throws BadRoleRequest for an invalid declaration, NoRole, CallerUndetermined when the peers cannot be determined now
   */
  requestFor(caller: Caller): RoleRequest | Promise<RoleRequest> {
    const pending = this.#mayUsePeerRole(caller) ? this.#options.directory.peersKnown(caller) : undefined;
    if (!pending) return this.assignmentOf(caller).request;
    return pending.then(() => this.assignmentOf(caller).request, rethrowUndetermined);
  }

  /**
   * The assignment by what is known now, for an operator and for metrics.
   *
   * @throws BadRoleRequest, NoRole
   */
  assignmentOf(caller: Caller): Assignment {
    const assignment = this.#effectiveClaim(caller);
    if (assignment instanceof BadRoleRequest) throw assignment;
    if (!assignment) throw new NoRole('the caller declares no role, and there is no default role');
    return assignment;
  }

  /** The role request by what is known now; undefined where there is none. For every request, so it makes no error. */
  peekRequest(caller: Caller): RoleRequest | undefined {
    const assignment = this.#effectiveClaim(caller);
    return assignment instanceof BadRoleRequest ? undefined : assignment?.request;
  }

  /** A container was created, or found. */
  known(container: Container): void {
    const request = this.#requestToWarm(container);
    if (request) this.#options.store.warm(request);
  }

  /** Keeps the credentials of a caller fresh until `ended`. */
  started(caller: Caller): void {
    const request = this.#requestToWarm(caller);
    this.#retained.set(caller, request);
    if (request) this.#options.store.retain(request);
  }

  ended(caller: Caller): void {
    const request = this.#retained.get(caller);
    this.#retained.delete(caller);
    if (request) this.#options.store.release(request);
  }

  replaceSettings(settings: RoleSettings): void {
    const { store } = this.#options;
    this.#settings = settings;
    this.#claims = new WeakMap();
    for (const [caller, before] of this.#retained) {
      const now = this.#requestToWarm(caller);
      // Retain first: a request that stays the same must not leave the store.
      if (now) store.retain(now);
      if (before) store.release(before);
      this.#retained.set(caller, now);
    }
  }

  #effectiveClaim(caller: Caller): RoleClaim['declared'] {
    const { declared, fallback } = this.#claim(caller);
    return declared ?? this.#peersClaim(caller) ?? fallback;
  }

  /** Only a container with a network of its own that declares no role has the role of its network peers. */
  #mayUsePeerRole(caller: Caller): caller is Container {
    return caller.kind === 'container' && caller.network === 'own' && this.#claim(caller).declared === undefined;
  }

  /** The request to have ready for a caller; undefined if no request can come from it. */
  #requestToWarm(caller: Caller): RoleRequest | undefined {
    const network = caller.kind === 'container' ? caller.network : 'own';
    if (network === 'none' || (network === 'host' && !this.#options.hostNetwork)) return undefined;
    const { declared, fallback } = this.#claim(caller);
    // A peer's requests come from the address of the network's owner, whose fallback applies.
    const assignment = declared ?? (typeof network === 'string' ? fallback : undefined);
    return assignment instanceof BadRoleRequest ? undefined : assignment?.request;
  }

  #claim(caller: Caller): RoleClaim {
    let claim = this.#claims.get(caller);
    if (!claim) {
      const { declared, fallback } = parseRoleClaim(caller, this.#settings);
      claim = { declared: this.#interned(declared), fallback: this.#interned(fallback) };
      this.#claims.set(caller, claim);
      const effective = claim.declared ?? claim.fallback;
      if (effective instanceof BadRoleRequest) this.#options.events.roleRequestInvalid(caller, effective);
    }
    return claim;
  }

  #interned(assignment: RoleClaim['declared']): RoleClaim['declared'] {
    if (!assignment || assignment instanceof BadRoleRequest) return assignment;
    return { ...assignment, request: this.#options.store.intern(assignment.request) };
  }

  /**
   * Network peers share an address, so their role applies only if they all declare the same one. Host-network containers
   * are identified by process and keep their own roles.
   */
  #peersClaim(caller: Caller): RoleClaim['declared'] {
    if (caller.kind !== 'container' || caller.network === 'host') return undefined;
    let found: Assignment | undefined;
    for (const peer of this.#options.directory.peersOf(caller)) {
      const { declared } = this.#claim(peer);
      if (!declared || declared instanceof BadRoleRequest) continue;
      if (found && roleKey(found.request.role) !== roleKey(declared.request.role)) {
        return new BadRoleRequest('containers that share its network declare different roles');
      }
      found ??= declared;
    }
    return found;
  }
}
