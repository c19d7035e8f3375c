import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Container } from '../../lib/docker/container.ts';
import { BadRoleRequest } from '../../lib/roles/bad-request.ts';
import { parseRoleRules, type RoleRule } from '../../lib/roles/role-rules.ts';
import { aContainer } from './helpers/fixtures.ts';

const WEB = aContainer({
  name: 'web-1',
  image: 'shop/web:1',
  labels: new Map([
    ['team', 'shop'],
    ['empty', ''],
  ]),
  networks: ['front', 'back'],
});

const ACCOUNTS = new Map([['prod', '123456789012']]);
const parse = (rules: unknown): RoleRule[] => parseRoleRules(JSON.stringify(rules), ACCOUNTS);
const matches = (match: unknown, container: Partial<Container> = {}): boolean =>
  parse([{ match }])[0]?.matches({ ...WEB, ...container }) ?? false;

test('a rule without match, or with an empty one, matches every container', () => {
  assert.equal(parse([{}])[0]?.matches(WEB), true);
  assert.equal(matches({}), true);
  assert.equal(matches({ label: {} }), true);
});

for (const [match, isMatch] of [
  [{ image: 'shop/*' }, true],
  [{ image: 'shop' }, false],
  [{ image: '*/shop/*' }, false],
  [{ image: 'shop/we?:1' }, true],
  [{ name: 'web-*' }, true],
  [{ name: 'WEB-*' }, false],
  [{ name: '/web-1' }, false],
  [{ name: 'eb-1' }, false],
  [{ network: 'back' }, true],
  [{ network: 'b*' }, true],
  [{ network: 'other' }, false],
  [{ label: { team: 'sh*' } }, true],
  [{ label: { team: 'bank' } }, false],
  [{ label: { Team: 'shop' } }, false],
  [{ label: { empty: '*' } }, true],
  [{ label: { missing: '*' } }, false],
  [{ label: { team: 'shop', empty: '*' } }, true],
  [{ label: { team: 'shop', missing: '*' } }, false],
  [{ image: 'shop/*', name: 'web-?', network: 'front', label: { team: 'shop' } }, true],
  [{ image: 'shop/*', name: 'web-?', network: 'other', label: { team: 'shop' } }, false],
] as const) {
  test(`a rule that matches ${JSON.stringify(match)} ${isMatch ? 'fits' : 'does not fit'} web-1`, () => {
    assert.equal(matches(match), isMatch);
  });
}

test('a container without networks matches no network', () => {
  assert.equal(matches({ network: '*' }, { networks: [] }), false);
});

test('a rule has its number in the file, its roles, its patterns and its policy', () => {
  const [first, second] = parse([
    {},
    {
      role: 'app@prod',
      default_role: 'path/other@123456789012',
      allow: ['arn:aws:iam::123456789012:role/app*'],
      policy: { Statement: [] },
    },
  ]);
  assert.deepEqual(
    [first?.number, first?.role, first?.defaultRole, first?.allowed, first?.policy],
    [1, undefined, undefined, undefined, undefined],
  );
  assert.equal(second?.number, 2);
  assert.deepEqual(second.role, {
    kind: 'account',
    text: 'app@prod',
    name: 'app',
    path: '/',
    accountId: '123456789012',
  });
  assert.equal(second.defaultRole?.text, 'path/other@123456789012');
  assert.deepEqual(
    second.allowed?.map(({ text }) => text),
    ['arn:aws:iam::123456789012:role/app*'],
  );
  assert.equal(second.policy, '{"Statement":[]}');
});

test('an empty list of rules changes nothing, and an empty list of allowed roles allows none', () => {
  assert.deepEqual(parse([]), []);
  assert.deepEqual(parse([{ allow: [] }])[0]?.allowed, []);
});

function refused(rules: unknown, message: RegExp | string): void {
  assert.throws(
    () => parse(rules),
    (error) => {
      assert.ok(error instanceof BadRoleRequest, String(error));
      if (typeof message === 'string') assert.equal(error.message, message);
      else assert.match(error.message, message);
      return true;
    },
  );
}

for (const [rules, message] of [
  [{}, 'not a JSON list of rules'],
  ['x', 'not a JSON list of rules'],
  [null, 'not a JSON list of rules'],
  [[{ Match: {} }], 'rule 1: unknown key "Match" in a rule; expected match, allow, role, default_role, policy'],
  [[{}, { match: { labels: {} } }], 'rule 2: unknown key "labels" in "match"; expected image, name, network, label'],
  [[{ match: { image: '' } }], 'rule 1: "image" is not a non-empty string'],
  [[{ match: { name: null } }], 'rule 1: "name" is not a non-empty string'],
  [[{ match: { network: ['front'] } }], 'rule 1: "network" is not a non-empty string'],
  [[{ match: { label: { team: 1 } } }], 'rule 1: the label "team" is not a non-empty string'],
  [[{ allow: 'arn:aws:iam::123456789012:role/x' }], 'rule 1: "allow" is not a list of role ARNs'],
  [[{ allow: null }], 'rule 1: "allow" is not a list of role ARNs'],
  [[{ allow: [5] }], 'rule 1: an entry of "allow" is not a non-empty string'],
  [[{ role: null }], 'rule 1: "role" is not a non-empty string'],
  [
    [{ role: 'app@stage' }],
    'rule 1: "app@stage" names the account "stage"; expected 12 digits or one of prod after the "@"',
  ],
  [[{ policy: '{"Statement":[]}' }], 'rule 1: the session policy is not a JSON object with a "Statement"'],
  [[{ policy: null }], 'rule 1: the session policy is not a JSON object with a "Statement"'],
  [
    [{ policy: { Statement: 'x'.repeat(2033) } }],
    'rule 1: the session policy has 2049 characters; STS accepts 2048',
  ],
] as const) {
  test(`rules of ${JSON.stringify(rules).slice(0, 60)} are refused: ${message}`, () =>
    refused(rules, message));
}

test('rules that are not JSON are invalid', () => {
  assert.throws(() => parseRoleRules('[{', ACCOUNTS), /^Error: not JSON \(/);
});

// Taken for nothing, each of these would match every container.
for (const rule of [
  'web-*',
  null,
  [],
  5,
  { match: 'web-*' },
  { match: null },
  { match: ['web-*'] },
  { match: { label: 'team=shop' } },
  { match: { label: null } },
  { match: { label: ['team'] } },
]) {
  test(`a rule of ${JSON.stringify(rule)} is refused`, () => refused([rule], /^rule 1: /));
}
