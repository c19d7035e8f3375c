import type { RoleReference } from './role-reference.ts';

/**
 * Everything that decides what AssumeRole answers, and so the key under which credentials are kept: no container
 * obtains what another one's external id or session policy obtained.
 */
export interface RoleRequest {
  readonly role: RoleReference;
  readonly sessionName: string;
  readonly externalId?: string;
  /** Identifies the request among all others. */
  readonly key: string;
}

/** @param parameters what AssumeRole is to be given */
export function roleRequest(parameters: Omit<RoleRequest, 'key'>): RoleRequest {
  const { role, sessionName, externalId } = parameters;
  const named = role.kind === 'arn' ? role.role.arn : [role.path, role.name, role.kind === 'account' && role.accountId];
  return { ...parameters, key: JSON.stringify([named, sessionName, externalId ?? null]) };
}
