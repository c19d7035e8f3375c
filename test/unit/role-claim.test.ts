import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Container } from '../../lib/docker/container.ts';
import { parseArnPattern } from '../../lib/roles/arn-pattern.ts';
import { BadRoleRequest } from '../../lib/roles/bad-request.ts';
import { parseRoleClaim, type Assignment } from '../../lib/roles/role-claim.ts';
import { parseRoleReference } from '../../lib/roles/role-reference.ts';
import { parseRoleRules } from '../../lib/roles/role-rules.ts';
import type { RoleSettings } from '../../lib/roles/role-settings.ts';
import { parseTemplate } from '../../lib/roles/template.ts';
import { aContainer, roleSettings } from './helpers/fixtures.ts';

const ACCOUNT = '123456789012';
interface Says {
  readonly labels?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
  readonly name?: string;
}

const container = ({ labels = {}, env = {}, name = 'web' }: Says): Container => aContainer({
  id: 'a'.repeat(64),
  name,
  image: 'nginx',
  labels: new Map(Object.entries(labels)),
  env: new Map(Object.entries(env)),
});

const claimOf = (says: Says, settings: Partial<RoleSettings> = {}) =>
  parseRoleClaim(container(says), roleSettings({ host: 'host-1', ...settings }));

function assigned(found: Assignment | BadRoleRequest | undefined): Assignment {
  assert.ok(found !== undefined && !(found instanceof BadRoleRequest), String(found));
  return found;
}

const declaredBy = (says: Says, settings: Partial<RoleSettings> = {}) => assigned(claimOf(says, settings).declared);
const role = (name: string): string => `${name}@${ACCOUNT}`;

const IAM_DOCKER = 'com.swipely.iam-docker.iam-profile';

for (const [says, text, source] of [
  [{ env: { IAM_ROLE: role('v') } }, role('v'), 'variable IAM_ROLE'],
  [{ env: { IAM_ROLE: role('v') }, labels: { [IAM_DOCKER]: role('d') } }, role('d'), `label ${IAM_DOCKER}`],
  [
    { env: { IAM_ROLE: role('v') }, labels: { [IAM_DOCKER]: role('d'), 'metadataproxy.role': role('l') } },
    role('l'),
    'label metadataproxy.role',
  ],
  [{ env: { IAM_ROLE: role('v') }, labels: { 'metadataproxy.role': '' } }, role('v'), 'variable IAM_ROLE'],
  [{ env: { IAM_ROLE: `\t${role('v')}\n` } }, role('v'), 'variable IAM_ROLE'],
] as const) {
  test(`a container that declares ${JSON.stringify(says)} has its role from the ${source}`, () => {
    const { request, source: found } = declaredBy(says);
    assert.deepEqual([request.role.text, found], [text, source]);
  });
}

test('a container that names no role declares none', () => {
  assert.deepEqual(claimOf({}), { declared: undefined, fallback: undefined });
  assert.deepEqual(claimOf({ env: { IAM_ROLE: ' ', IAM_POLICY: '{"Statement":[]}' } }), {
    declared: undefined,
    fallback: undefined,
  });
});

test('the fallback is the default role, also for a container that declares a role', () => {
  const defaultRole = parseRoleReference(role('fallback'));
  for (const says of [{}, { env: { IAM_ROLE: role('v') } }]) {
    const { request, source } = assigned(claimOf(says, { defaultRole }).fallback);
    assert.deepEqual([request.role.text, source], [role('fallback'), 'default role']);
  }
});

test("a rule's default role counts before the default role, its role before what the container declares", () => {
  const rules = parseRoleRules(
    JSON.stringify([
      { match: { name: 'no' }, role: role('other') },
      { match: { name: 'web' }, role: role('forced'), default_role: role('rule') },
    ]),
    new Map(),
  );
  const { declared: first, fallback } = claimOf(
    { env: { IAM_ROLE: role('v') } },
    { rules, defaultRole: parseRoleReference(role('fallback')) },
  );
  assert.deepEqual([assigned(first).request.role.text, assigned(first).source], [role('forced'), 'rule 2']);
  assert.deepEqual(
    [assigned(fallback).request.role.text, assigned(fallback).source],
    [role('rule'), 'rule 2, default'],
  );
});

test('a role without an account is in the default account, one with an account in its own', () => {
  const settings = { defaultAccountId: '111122223333' };
  assert.deepEqual(declaredBy({ env: { IAM_ROLE: 'path/v' } }, settings).request.role, {
    kind: 'account',
    text: 'path/v',
    name: 'v',
    path: '/path/',
    accountId: '111122223333',
  });
  assert.equal(declaredBy({ env: { IAM_ROLE: role('v') } }, settings).request.role.text, role('v'));
  assert.equal(declaredBy({ env: { IAM_ROLE: 'v' } }).request.role.kind, 'name');
});

