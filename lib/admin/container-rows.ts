import type { Container } from '../containers/container.ts';
import type { CredentialStore } from '../credentials/store.ts';
import type { RoleAssignments } from '../roles/assignments.ts';
import type { RoleRequest } from '../roles/role-request.ts';

/** A container as an operator sees it. No secret is in it. */
export interface ContainerRow {
  readonly name: string;
  readonly id: string;
  readonly image: string;
  readonly addresses: readonly string[];
  /** The role as it was written, or null. */
  readonly role: string | null;
  /** Where the role comes from; why there is none. */
  readonly source: string;
  readonly credentials: 'ready' | 'failing' | 'none' | 'unknown';
  readonly expires: string | null;
  readonly error: string | null;
}

/** @param store without one, the state of the credentials is unknown */
export function containerRows(
  started: Iterable<{ container: Container; addresses: readonly string[] }>,
  assignments: Pick<RoleAssignments, 'assignmentOf'>,
  store?: Pick<CredentialStore<RoleRequest>, 'look'>,
): ContainerRow[] {
  return [...started].map(({ container, addresses }) => {
    const { name, shortId: id, image } = container;
    return { name, id, image, addresses, ...roleColumns(container, assignments, store) };
  });
}

type RoleColumns = Pick<ContainerRow, 'role' | 'source' | 'credentials' | 'expires' | 'error'>;

function roleColumns(
  container: Container,
  assignments: Pick<RoleAssignments, 'assignmentOf'>,
  store: Pick<CredentialStore<RoleRequest>, 'look'> | undefined,
): RoleColumns {
  try {
    const { request, source } = assignments.assignmentOf(container);
    const { credentials, error } = store?.look(request) ?? {};
    return {
      role: request.role.text,
      source,
      credentials: !store ? 'unknown' : credentials ? 'ready' : error ? 'failing' : 'none',
      expires: credentials ? new Date(credentials.expiration).toISOString() : null,
      error: error?.message ?? null,
    };
  } catch (error) {
    return { role: null, source: (error as Error).message, credentials: 'none', expires: null, error: null };
  }
}
