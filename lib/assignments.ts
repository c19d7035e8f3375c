import type { Container } from './docker/container.ts';
import type { CredentialStore } from './credentials/store.ts';
import { BadRoleRequest } from './roles/bad-request.ts';
import { readWish, type Assignment, type Wish } from './roles/container-request.ts';
import { meaningOf, type RoleRequest } from './roles/role-request.ts';
import type { RoleSettings } from './roles/role-settings.ts';

/** Neither the container nor the settings name a role. */
export class NoRole extends Error {}

export interface AssignmentOptions {
  store: Pick<CredentialStore<RoleRequest>, 'warm' | 'retain' | 'release' | 'same'>;
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
  #wishes = new WeakMap<Container, Wish>();
  readonly #retained = new Map<Container, RoleRequest | undefined>();
  /** Running containers that share another one's network, by that other one's id. */
  readonly #sharers = new Map<string, Set<Container>>();

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
    const { own, otherwise } = this.#wish(container);
    const assignment = own ?? this.#sharersWish(container) ?? otherwise;
    if (assignment instanceof BadRoleRequest) throw assignment;
    if (!assignment) throw new NoRole('the container names no role, and there is no default role');
    return assignment;
  }

  /** Whether it names no role, and so has that of a container which shares its network, if there is one. */
  mayHaveSharersRole(container: Container): boolean {
    return container.network === 'own' && this.#wish(container).own === undefined;
  }

  known(container: Container): void {
    const request = this.#ownRequest(container);
    if (request) this.#store.warm(request);
  }

  started(container: Container): void {
    if (typeof container.network === 'object') {
      const { sharedWith } = container.network;
      this.#sharers.set(sharedWith, (this.#sharers.get(sharedWith) ?? new Set()).add(container));
    }
    const request = this.#ownRequest(container);
    this.#retained.set(container, request);
    if (request) this.#store.retain(request);
  }

  ended(container: Container): void {
    if (typeof container.network === 'object') {
      const sharers = this.#sharers.get(container.network.sharedWith);
      sharers?.delete(container);
      if (sharers?.size === 0) this.#sharers.delete(container.network.sharedWith);
    }
    const request = this.#retained.get(container);
    this.#retained.delete(container);
    if (request) this.#store.release(request);
  }

  /** Reads every running container's wish anew, under changed settings. */
  replaceSettings(settings: RoleSettings): void {
    this.#settings = settings;
    this.#wishes = new WeakMap();
    for (const [container, before] of this.#retained) {
      const now = this.#ownRequest(container);
      // The new one first: what both mean stays in the store.
      if (now) this.#store.retain(now);
      if (before) this.#store.release(before);
      this.#retained.set(container, now);
    }
  }

  /** What to keep ready for a container; nothing for one that no request can come from. */
  #ownRequest(container: Container): RoleRequest | undefined {
    const { network } = container;
    if (network === 'none' || (network === 'host' && !this.#hostNetwork)) return undefined;
    const { own, otherwise } = this.#wish(container);
    const assignment = own ?? (typeof network === 'string' ? otherwise : undefined);
    return assignment instanceof BadRoleRequest ? undefined : assignment?.request;
  }

  #wish(container: Container): Wish {
    let wish = this.#wishes.get(container);
    if (!wish) {
      const { own, otherwise } = readWish(container, this.#settings);
      wish = { own: this.#shared(own), otherwise: this.#shared(otherwise) };
      this.#wishes.set(container, wish);
      const effective = wish.own ?? wish.otherwise;
      if (effective instanceof BadRoleRequest) this.#onBadRequest(container, effective);
    }
    return wish;
  }

  #shared(assignment: Wish['own']): Wish['own'] {
    if (!assignment || assignment instanceof BadRoleRequest) return assignment;
    return { ...assignment, request: this.#store.same(assignment.request) };
  }

  /**
   * They cannot be told apart: what they name counts only if they name one role. Those on the host's network can be,
   * and each has what it names itself.
   */
  #sharersWish(container: Container): Wish['own'] {
    if (container.network === 'host') return undefined;
    let found: Assignment | undefined;
    for (const sharer of this.#sharers.get(container.id) ?? []) {
      const { own } = this.#wish(sharer);
      if (!own || own instanceof BadRoleRequest) continue;
      if (found && meaningOf(found.request.role) !== meaningOf(own.request.role)) {
        return new BadRoleRequest('containers that share its network name different roles');
      }
      found ??= own;
    }
    return found;
  }
}
