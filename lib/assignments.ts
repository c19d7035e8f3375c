import type { Container } from './docker/container.ts';
import type { CredentialStore } from './credentials/store.ts';
import { BadRoleRequest } from './roles/bad-request.ts';
import { parseRoleClaim, type Assignment, type RoleClaim } from './roles/container-request.ts';
import { roleKey, type RoleRequest } from './roles/role-request.ts';
import type { RoleSettings } from './roles/role-settings.ts';

/** Neither the container nor the settings name a role. */
export class NoRole extends Error {}

export interface AssignmentOptions {
  store: Pick<CredentialStore<RoleRequest>, 'warm' | 'retain' | 'release' | 'intern'>;
  settings: RoleSettings;
  /** Whether containers on the host's network can be told apart, and so have roles. */
  hostNetwork?: boolean;
  /** Told once for each container whose role, policy, duration … means nothing. */
  onBadRequest: (container: Container, error: BadRoleRequest) => void;
}

/**
 * Which role each container has, and that its credentials are there before it asks: what the directory tells of
 * containers goes to the credential store from here.
 */
export class RoleAssignments {
  readonly #store: AssignmentOptions['store'];
  readonly #onBadRequest: AssignmentOptions['onBadRequest'];
  readonly #hostNetwork: boolean;
  #settings: RoleSettings;
  #claims = new WeakMap<Container, RoleClaim>();
  readonly #retained = new Map<Container, RoleRequest | undefined>();
  /** Running containers that share another one's network, by that other one's id. */
  readonly #peers = new Map<string, Set<Container>>();

  constructor({ store, settings, hostNetwork = false, onBadRequest }: AssignmentOptions) {
    this.#store = store;
    this.#hostNetwork = hostNetwork;
    this.#settings = settings;
    this.#onBadRequest = onBadRequest;
  }

  /**
   * A container that names no role has that of a container which shares its network, then the default one.
   *
   * @throws BadRoleRequest when what the container asks for means nothing, NoRole when it has no role
   */
  requestFor(container: Container): RoleRequest {
    return this.assignmentOf(container).request;
  }

  /** The same, with where the role comes from. */
  assignmentOf(container: Container): Assignment {
    const { declared, fallback } = this.#claim(container);
    const assignment = declared ?? this.#peersClaim(container) ?? fallback;
    if (assignment instanceof BadRoleRequest) throw assignment;
    if (!assignment) throw new NoRole('the container names no role, and there is no default role');
    return assignment;
  }

  /** Whether it names no role, and so has that of a container which shares its network, if there is one. */
  mayUsePeerRole(container: Container): boolean {
    return container.network === 'own' && this.#claim(container).declared === undefined;
  }

  known(container: Container): void {
    const request = this.#requestToWarm(container);
    if (request) this.#store.warm(request);
  }

  started(container: Container): void {
    if (typeof container.network === 'object') {
      const { sharedWith } = container.network;
      this.#peers.set(sharedWith, (this.#peers.get(sharedWith) ?? new Set()).add(container));
    }
    const request = this.#requestToWarm(container);
    this.#retained.set(container, request);
    if (request) this.#store.retain(request);
  }

  ended(container: Container): void {
    if (typeof container.network === 'object') {
      const peers = this.#peers.get(container.network.sharedWith);
      peers?.delete(container);
      if (peers?.size === 0) this.#peers.delete(container.network.sharedWith);
    }
    const request = this.#retained.get(container);
    this.#retained.delete(container);
    if (request) this.#store.release(request);
  }

  /** Reads every running container's wish anew, under changed settings. */
  replaceSettings(settings: RoleSettings): void {
    this.#settings = settings;
    this.#claims = new WeakMap();
    for (const [container, before] of this.#retained) {
      const now = this.#requestToWarm(container);
      // The new one first: what both mean stays in the store.
      if (now) this.#store.retain(now);
      if (before) this.#store.release(before);
      this.#retained.set(container, now);
    }
  }

  /** What to keep ready for a container; nothing for one that no request can come from. */
  #requestToWarm(container: Container): RoleRequest | undefined {
    const { network } = container;
    if (network === 'none' || (network === 'host' && !this.#hostNetwork)) return undefined;
    const { declared, fallback } = this.#claim(container);
    const assignment = declared ?? (typeof network === 'string' ? fallback : undefined);
    return assignment instanceof BadRoleRequest ? undefined : assignment?.request;
  }

  #claim(container: Container): RoleClaim {
    let claim = this.#claims.get(container);
    if (!claim) {
      const { declared, fallback } = parseRoleClaim(container, this.#settings);
      claim = { declared: this.#interned(declared), fallback: this.#interned(fallback) };
      this.#claims.set(container, claim);
      const effective = claim.declared ?? claim.fallback;
      if (effective instanceof BadRoleRequest) this.#onBadRequest(container, effective);
    }
    return claim;
  }

  #interned(assignment: RoleClaim['declared']): RoleClaim['declared'] {
    if (!assignment || assignment instanceof BadRoleRequest) return assignment;
    return { ...assignment, request: this.#store.intern(assignment.request) };
  }

  /**
   * They cannot be told apart: what they name counts only if they name one role. Those on the host's network can be,
   * and each has what it names itself.
   */
  #peersClaim(container: Container): RoleClaim['declared'] {
    if (container.network === 'host') return undefined;
    let found: Assignment | undefined;
    for (const peer of this.#peers.get(container.id) ?? []) {
      const { declared } = this.#claim(peer);
      if (!declared || declared instanceof BadRoleRequest) continue;
      if (found && roleKey(found.request.role) !== roleKey(declared.request.role)) {
        return new BadRoleRequest('containers that share its network name different roles');
      }
      found ??= declared;
    }
    return found;
  }
}
