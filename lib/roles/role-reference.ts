import { BadRoleRequest, quote } from './bad-request.ts';
import { isAccountId, isRoleName, isRolePath, parseRoleArn, type RoleArn } from './role-arn.ts';

/** A role as a container or a setting names it; `text` is its spelling there. Only IAM can resolve a bare name. */
export type RoleReference = { readonly text: string } & (
  | { readonly kind: 'arn'; readonly role: RoleArn }
  | { readonly kind: 'account'; readonly name: string; readonly path: string; readonly accountId: string }
  | { readonly kind: 'name'; readonly name: string; readonly path: string }
);

export const ROLE_STRING_FORMS = '"name", "name@123456789012", "path/name@123456789012" or a role ARN';

/** Account ids by the operator's names for them (AWS_ACCOUNT_MAP). */
export type AccountNames = ReadonlyMap<string, string>;
const NO_NAMES: AccountNames = new Map();

/**
 * Parses `name`, `name@account`, `path/name@account` or an ARN of any partition; an account is 12 digits or one of the
 * given names. A role with an `@` in its name needs its ARN.
 *
 * @throws BadRoleRequest
 */
export function parseRoleReference(text: string, accounts: AccountNames = NO_NAMES): RoleReference {
  if (text.startsWith('arn:')) {
    const role = parseRoleArn(text);
    if (!role) throw new BadRoleRequest(`${quote(text)} is not a role ARN; expected arn:aws:iam::123456789012:role/name`);
    return { kind: 'arn', text, role };
  }

  const at = text.lastIndexOf('@');
  const pathAndName = at === -1 ? text : text.slice(0, at);
  const slash = pathAndName.lastIndexOf('/');
  const name = pathAndName.slice(slash + 1);
  const path = `/${pathAndName.slice(0, slash + 1).replace(/^\//, '')}`;
  if (!isRoleName(name) || !isRolePath(path)) {
    throw new BadRoleRequest(`${quote(text)} is not a role; expected ${ROLE_STRING_FORMS}`);
  }
  if (at === -1) return { kind: 'name', text, name, path };

  const account = text.slice(at + 1);
  const accountId = accounts.get(account) ?? account;
  if (!isAccountId(accountId)) {
    const names = accounts.size === 0 ? '' : ` or one of ${[...accounts.keys()].join(', ')}`;
    throw new BadRoleRequest(`${quote(text)} names the account ${quote(account)}; expected 12 digits${names} after the "@"`);
  }
  return { kind: 'account', text, name, path, accountId };
}

/** A role without an account is in the default account, if there is one. */
export function inDefaultAccount(role: RoleReference, accountId: string | undefined): RoleReference {
  return role.kind === 'name' && accountId !== undefined ? { ...role, kind: 'account', accountId } : role;
}

/** The role's bare name, as containers see it. */
export function roleName(reference: RoleReference): string {
  return reference.kind === 'arn' ? reference.role.name : reference.name;
}
