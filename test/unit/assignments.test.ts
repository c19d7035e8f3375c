import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Container } from '../../lib/docker/container.ts';
import { NoRole, RoleAssignments } from '../../lib/assignments.ts';
import { BadRoleRequest } from '../../lib/roles/bad-request.ts';
import { parseRoleReference, roleName } from '../../lib/roles/role-reference.ts';
import type { RoleRequest } from '../../lib/roles/role-request.ts';
import { aContainer, roleSettings } from './helpers/fixtures.ts';

interface Settings {
  hostNetwork?: boolean;
  defaultRole?: string;
  defaultAccountId?: string;
}

/** Assignments over a store that only counts. */
function setUp({ defaultRole, defaultAccountId, hostNetwork = false }: Settings = {}) {
  const warmed: string[] = [];
  const users = new Map<string, number>();
  const count = ({ key }: RoleRequest, by: number): void => {
    const left = (users.get(key) ?? 0) + by;
    assert.ok(left >= 0, 'more was released than retained');
    if (left === 0) users.delete(key);
    else users.set(key, left);
  };
  const bad: string[] = [];
  const assignments = new RoleAssignments({
    store: {
      warm: ({ key }) => void warmed.push(key),
      intern: (request) => request,
      retain: (request) => count(request, 1),
      release: (request) => count(request, -1),
    },
    settings: roleSettings({
      defaultRole: defaultRole === undefined ? undefined : parseRoleReference(defaultRole),
      defaultAccountId,
    }),
    hostNetwork,
    onBadRequest: ({ name }, { message }) => bad.push(`${name}: ${message}`),
  });
  const roleOf = (container: Container): string => roleName(assignments.requestFor(container).role);
  return { assignments, warmed, users, bad, roleOf };
}

let ids = 0;

function container(
  env: Record<string, string> = {},
  network: Container['network'] = 'own',
  name = 'web',
): Container {
  ids += 1;
  const id = ids.toString(16).padStart(12, '0').padEnd(64, 'f');
  return aContainer({ id, name, env: new Map(Object.entries(env)), network });
}

test('a container has the role that it names', () => {
  const { assignments } = setUp({ defaultRole: 'default' });
  const { role, externalId } = assignments.requestFor(container({ IAM_ROLE: 'app@123456789012' }));
  assert.deepEqual(role, {
    kind: 'account',
    text: 'app@123456789012',
    name: 'app',
    path: '/',
    accountId: '123456789012',
  });
  assert.equal(externalId, undefined);
});

test('a container that names none has the default role', () => {
  const { roleOf } = setUp({ defaultRole: 'default' });
  for (const env of [{}, { IAM_ROLE: '' }, { IAM_ROLE: '  ' }])
    assert.equal(roleOf(container(env)), 'default');
});

test('without a default role it has none', () => {
  const { assignments, warmed, users } = setUp();
  const one = container();
  assignments.known(one);
  assignments.started(one);
  assert.throws(() => assignments.requestFor(one), NoRole);
  assert.deepEqual([warmed, users.size], [[], 0]);
  assignments.ended(one);
});

test('a role that is named without an account is in the default account', () => {
  const { assignments } = setUp({ defaultRole: 'team/default', defaultAccountId: '999999999999' });
  const accountOf = (env: Record<string, string>): unknown => {
    const { role } = assignments.requestFor(container(env));
    return role.kind === 'account' ? `${role.path}${role.name}@${role.accountId}` : role.kind;
  };
  assert.equal(accountOf({ IAM_ROLE: 'app' }), '/app@999999999999');
  assert.equal(accountOf({}), '/team/default@999999999999');
  assert.equal(accountOf({ IAM_ROLE: 'app@111111111111' }), '/app@111111111111');
  assert.equal(accountOf({ IAM_ROLE: 'arn:aws:iam::111111111111:role/app' }), 'arn');
});

test("a container's external id goes with its own role, and with the default one", () => {
  const { assignments } = setUp({ defaultRole: 'default' });
  const idOf = (env: Record<string, string>): string | undefined =>
    assignments.requestFor(container(env)).externalId;
  assert.equal(idOf({ IAM_ROLE: 'app', IAM_EXTERNAL_ID: 'secret' }), 'secret');
  assert.equal(idOf({ IAM_EXTERNAL_ID: 'secret' }), 'secret');
  assert.equal(idOf({ IAM_ROLE: 'app', IAM_EXTERNAL_ID: '' }), undefined);
});

