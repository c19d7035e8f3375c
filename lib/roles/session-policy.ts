import { BadRoleRequest, quote } from './bad-request.ts';

/** Source: STS API reference, `AssumeRole`, Policy. STS also limits the packed size, which only STS can compute. */
const MAX_POLICY_LENGTH = 2048;

/**
 * Parses a session policy, which limits a session to part of what its role allows.
 *
 * @returns the policy as compact JSON
 * @throws BadRoleRequest
 */
export function parseSessionPolicy(text: string): string {
  let policy: unknown;
  try {
    policy = JSON.parse(text);
  } catch (error) {
    throw new BadRoleRequest(`the session policy ${quote(text)} is not JSON (${(error as Error).message})`);
  }
  return sessionPolicy(policy);
}

/** The same for a policy that is part of a JSON file. */
export function sessionPolicy(policy: unknown): string {
  if (typeof policy !== 'object' || policy === null || Array.isArray(policy) || !('Statement' in policy)) {
    throw new BadRoleRequest('the session policy is not a JSON object with a "Statement"');
  }
  const compact = JSON.stringify(policy);
  if (compact.length > MAX_POLICY_LENGTH) {
    throw new BadRoleRequest(`the session policy has ${compact.length} characters; STS accepts ${MAX_POLICY_LENGTH}`);
  }
  return compact;
}
