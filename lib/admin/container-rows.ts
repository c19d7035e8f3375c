import type { Container } from '../docker/container.ts';
import type { CredentialStore } from '../credentials/store.ts';
import type { RoleAssignments } from '../assignments.ts';
import { BadRoleRequest } from '../roles/bad-request.ts';
import type { RoleRequest } from '../roles/role-request.ts';

/** A container as an operator sees it. No secret is in it. */
export interface ContainerRow {
  readonly name: string;
  readonly id: string;
  readonly image: string;
  readonly addresses: readonly string[];
  /** The role as it was written, or null. */
  readonly role: string | null;
  /** Its ARN, as far as it is known. */
  readonly role_arn: string | null;
  /** Where the role comes from; why there is none. */
  readonly source: string;
  readonly credentials: 'ready' | 'failing' | 'none' | 'unknown';
  readonly expires: string | null;
  /** Why new credentials could not be had the last time, or what is wrong with what the container asks for. */
  readonly error: string | null;
  /** How many it has made; null where nobody counts. */
  readonly requests: number | null;
  /** The last request that was not served. */
  readonly last_error: { readonly time: string; readonly message: string } | null;
}

/** What containers asked, with times in milliseconds since the epoch. */
export type RequestCounts = (container: Container) => {
  readonly requests: number;
  readonly lastError: { readonly time: number; readonly message: string } | undefined;
};

export interface RowSources {
  readonly assignments: Pick<RoleAssignments, 'assignmentOf'>;
  /** Without one, the state of the credentials is unknown. */
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
    // To have no role is no mistake; to ask for one that means nothing is.
    const mistake = error instanceof BadRoleRequest ? message : null;
    return { role: null, role_arn: null, source: message, credentials: 'none', expires: null, error: mistake };
  }
}

function iso(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}
