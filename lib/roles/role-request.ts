import type { ArnPattern } from './arn-pattern.ts';
import type { RoleReference } from './role-reference.ts';

/**
 * Everything that AssumeRole is given, and what decides whether it is called at all. All of it is in the store's key, so
 * that no caller gets credentials that another one's external ID, session policy or permission obtained.
 */
export interface RoleRequest {
  readonly role: RoleReference;
  readonly sessionName: string;
  readonly externalId: string | undefined;
  /** The session policy, as JSON. */
  readonly policy: string | undefined;
  readonly durationSeconds: number | undefined;
  readonly sourceIdentity: string | undefined;
  readonly tags: ReadonlyMap<string, string>;
  /** Whether the tags also apply to the roles that this role assumes. */
  readonly transitiveTags: boolean;
  /** The role's ARN must match one pattern of each list. */
  readonly allowed: readonly (readonly ArnPattern[])[];
  /** Equal for equal requests only. */
  readonly key: string;
}

export function roleRequest(parameters: Omit<RoleRequest, 'key'>): RoleRequest {
  const { role, allowed, tags, ...rest } = parameters;
  const named = roleKey(role);
  const patterns = allowed.map((list) => list.map(({ text }) => text));
  return { ...parameters, key: JSON.stringify([named, patterns, [...tags], ...sortedEntries(rest)]) };
}

/** Equal for references to the same role in the same form: an ARN and a name with its account have different keys. */
export function roleKey(role: RoleReference): string {
  return role.kind === 'arn' ? role.role.arn : [role.path, role.name, role.kind === 'account' && role.accountId].join(' ');
}

function sortedEntries(object: Readonly<Record<string, unknown>>): [string, unknown][] {
  return Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1));
}
