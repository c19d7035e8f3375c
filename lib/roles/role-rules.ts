import { array, object, type JsonObject } from '../util/json.ts';
import type { CallerDescription } from '../caller.ts';
import { parseArnPattern, wildcard, type ArnPattern } from './arn-pattern.ts';
import { BadRoleRequest } from './bad-request.ts';
import { parseRoleReference, type AccountNames, type RoleReference } from './role-reference.ts';
import { sessionPolicy } from './session-policy.ts';

/** What an operator says of the containers that match: which roles they may have, and which one they get. */
export interface RoleRule {
  /** Its place in the file, from 1. */
  readonly number: number;
  matches(caller: CallerDescription): boolean;
  /** Whatever the container itself names. */
  readonly role: RoleReference | undefined;
  /** If the container names none. */
  readonly defaultRole: RoleReference | undefined;
  readonly allowed: readonly ArnPattern[] | undefined;
  readonly policy: string | undefined;
}

type Test = (caller: CallerDescription) => boolean;

const RULE_KEYS = ['match', 'allow', 'role', 'default_role', 'policy'];
const MATCH_KEYS = ['image', 'name', 'network', 'label'];

/**
 * Reads ROLE_RULES: a JSON list of rules, of which the first that matches a container counts.
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
  // A misspelt key would silently allow what was to be forbidden.
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

/** Anything else must not be read as a rule, or a match, without conditions: it would fit every container. */
function strictObject(value: unknown, what: string): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new BadRoleRequest(`${what} is not a JSON object`);
  }
  return object(value);
}

function checkKeys(value: Readonly<Record<string, unknown>>, known: readonly string[], what: string): void {
  const unknown = Object.keys(value).find((key) => !known.includes(key));
  if (unknown !== undefined) throw new BadRoleRequest(`${what} has no "${unknown}"; it has ${known.join(', ')}`);
}

function text(value: unknown, what: string): string {
  if (typeof value !== 'string' || value === '') throw new BadRoleRequest(`${what} is not a text`);
  return value;
}
