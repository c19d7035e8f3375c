import { array, object, type JsonObject } from '../util/json.ts';
import type { CallerDescription } from '../caller.ts';
import { parseArnPattern, wildcard, type ArnPattern } from './arn-pattern.ts';
import { BadRoleRequest } from './bad-request.ts';
import { parseRoleReference, type AccountNames, type RoleReference } from './role-reference.ts';
import { sessionPolicy } from './session-policy.ts';

/** The operator's rule for matching callers: the roles that they may have, and the one that they get. */
export interface RoleRule {
  /** Its position in the file, from 1. */
  readonly number: number;
  matches(caller: CallerDescription): boolean;
  /** Takes precedence over what the caller declares. */
  readonly role: RoleReference | undefined;
  /** For callers that declare none. */
  readonly defaultRole: RoleReference | undefined;
  readonly allowed: readonly ArnPattern[] | undefined;
  readonly policy: string | undefined;
}

type Test = (caller: CallerDescription) => boolean;

const RULE_KEYS = ['match', 'allow', 'role', 'default_role', 'policy'];
const MATCH_KEYS = ['image', 'name', 'network', 'label'];

/**
 * Parses ROLE_RULES: a JSON list of rules, of which the first that matches a caller applies.
 *
 *     [{"match": {"image": "shop/*", "name": "web-*", "network": "front", "label": {"team": "a*"}},
 *       "allow": ["arn:aws:iam::123456789012:role/web-*"], "role": "web", "default_role": "web", "policy": {…}}]
 *
 * @throws BadRoleRequest naming the rule
 */
export function parseRoleRules(text: string, accounts: AccountNames): RoleRule[] {
  let rules: unknown;
  try {
    rules = JSON.parse(text);
  } catch (error) {
    throw new BadRoleRequest(`not JSON (${(error as Error).message})`);
  }
  if (!Array.isArray(rules)) throw new BadRoleRequest('not a JSON list of rules');
  return rules.map((rule, index) => {
    try {
      return parseRule(rule, index + 1, accounts);
    } catch (error) {
      throw new BadRoleRequest(`rule ${index + 1}: ${(error as Error).message}`);
    }
  });
}

function parseRule(value: unknown, number: number, accounts: AccountNames): RoleRule {
  const rule = strictObject(value, 'a rule');
  // Ignoring a misspelt key could allow what the operator meant to forbid.
  checkKeys(rule, RULE_KEYS, 'a rule');
  const tests = parseMatch(rule['match']);
  const reference = (key: string): RoleReference | undefined =>
    rule[key] === undefined ? undefined : parseRoleReference(text(rule[key], `"${key}"`), accounts);
  return {
    number,
    matches: (caller) => tests.every((test) => test(caller)),
    role: reference('role'),
    defaultRole: reference('default_role'),
    allowed: rule['allow'] === undefined ? undefined : parseAllowed(rule['allow']),
    policy: rule['policy'] === undefined ? undefined : sessionPolicy(rule['policy']),
  };
}

function parseAllowed(value: unknown): ArnPattern[] {
  if (!Array.isArray(value)) throw new BadRoleRequest('"allow" is not a list of role ARNs');
  return array(value).map((pattern) => parseArnPattern(text(pattern, 'an entry of "allow"')));
}

function parseMatch(value: unknown): Test[] {
  if (value === undefined) return [];
  const match = strictObject(value, '"match"');
  checkKeys(match, MATCH_KEYS, '"match"');
  const tests: Test[] = [];
  const pattern = (key: string): ((candidate: string) => boolean) => wildcard(text(match[key], `"${key}"`));
  if (match['image'] !== undefined) {
    const image = pattern('image');
    tests.push((caller) => image(caller.image));
  }
  if (match['name'] !== undefined) {
    const name = pattern('name');
    tests.push((caller) => name(caller.name));
  }
  if (match['network'] !== undefined) {
    const network = pattern('network');
    tests.push((caller) => caller.networks.some(network));
  }
  const labels = match['label'] === undefined ? {} : strictObject(match['label'], '"label"');
  for (const [label, wanted] of Object.entries(labels)) {
    const value = wildcard(text(wanted, `the label "${label}"`));
    tests.push((caller) => value(caller.labels.get(label) ?? '') && caller.labels.has(label));
  }
  return tests;
}

/** Any other value would be a rule or a match without conditions, which applies to every caller. */
function strictObject(value: unknown, what: string): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new BadRoleRequest(`${what} is not a JSON object`);
  }
  return object(value);
}

function checkKeys(value: Readonly<Record<string, unknown>>, known: readonly string[], what: string): void {
  const unknown = Object.keys(value).find((key) => !known.includes(key));
  if (unknown !== undefined) throw new BadRoleRequest(`unknown key "${unknown}" in ${what}; expected ${known.join(', ')}`);
}

function text(value: unknown, what: string): string {
  if (typeof value !== 'string' || value === '') throw new BadRoleRequest(`${what} is not a non-empty string`);
  return value;
}