test('the role session is named after the container, with its short id whole', () => {
  const { assignments } = setUp({ defaultRole: 'default' });
  const nameOf = (name: string): string => assignments.requestFor(container({}, 'own', name)).sessionName;
  assert.match(nameOf('web'), /^web-[0-9a-f]{12}$/);
  assert.match(nameOf(''), /^[0-9a-f]{12}$/);
  assert.match(nameOf('a b/ü:c'), /^a_b___c-[0-9a-f]{12}$/);
  assert.match(nameOf('x'.repeat(200)), /^x{51}-[0-9a-f]{12}$/);
  for (const name of ['', 'web', 'x'.repeat(200), '🐳'.repeat(60), 'a\nb']) {
    assert.match(nameOf(name), /^[\w+=,.@-]{2,64}$/, 'as STS takes it');
  }
});

test('a rename does not change the session name', () => {
  const { assignments, users } = setUp();
  const one = container({ IAM_ROLE: 'app' });
  assignments.known(one);
  assignments.started(one);
  const before = assignments.requestFor(one);
  one.name = 'renamed';
  assert.equal(assignments.requestFor(one).key, before.key);
  assignments.ended(one);
  assert.equal(users.size, 0, 'and what was retained is released');
});

test('no two containers share their credentials, though they have the same role', () => {
  const { assignments } = setUp({ defaultRole: 'default' });
  assert.notEqual(assignments.requestFor(container()).key, assignments.requestFor(container()).key);
});

test('a string that means no role is told once, and is no role for that container alone', () => {
  const { assignments, warmed, users, bad, roleOf } = setUp({ defaultRole: 'default' });
  const one = container({ IAM_ROLE: 'not a role' }, 'own', 'bad-one');
  assignments.known(one);
  assignments.started(one);
  for (let request = 0; request < 3; request += 1)
    assert.throws(() => assignments.requestFor(one), BadRoleRequest);
  assignments.ended(one);
  assignments.started(one);
  assert.equal(bad.length, 1);
  assert.match(bad[0] ?? '', /^bad-one: "not a role" is not a role/);
  assert.deepEqual([warmed, users.size], [[], 0], 'and nothing is assumed for it, the default role neither');
  assert.equal(roleOf(container()), 'default');
});

test('a role is assumed when its container is created, kept while it runs and dropped with it', () => {
  const { assignments, warmed, users } = setUp();
  const one = container({ IAM_ROLE: 'app' });
  const { key } = assignments.requestFor(one);
  assignments.known(one);
  assert.deepEqual([warmed, users.size], [[key], 0]);
  assignments.started(one);
  assert.deepEqual([...users], [[key, 1]]);
  assignments.ended(one);
  assert.equal(users.size, 0);
});

test('a container that starts and ends again and again leaves nothing behind', () => {
  const { assignments, users } = setUp({ defaultRole: 'default' });
  const all = [
    container({ IAM_ROLE: 'app' }),
    container(),
    container({ IAM_ROLE: '!' }),
    container({}, 'host'),
    container({ IAM_ROLE: 'app' }, 'none'),
    container({ IAM_ROLE: 'app' }, { sharedWith: 'x' }),
    container({}, { sharedWith: 'x' }),
  ];
  for (let round = 0; round < 3; round += 1) {
    for (const one of all) assignments.started(one);
    assert.equal(users.size, 3);
    for (const one of all) assignments.ended(one);
    for (const one of all) assignments.ended(one);
    assert.equal(users.size, 0);
  }
});

for (const network of ['host', 'none'] as const) {
  test(`nothing is assumed for a container on --network ${network}, from which no request comes`, () => {
    const { assignments, warmed, users } = setUp({ defaultRole: 'default' });
    const one = container({ IAM_ROLE: 'app' }, network);
    assignments.known(one);
    assignments.started(one);
    assert.deepEqual([warmed, users.size], [[], 0]);
    assignments.ended(one);
  });
}

