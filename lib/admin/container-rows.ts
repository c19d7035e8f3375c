import type { Container } from '../docker/container.ts';
import type { CredentialStore } from '../credentials/store.ts';
import type { RoleAssignments } from '../assignments.ts';
import { BadRoleRequest } from '../roles/bad-request.ts';
import type { RoleRequest } from '../roles/role-request.ts';

/** A container on the status page. Contains no secrets. */
export interface ContainerRow {
  readonly name: string;
  readonly id: string;
  readonly image: string;
  readonly addresses: readonly string[];
  /** The role as the container, rule or default declares it; null without a role. */
  readonly role: string | null;
  /** Null while it is unknown. */
  readonly role_arn: string | null;
  /** Where the role comes from, or why there is none. */
  readonly source: string;
  readonly credentials: 'ready' | 'failing' | 'none' | 'unknown';
  readonly expires: string | null;
  /** Why the last attempt to get credentials failed, or why the role request is invalid. */
  readonly error: string | null;
  /** Null if nothing counts them. */
  readonly requests: number | null;
  /** Of the last request that was refused or failed. */
  readonly last_error: { readonly time: string; readonly message: string } | null;
}

/** Times are milliseconds since the epoch. */
export type RequestCounts = (container: Container) => {
  readonly requests: number;
  readonly lastError: { readonly time: number; readonly message: string } | undefined;
};

export interface RowSources {
  readonly assignments: Pick<RoleAssignments, 'assignmentOf'>;
  /** Without a store, the state of credentials is unknown. */
  readonly store?: Pick<CredentialStore<RoleRequest>, 'inspect'>;
  readonly counts?: RequestCounts;
}

export function containerRows(
  started: Iterable<{ container: Container; addresses: readonly string[] }>,
  { assignments, store, counts }: RowSources,
): ContainerRow[] {
  return [...started].map(({ container, addresses }) => {
    const { name, shortId: id, image } = container;
    const { requests = null, lastError } = counts?.(container) ?? {};
    return {
      name,
      id,
      image,
      addresses,
      ...roleColumns(container, assignments, store),
      requests,
      last_error: lastError ? { time: iso(lastError.time), message: lastError.message } : null,
    };
  });
}

type RoleColumns = Pick<ContainerRow, 'role' | 'role_arn' | 'source' | 'credentials' | 'expires' | 'error'>;

function roleColumns(
  container: Container,
  assignments: RowSources['assignments'],
  store: RowSources['store'],
): RoleColumns {
  try {
    const { request, source } = assignments.assignmentOf(container);
    const { credentials, error } = store?.inspect(request) ?? {};
    return {
      role: request.role.text,
      role_arn: credentials?.roleArn ?? (request.role.kind === 'arn' ? request.role.role.arn : null),
      source,
      credentials: !store ? 'unknown' : credentials ? 'ready' : error ? 'failing' : 'none',
      expires: credentials ? iso(credentials.expiration) : null,
      error: error?.message ?? null,
    };
  } catch (error) {
    const { message } = error as Error;
    // A container without a role is no error, an invalid role request is one.
    const invalid = error instanceof BadRoleRequest ? message : null;
    return { role: null, role_arn: null, source: message, credentials: 'none', expires: null, error: invalid };
  }
}

function iso(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}
