import { BadRoleRequest, quote } from './bad-request.ts';

/** Source: STS API reference, `AssumeRole`, Policy. What it is packed to counts as well, but only STS knows that. */
const MAX_POLICY_LENGTH = 2048;

/**
 * A session policy: what a role's session may do, of what the role may do.
 *
 * @returns the policy as the shortest JSON that says the same
 * @throws BadRoleRequest
 */
export function parseSessionPolicy(text: string): string {
  let policy: unknown;
  try {
    policy = JSON.parse(text);
  } catch (error) {
    throw new BadRoleRequest(`the session policy ${quote(text)} is no JSON (${(error as Error).message})`);
  }
  return sessionPolicy(policy);
}

/** The same for a policy that stands in a JSON file as an object. */
export function sessionPolicy(policy: unknown): string {
  if (typeof policy !== 'object' || policy === null || Array.isArray(policy) || !('Statement' in policy)) {
    throw new BadRoleRequest('the session policy is not a JSON object with a "Statement"');
  }
  const compact = JSON.stringify(policy);
  if (compact.length > MAX_POLICY_LENGTH) {
    throw new BadRoleRequest(`the session policy has ${compact.length} characters; STS takes ${MAX_POLICY_LENGTH}`);
  }
  return compact;
}
