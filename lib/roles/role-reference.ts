import { isAccountId, isRoleName, isRolePath, parseRoleArn, type RoleArn } from './role-arn.ts';

/**
 * How a container, or a setting, names a role; `text` is how it was written. Without an account only IAM can tell which
 * role a name means.
 */
export type RoleReference = { readonly text: string } & (
  | { readonly kind: 'arn'; readonly role: RoleArn }
  | { readonly kind: 'account'; readonly name: string; readonly path: string; readonly accountId: string }
  | { readonly kind: 'name'; readonly name: string; readonly path: string }
);

/** A role string that means no role. The message says what would. */
export class BadRoleString extends Error {}

export const ROLE_STRING_FORMS = '"name", "name@123456789012", "path/name@123456789012" or a role ARN';

/**
 * Reads `name`, `name@account`, `path/name@account` or an ARN of any partition. A role whose own name has an `@` is
 * given by its ARN.
 *
 * @throws BadRoleString
 */
export function parseRoleReference(text: string): RoleReference {
  if (text.startsWith('arn:')) {
    const role = parseRoleArn(text);
    if (!role) throw new BadRoleString(`${quote(text)} is not a role ARN; expected arn:aws:iam::123456789012:role/name`);
    return { kind: 'arn', text, role };
  }

  const at = text.lastIndexOf('@');
  const pathAndName = at === -1 ? text : text.slice(0, at);
  const slash = pathAndName.lastIndexOf('/');
  const name = pathAndName.slice(slash + 1);
  const path = `/${pathAndName.slice(0, slash + 1).replace(/^\//, '')}`;
  if (!isRoleName(name) || !isRolePath(path)) {
    throw new BadRoleString(`${quote(text)} is not a role; expected ${ROLE_STRING_FORMS}`);
  }
  if (at === -1) return { kind: 'name', text, name, path };

  const accountId = text.slice(at + 1);
  if (!isAccountId(accountId)) {
    throw new BadRoleString(`${quote(text)} names the account ${quote(accountId)}; expected 12 digits after the "@"`);
  }
  return { kind: 'account', text, name, path, accountId };
}

/** The role's bare name, which is what containers see. */
export function roleName(reference: RoleReference): string {
  return reference.kind === 'arn' ? reference.role.name : reference.name;
}

/** Long enough to recognise what was given, short enough for a log line. */
function quote(text: string): string {
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}
