import type { ContainerRow } from './container-rows.ts';

/** A role as an operator sees it, over all containers that have it. */
export interface RoleRow {
  /** As it was written. */
  readonly role: string;
  readonly role_arn: string | null;
  readonly containers: number;
  /** The worst of their credentials. */
  readonly credentials: ContainerRow['credentials'];
  /** The first that expires. */
  readonly expires: string | null;
  readonly error: string | null;
}

const WORST_FIRST: readonly ContainerRow['credentials'][] = ['failing', 'none', 'unknown', 'ready'];

/** In the order of the roles' names. */
export function roleRows(containers: readonly ContainerRow[]): RoleRow[] {
  const rows = new Map<string, RoleRow>();
  for (const { role, role_arn, credentials, expires, error } of containers) {
    if (role === null) continue;
    const row = rows.get(role);
    rows.set(role, {
      role,
      role_arn: row?.role_arn ?? role_arn,
      containers: (row?.containers ?? 0) + 1,
      credentials: WORST_FIRST.find((state) => state === credentials || state === row?.credentials) ?? credentials,
      expires: earlier(row?.expires ?? null, expires),
      error: row?.error ?? error,
    });
  }
  return [...rows.values()].sort((a, b) => (a.role < b.role ? -1 : 1));
}

/** Of times as `toISOString` writes them. */
function earlier(a: string | null, b: string | null): string | null {
  if (a === null || b === null) return a ?? b;
  return a < b ? a : b;
}