test('where containers on --network host can be told apart, each has its role ready, and gives it to no other', () => {
  const { assignments, users, roleOf } = setUp({ defaultRole: 'default', hostNetwork: true });
  const [app, nobody] = [container({ IAM_ROLE: 'app' }, 'host'), container({}, 'host')];
  const joined = container({ IAM_ROLE: 'joined' }, { sharedWith: nobody.id });
  for (const one of [app, nobody, joined]) assignments.started(one);
  assert.deepEqual([app, nobody, joined].map(roleOf), ['app', 'default', 'joined']);
  assert.equal(users.size, 3);
  for (const one of [app, nobody, joined]) assignments.ended(one);
  assert.equal(users.size, 0);
});

test('a container that shares the network of one without a role gives it its own', () => {
  const { assignments, warmed, users, roleOf } = setUp({ defaultRole: 'default' });
  const holder = container();
  const sharer = container({ IAM_ROLE: 'sidecar', IAM_EXTERNAL_ID: 'their-id' }, { sharedWith: holder.id });
  assignments.started(holder);
  assert.equal(roleOf(holder), 'default');
  assignments.known(sharer);
  assignments.started(sharer);
  assert.equal(roleOf(holder), 'sidecar');
  const request = assignments.requestFor(holder);
  assert.equal(request.externalId, 'their-id');
  assert.ok(warmed.includes(request.key) && users.has(request.key), 'and it is kept ready');
  assignments.ended(sharer);
  assert.equal(roleOf(holder), 'default', 'as long as it runs');
  assignments.ended(holder);
  assert.equal(users.size, 0);
});

test("a container's own role counts before that of one that shares its network", () => {
  const { assignments, roleOf } = setUp();
  const holder = container({ IAM_ROLE: 'own' });
  assignments.started(container({ IAM_ROLE: 'sidecar' }, { sharedWith: holder.id }));
  assert.equal(roleOf(holder), 'own');
});

test('a sharer that is there before its network, or names no role, changes nothing', () => {
  const { assignments, roleOf } = setUp({ defaultRole: 'default' });
  const holder = container();
  assignments.started(container({}, { sharedWith: holder.id }));
  assert.equal(roleOf(holder), 'default');
  assignments.started(container({ IAM_ROLE: 'early' }, { sharedWith: holder.id }));
  assert.equal(roleOf(holder), 'early');
});

test('several sharers must name one role: they cannot be told apart', () => {
  const { assignments, roleOf } = setUp({ defaultRole: 'default' });
  const holder = container();
  assignments.started(container({ IAM_ROLE: 'no role' }, { sharedWith: holder.id }));
  const [first, second] = ['first', 'second'].map((role) =>
    container({ IAM_ROLE: role }, { sharedWith: holder.id }),
  );
  assert.ok(first && second);
  assignments.started(first);
  assert.equal(roleOf(holder), 'first', 'one that means nothing does not count');
  assignments.started(second);
  assert.throws(() => assignments.requestFor(holder), BadRoleRequest);
  assignments.ended(first);
  assert.equal(roleOf(holder), 'second');
  assignments.ended(second);
  assert.equal(roleOf(holder), 'default');
});

test('two sharers of a network name one role if they mean the same one, however they write it', () => {
  const { assignments, roleOf } = setUp({ defaultAccountId: '123456789012' });
  const holder = container();
  const ways = ['app', 'app@123456789012'];
  for (const IAM_ROLE of ways) assignments.started(container({ IAM_ROLE }, { sharedWith: holder.id }));
  assert.equal(roleOf(holder), 'app');
  assignments.started(container({ IAM_ROLE: 'app@210987654321' }, { sharedWith: holder.id }));
  assert.throws(() => roleOf(holder), BadRoleRequest);
});

test('the role may be that of a sharer of its network only for one that names none and has addresses', () => {
  const { assignments } = setUp({ defaultRole: 'default' });
  assert.ok(assignments.mayUsePeerRole(container()));
  assert.ok(!assignments.mayUsePeerRole(container({ IAM_ROLE: 'app' })));
  assert.ok(!assignments.mayUsePeerRole(container({ IAM_ROLE: 'not a role' })));
  for (const network of ['host', 'none', { sharedWith: 'x' }] as const) {
    assert.ok(!assignments.mayUsePeerRole(container({}, network)));
  }
});