test('the default policy applies only to the default role of a container that declares no policy', () => {
  const settings = { defaultPolicy: '{"Statement":[]}', defaultRole: parseRoleReference(role('fallback')) };
  const narrow = '{"Statement":{}}';
  assert.equal(assigned(claimOf({}, settings).fallback).request.policy, '{"Statement":[]}');
  assert.equal(declaredBy({ env: { IAM_ROLE: role('v') } }, settings).request.policy, undefined);
  assert.equal(assigned(claimOf({ env: { IAM_POLICY: narrow } }, settings).fallback).request.policy, narrow);
  assert.equal(declaredBy({ env: { IAM_ROLE: role('v'), IAM_POLICY: narrow } }, settings).request.policy, narrow);
  assert.equal(
    declaredBy({ env: { IAM_ROLE: role('v'), IAM_POLICY: 'x' }, labels: { 'metadataproxy.policy': narrow } }).request
      .policy,
    narrow,
  );
});

test("a rule's policy counts before the container's own, even if that is invalid", () => {
  const rules = parseRoleRules('[{"policy": {"Statement": []}}]', new Map());
  for (const IAM_POLICY of ['{"Statement":{}}', 'nonsense']) {
    assert.equal(
      declaredBy({ env: { IAM_ROLE: role('v'), IAM_POLICY } }, { rules }).request.policy,
      '{"Statement":[]}',
    );
  }
});

test('a policy that is nested too deep is an invalid one, not an error of the program', () => {
  const IAM_POLICY = `{"Statement":${'['.repeat(20_000)}${']'.repeat(20_000)}}`;
  assert.ok(claimOf({ env: { IAM_ROLE: role('v'), IAM_POLICY } }).declared instanceof BadRoleRequest);
});

test("an external ID in a label counts before a variable, and the project's own names before iam-docker's", () => {
  const of = (env: Record<string, string>, labels: Record<string, string> = {}) =>
    declaredBy({ env: { IAM_ROLE: role('v'), ...env }, labels }).request.externalId;
  assert.equal(of({}), undefined);
  assert.equal(of({ IAM_EXTERNAL_ID: ' id-1 ' }), 'id-1');
  assert.equal(of({ IAM_ROLE_EXTERNALID: 'id-2' }), 'id-2');
  assert.equal(of({ IAM_EXTERNAL_ID: 'id-1', IAM_ROLE_EXTERNALID: 'id-2' }), 'id-1');
  assert.equal(of({ IAM_EXTERNAL_ID: 'id-1' }, { 'com.swipely.iam-docker.iam-externalid': 'id-3' }), 'id-3');
  assert.equal(
    of(
      { IAM_EXTERNAL_ID: 'id-1' },
      { 'com.swipely.iam-docker.iam-externalid': 'id-3', 'metadataproxy.external-id': 'id-4' },
    ),
    'id-4',
  );
});

test('a session name is that of the label, then that of ROLE_SESSION_KEY, then the default', () => {
  const of = (says: Says, settings: Partial<RoleSettings>) =>
    declaredBy({ ...says, env: { IAM_ROLE: role('v'), ...says.env } }, settings).request.sessionName;
  const byEnv = { sessionKey: { kind: 'env', name: 'S' } } as const;
  const byLabel = { sessionKey: { kind: 'label', name: 's' } } as const;
  const both = { env: { S: 'by env' }, labels: { s: 'by-label' } };
  assert.equal(of(both, byEnv), 'by_env');
  assert.equal(of(both, byLabel), 'by-label');
  assert.equal(of({ ...both, labels: { 'metadataproxy.session-name': 'own' } }, byEnv), 'own');
  assert.equal(of({ env: { S: 'x' } }, byEnv), `web-${'a'.repeat(12)}`);
  assert.equal(of({}, byLabel), `web-${'a'.repeat(12)}`);
});

test('a duration label counts before ROLE_DURATION', () => {
  const settings = { durationSeconds: 3600 };
  assert.equal(declaredBy({ env: { IAM_ROLE: role('v') } }, settings).request.durationSeconds, 3600);
  assert.equal(
    declaredBy({ env: { IAM_ROLE: role('v') }, labels: { 'metadataproxy.duration': '12h' } }, settings).request
      .durationSeconds,
    43_200,
  );
  assert.equal(declaredBy({ env: { IAM_ROLE: role('v') } }).request.durationSeconds, undefined);
});

