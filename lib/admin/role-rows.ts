import type { ContainerRow } from './container-rows.ts';

/** A role on the status page, with all containers that have it. */
export interface RoleRow {
  /** As the container, rule or default declares it. */
  readonly role: string;
  readonly role_arn: string | null;
  readonly containers: number;
  /** The worst state among them. */
  readonly credentials: ContainerRow['credentials'];
  /** The earliest expiry. */
  readonly expires: string | null;
  readonly error: string | null;
}

const WORST_FIRST: readonly ContainerRow['credentials'][] = ['failing', 'none', 'unknown', 'ready'];

/** Sorted by role. */
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

/** @param a as from `toISOString` */
function earlier(a: string | null, b: string | null): string | null {
  if (a === null || b === null) return a ?? b;
  return a < b ? a : b;
}
