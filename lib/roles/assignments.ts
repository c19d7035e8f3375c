import { shortId, type Container } from '../containers/container.ts';
import type { CredentialStore } from '../credentials/store.ts';
import { BadRoleString, parseRoleReference, type RoleReference } from './role-reference.ts';
import { roleRequest, type RoleRequest } from './role-request.ts';

/** Neither the container nor the settings name a role. */
export class NoRole extends Error {}

export interface AssignmentOptions {
  store: Pick<CredentialStore<RoleRequest>, 'warm' | 'retain' | 'release'>;
  /** For containers that name no role. */
  defaultRole: RoleReference | undefined;
  /** The account of roles that are named without one. */
  defaultAccountId: string | undefined;
  /** Told once for each container whose role string means no role. */
  onBadRole: (container: Container, error: BadRoleString) => void;
}

export const ROLE_VARIABLE = 'IAM_ROLE';
export const EXTERNAL_ID_VARIABLE = 'IAM_EXTERNAL_ID';

/** STS takes 2 to 64 of these characters as a session name. Source: STS API reference, `AssumeRole`. */
const NOT_IN_SESSION_NAME = /[^\w+=,.@-]/g;
const LONGEST_SESSION_NAME = 64;

/** What a container itself asks for: a request, nothing, or something that means no role. */
type Wish = RoleRequest | BadRoleString | undefined;

/**
 * Which role each container has, and that its credentials are there before it asks: what the directory tells of
 * containers goes to the credential store from here.
 */
export class RoleAssignments {
  readonly #options: AssignmentOptions;
  readonly #wishes = new WeakMap<Container, { own: Wish; otherwise: RoleRequest | undefined }>();
  readonly #retained = new Map<Container, RoleRequest>();
  /** Running containers that share another one's network and name a role, by that other one's id. */
  readonly #sharers = new Map<string, Set<Container>>();

  constructor(options: AssignmentOptions) {
    this.#options = options;
  }

  /**
   * A container that names no role has that of a container which shares its network, then the default one.
   *
   * @throws BadRoleString when the container's own role string means no role, NoRole when it has none
   */
  requestFor(container: Container): RoleRequest {
    const { own, otherwise } = this.#wish(container);
    const request = own ?? this.#wishOfSharer(container) ?? otherwise;
    if (request instanceof BadRoleString) throw request;
    if (!request) throw new NoRole('the container names no role, and there is no default role');
    return request;
  }

  known(container: Container): void {
    const request = this.#ownRequest(container);
    if (request) this.#options.store.warm(request);
  }

  started(container: Container): void {
    if (typeof container.network === 'object' && this.#wish(container).own) {
      const { sharedWith } = container.network;
      this.#sharers.set(sharedWith, (this.#sharers.get(sharedWith) ?? new Set()).add(container));
    }
    const request = this.#ownRequest(container);
    if (!request) return;
    this.#retained.set(container, request);
    this.#options.store.retain(request);
  }

  ended(container: Container): void {
    if (typeof container.network === 'object') {
      const sharers = this.#sharers.get(container.network.sharedWith);
      sharers?.delete(container);
      if (sharers?.size === 0) this.#sharers.delete(container.network.sharedWith);
    }
    const request = this.#retained.get(container);
    if (!request) return;
    this.#retained.delete(container);
    this.#options.store.release(request);
  }

  /** What to keep ready for a container; nothing for one that no request can come from. */
  #ownRequest(container: Container): RoleRequest | undefined {
    const { own, otherwise } = this.#wish(container);
    if (own instanceof BadRoleString) return undefined;
    switch (container.network) {
      case 'own':
        return own ?? otherwise;
      case 'host':
      case 'none':
        return undefined;
      default:
        return own;
    }
  }

  #wish(container: Container): { own: Wish; otherwise: RoleRequest | undefined } {
    let wish = this.#wishes.get(container);
    if (!wish) {
      const { defaultRole } = this.#options;
      wish = { own: this.#readWish(container), otherwise: defaultRole && this.#request(container, defaultRole) };
      this.#wishes.set(container, wish);
    }
    return wish;
  }

  #readWish(container: Container): Wish {
    const text = container.env.get(ROLE_VARIABLE)?.trim();
    if (text === undefined || text === '') return undefined;
    try {
      return this.#request(container, parseRoleReference(text));
    } catch (error) {
      if (!(error instanceof BadRoleString)) throw error;
      this.#options.onBadRole(container, error);
      return error;
    }
  }

  #wishOfSharer(container: Container): Wish {
    const [first] = this.#sharers.get(container.id) ?? [];
    return first && this.#wish(first).own;
  }

  #request(container: Container, role: RoleReference): RoleRequest {
    const { defaultAccountId } = this.#options;
    const externalId = container.env.get(EXTERNAL_ID_VARIABLE);
    return roleRequest({
      role: role.kind === 'name' && defaultAccountId ? { ...role, kind: 'account', accountId: defaultAccountId } : role,
      sessionName: sessionName(container),
      ...(externalId ? { externalId } : {}),
    });
  }
}

/** `{container name}-{short id}`, so that CloudTrail shows which container acted; the id is kept whole. */
function sessionName(container: Container): string {
  const id = shortId(container);
  const name = container.name.replace(NOT_IN_SESSION_NAME, '_').slice(0, LONGEST_SESSION_NAME - id.length - 1);
  return name === '' ? id : `${name}-${id}`;
}