test('ALLOWED_ROLES and the rule\'s list must both match', () => {
  const rules = parseRoleRules(`[{"allow": ["arn:aws:iam::${ACCOUNT}:role/a"]}]`, new Map());
  const allowed = [parseArnPattern('arn:aws:iam::*:role/*')];
  const texts = (settings: Partial<RoleSettings>) =>
    declaredBy({ env: { IAM_ROLE: role('v') } }, settings).request.allowed.map((list) =>
      list.map(({ text }) => text),
    );
  assert.deepEqual(texts({}), []);
  assert.deepEqual(texts({ allowed }), [['arn:aws:iam::*:role/*']]);
  assert.deepEqual(texts({ rules }), [[`arn:aws:iam::${ACCOUNT}:role/a`]]);
  assert.deepEqual(texts({ allowed, rules }), [
    ['arn:aws:iam::*:role/*'],
    [`arn:aws:iam::${ACCOUNT}:role/a`],
  ]);
  assert.deepEqual(texts({ rules: parseRoleRules('[{"allow": []}]', new Map()) }), [[]]);
});

test('everything that decides what a container may do changes the request\'s key', () => {
  const says = { env: { IAM_ROLE: role('v') } };
  const key = (more: Says = {}, settings: Partial<RoleSettings> = {}): string =>
    declaredBy(
      { env: { ...says.env, ...more.env }, labels: more.labels ?? {} },
      { sessionNaming: { kind: 'shared' }, ...settings },
    ).request.key;
  const keys = [
    key(),
    key({ env: { IAM_ROLE: role('w') } }),
    key({ env: { IAM_ROLE: 'v' } }),
    key({ env: { IAM_ROLE: 'v@111122223333' } }),
    key({ env: { IAM_EXTERNAL_ID: 'an-id' } }),
    key({ env: { IAM_POLICY: '{"Statement":[]}' } }),
    key({ labels: { 'metadataproxy.session-name': 'other' } }),
    key({ labels: { 'metadataproxy.duration': '2h' } }),
    key({ labels: { t: '1' } }, { tags: { labels: ['t'], env: [] } }),
    key({ labels: { t: '2' } }, { tags: { labels: ['t'], env: [] } }),
    key({ labels: { t: '1' } }, { tags: { labels: ['t'], env: [] }, transitiveTags: true }),
    key({}, { sourceIdentity: parseTemplate('jo') }),
    key({}, { allowed: [] }),
    key({}, { allowed: [parseArnPattern('arn:aws:iam::1:role/a')] }),
    key({}, { rules: parseRoleRules('[{"allow": []}]', new Map()), allowed: [] }),
  ];
  assert.equal(new Set(keys).size, keys.length);
  assert.equal(key(), key({ labels: { unrelated: 'x' } }));
});

for (const [says, message] of [
  [
    { env: { IAM_ROLE: 'a role' } },
    '"a role" is not a role; expected "name", "name@123456789012", "path/name@123456789012" or a role ARN',
  ],
  [
    { env: { IAM_ROLE: role('v'), IAM_EXTERNAL_ID: 'x' } },
    'STS does not accept the external ID; expected ^[\\w+=,.@:/-]{2,1224}$',
  ],
  [
    { env: { IAM_ROLE: role('v'), IAM_POLICY: '[]' } },
    'the session policy is not a JSON object with a "Statement"',
  ],
  [
    { env: { IAM_ROLE: role('v') }, labels: { 'metadataproxy.duration': '1d' } },
    'the label metadataproxy.duration is "1d"; expected a duration from 15m to 12h',
  ],
] as const) {
  test(`a container that declares ${JSON.stringify(says)} has an invalid claim`, () => {
    const found = claimOf(says).declared;
    assert.ok(found instanceof BadRoleRequest);
    assert.equal(found.message, message);
  });
}

test('an invalid external ID, which is a secret, is not in the message', () => {
  const found = claimOf({ env: { IAM_ROLE: role('v'), IAM_EXTERNAL_ID: 'top secret' } }).declared;
  assert.ok(found instanceof BadRoleRequest);
  assert.doesNotMatch(found.message, /top secret/);
});

test('a source identity from a template is validated for each container, and an empty one is none', () => {
  const sourceIdentity = parseTemplate('{label:owner}');
  const of = (owner: string) =>
    claimOf({ env: { IAM_ROLE: role('v') }, labels: { owner } }, { sourceIdentity }).declared;
  assert.equal(assigned(of('jo@example.com')).request.sourceIdentity, 'jo@example.com');
  assert.equal(assigned(of('')).request.sourceIdentity, undefined);
  assert.ok(of('jo smith') instanceof BadRoleRequest);
  assert.ok(of('j') instanceof BadRoleRequest);
});
