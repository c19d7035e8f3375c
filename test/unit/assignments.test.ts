import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CallerUndetermined, type Caller } from '../../lib/caller.ts';
import { DirectoryUnavailable, type Container } from '../../lib/docker/container.ts';
import type { ContainerListener } from '../../lib/docker/directory.ts';
import { parseAddressMapping } from '../../lib/callers/address-mapping.ts';
import { hostProcess } from '../../lib/callers/host/network.ts';
import { NoRole, RoleAssignments } from '../../lib/assignments.ts';
import { BadRoleRequest } from '../../lib/roles/bad-request.ts';
import { parseRoleReference, roleName } from '../../lib/roles/role-reference.ts';
import type { RoleRequest } from '../../lib/roles/role-request.ts';
import { aContainer, roleSettings } from './helpers/fixtures.ts';
import { deferred } from './helpers/promises.ts';

interface Settings {
  hostNetwork?: boolean;
  defaultRole?: string;
  defaultAccountId?: string;
}

/** Assignments over a directory that the test fills, and a store that only counts. */
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
  const running = new Set<Container>();
  const listeners: ContainerListener[] = [];
  const pending: { peers: Promise<void> | undefined } = { peers: undefined };
  const asked: Container[] = [];
  const assignments = new RoleAssignments({
    directory: {
      subscribe: (listener) => void listeners.push(listener),
      peersOf: ({ id }) => [...running].filter(({ network }) => typeof network === 'object' && network.sharedWith === id),
      peersKnown: (container) => {
        asked.push(container);
        return pending.peers;
      },
    },
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
    events: { roleRequestInvalid: ({ name }, { message }) => bad.push(`${name}: ${message}`) },
  });
  const known = (container: Container): void => listeners.forEach((listener) => listener.known(container));
  const started = (container: Container): void => {
    running.add(container);
    listeners.forEach((listener) => listener.started(container));
  };
  const ended = (container: Container): void => {
    running.delete(container);
    listeners.forEach((listener) => listener.ended(container));
  };
  /** The request, where nothing has to be waited for. */
  const requestFor = (caller: Caller): RoleRequest => {
    const request = assignments.requestFor(caller);
    assert.ok(!(request instanceof Promise), 'a promise');
    return request;
  };
  const roleOf = (caller: Caller): string => roleName(requestFor(caller).role);
  return { assignments, known, started, ended, pending, asked, warmed, users, bad, requestFor, roleOf };
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

test('a container has the role that it declares', () => {
  const { requestFor } = setUp({ defaultRole: 'default' });
  const { role, externalId } = requestFor(container({ IAM_ROLE: 'app@123456789012' }));
  assert.deepEqual(role, {
    kind: 'account',
    text: 'app@123456789012',
    name: 'app',
    path: '/',
    accountId: '123456789012',
  });
  assert.equal(externalId, undefined);
});

test('a container that declares none has the default role', () => {
  const { roleOf } = setUp({ defaultRole: 'default' });
  for (const env of [{}, { IAM_ROLE: '' }, { IAM_ROLE: '  ' }])
    assert.equal(roleOf(container(env)), 'default');
});

test('without a default role it has none', () => {
  const { warmed, users, known, started, ended, requestFor } = setUp();
  const one = container();
  known(one);
  started(one);
  assert.throws(() => requestFor(one), NoRole);
  assert.deepEqual([warmed, users.size], [[], 0]);
  ended(one);
});

test('a role without an account is in the default account', () => {
  const { requestFor } = setUp({ defaultRole: 'team/default', defaultAccountId: '999999999999' });
  const accountOf = (env: Record<string, string>): unknown => {
    const { role } = requestFor(container(env));
    return role.kind === 'account' ? `${role.path}${role.name}@${role.accountId}` : role.kind;
  };
  assert.equal(accountOf({ IAM_ROLE: 'app' }), '/app@999999999999');
  assert.equal(accountOf({}), '/team/default@999999999999');
  assert.equal(accountOf({ IAM_ROLE: 'app@111111111111' }), '/app@111111111111');
  assert.equal(accountOf({ IAM_ROLE: 'arn:aws:iam::111111111111:role/app' }), 'arn');
});

test("a container's external id goes with its own role, and with the default one", () => {
  const { requestFor } = setUp({ defaultRole: 'default' });
  const idOf = (env: Record<string, string>): string | undefined =>
    requestFor(container(env)).externalId;
  assert.equal(idOf({ IAM_ROLE: 'app', IAM_EXTERNAL_ID: 'secret' }), 'secret');
  assert.equal(idOf({ IAM_EXTERNAL_ID: 'secret' }), 'secret');
  assert.equal(idOf({ IAM_ROLE: 'app', IAM_EXTERNAL_ID: '' }), undefined);
});

test('the role session is named after the container, with its short id whole', () => {
  const { requestFor } = setUp({ defaultRole: 'default' });
  const nameOf = (name: string): string => requestFor(container({}, 'own', name)).sessionName;
  assert.match(nameOf('web'), /^web-[0-9a-f]{12}$/);
  assert.match(nameOf(''), /^[0-9a-f]{12}$/);
  assert.match(nameOf('a b/ü:c'), /^a_b___c-[0-9a-f]{12}$/);
  assert.match(nameOf('x'.repeat(200)), /^x{51}-[0-9a-f]{12}$/);
  for (const name of ['', 'web', 'x'.repeat(200), '🐳'.repeat(60), 'a\nb']) {
    assert.match(nameOf(name), /^[\w+=,.@-]{2,64}$/, 'as STS accepts it');
  }
});

test('a rename does not change the session name', () => {
  const { users, known, started, ended, requestFor } = setUp();
  const one = container({ IAM_ROLE: 'app' });
  known(one);
  started(one);
  const before = requestFor(one);
  one.name = 'renamed';
  assert.equal(requestFor(one).key, before.key);
  ended(one);
  assert.equal(users.size, 0, 'and what was retained is released');
});

test('no two containers share their credentials, though they have the same role', () => {
  const { requestFor } = setUp({ defaultRole: 'default' });
  assert.notEqual(requestFor(container()).key, requestFor(container()).key);
});

test('an invalid role is reported once, and only that container has no role', () => {
  const { warmed, users, bad, roleOf, known, started, ended, requestFor } = setUp({ defaultRole: 'default' });
  const one = container({ IAM_ROLE: 'not a role' }, 'own', 'bad-one');
  known(one);
  started(one);
  for (let request = 0; request < 3; request += 1)
    assert.throws(() => requestFor(one), BadRoleRequest);
  ended(one);
  started(one);
  assert.equal(bad.length, 1);
  assert.match(bad[0] ?? '', /^bad-one: "not a role" is not a role/);
  assert.deepEqual([warmed, users.size], [[], 0], 'and nothing is assumed for it, the default role neither');
  assert.equal(roleOf(container()), 'default');
});

test('a role is assumed when its container is created, kept while it runs and dropped with it', () => {
  const { warmed, users, known, started, ended, requestFor } = setUp();
  const one = container({ IAM_ROLE: 'app' });
  const { key } = requestFor(one);
  known(one);
  assert.deepEqual([warmed, users.size], [[key], 0]);
  started(one);
  assert.deepEqual([...users], [[key, 1]]);
  ended(one);
  assert.equal(users.size, 0);
});

test('a container that starts and ends again and again leaves nothing behind', () => {
  const { users, started, ended } = setUp({ defaultRole: 'default' });
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
    for (const one of all) started(one);
    assert.equal(users.size, 3);
    for (const one of all) ended(one);
    for (const one of all) ended(one);
    assert.equal(users.size, 0);
  }
});

for (const network of ['host', 'none'] as const) {
  test(`no role is assumed for a container on --network ${network}, from which no request comes`, () => {
    const { warmed, users, known, started, ended } = setUp({ defaultRole: 'default' });
    const one = container({ IAM_ROLE: 'app' }, network);
    known(one);
    started(one);
    assert.deepEqual([warmed, users.size], [[], 0]);
    ended(one);
  });
}

test('where host-network containers can be identified, each has its own role ready, and gives it to no other', () => {
  const { users, roleOf, started, ended } = setUp({ defaultRole: 'default', hostNetwork: true });
  const [app, without] = [container({ IAM_ROLE: 'app' }, 'host'), container({}, 'host')];
  const joined = container({ IAM_ROLE: 'joined' }, { sharedWith: without.id });
  for (const one of [app, without, joined]) started(one);
  assert.deepEqual([app, without, joined].map(roleOf), ['app', 'default', 'joined']);
  assert.equal(users.size, 3);
  for (const one of [app, without, joined]) ended(one);
  assert.equal(users.size, 0);
});

test('a container without a role has that of its network peer', () => {
  const { warmed, users, roleOf, known, started, ended, requestFor } = setUp({ defaultRole: 'default' });
  const owner = container();
  const peer = container({ IAM_ROLE: 'sidecar', IAM_EXTERNAL_ID: 'their-id' }, { sharedWith: owner.id });
  started(owner);
  assert.equal(roleOf(owner), 'default');
  known(peer);
  started(peer);
  assert.equal(roleOf(owner), 'sidecar');
  const request = requestFor(owner);
  assert.equal(request.externalId, 'their-id');
  assert.ok(warmed.includes(request.key) && users.has(request.key), 'and it is kept ready');
  ended(peer);
  assert.equal(roleOf(owner), 'default', 'as long as it runs');
  ended(owner);
  assert.equal(users.size, 0);
});

test("a container's own role counts before that of a network peer", () => {
  const { roleOf, started } = setUp();
  const owner = container({ IAM_ROLE: 'own' });
  started(container({ IAM_ROLE: 'sidecar' }, { sharedWith: owner.id }));
  assert.equal(roleOf(owner), 'own');
});

test("a peer that starts before the network's owner counts, and one that declares no role does not", () => {
  const { roleOf, started } = setUp({ defaultRole: 'default' });
  const owner = container();
  started(container({}, { sharedWith: owner.id }));
  assert.equal(roleOf(owner), 'default');
  started(container({ IAM_ROLE: 'early' }, { sharedWith: owner.id }));
  assert.equal(roleOf(owner), 'early');
});

test('several peers must declare one role: they cannot be told apart', () => {
  const { roleOf, started, ended, requestFor } = setUp({ defaultRole: 'default' });
  const owner = container();
  started(container({ IAM_ROLE: 'no role' }, { sharedWith: owner.id }));
  const [first, second] = ['first', 'second'].map((role) =>
    container({ IAM_ROLE: role }, { sharedWith: owner.id }),
  );
  assert.ok(first && second);
  started(first);
  assert.equal(roleOf(owner), 'first', 'an invalid declaration does not count');
  started(second);
  assert.throws(() => requestFor(owner), BadRoleRequest);
  ended(first);
  assert.equal(roleOf(owner), 'second');
  ended(second);
  assert.equal(roleOf(owner), 'default');
});

test('two peers declare one role if both spellings mean the same one', () => {
  const { roleOf, started } = setUp({ defaultAccountId: '123456789012' });
  const owner = container();
  const ways = ['app', 'app@123456789012'];
  for (const IAM_ROLE of ways) started(container({ IAM_ROLE }, { sharedWith: owner.id }));
  assert.equal(roleOf(owner), 'app');
  started(container({ IAM_ROLE: 'app@210987654321' }, { sharedWith: owner.id }));
  assert.throws(() => roleOf(owner), BadRoleRequest);
});

test('only a container with a network of its own that declares no role waits for its network peers', () => {
  const { asked, requestFor } = setUp({ defaultRole: 'default' });
  const waiting = container();
  requestFor(waiting);
  requestFor(container({ IAM_ROLE: 'app' }));
  assert.throws(() => requestFor(container({ IAM_ROLE: 'not a role' })), BadRoleRequest);
  for (const network of ['host', 'none', { sharedWith: 'x' }] as const) requestFor(container({}, network));
  requestFor({ kind: 'mesos-task', id: 'task', name: 'task', labels: new Map() });
  assert.deepEqual(asked, [waiting]);
});

test('the role of a container that declares none is that of a peer which starts while the request waits', async () => {
  const { assignments, started, pending } = setUp({ defaultRole: 'default' });
  const owner = container();
  const { promise, resolve } = deferred<void>();
  pending.peers = promise;
  const request = assignments.requestFor(owner);
  started(container({ IAM_ROLE: 'sidecar' }, { sharedWith: owner.id }));
  resolve();
  assert.equal(roleName((await request).role), 'sidecar');
});

test('while the directory cannot know the peers, the caller is undetermined', async () => {
  const { assignments, pending } = setUp({ defaultRole: 'default' });
  pending.peers = Promise.reject(new DirectoryUnavailable('the engine is away'));
  await assert.rejects(async () => assignments.requestFor(container()), new CallerUndetermined('the engine is away'));
});

test('a host process and a mapped address have the role that they carry, and it is ready', () => {
  const { assignments, users, requestFor, roleOf } = setUp({ defaultRole: 'default', defaultAccountId: '123456789012' });
  const process = hostProcess(parseRoleReference('agent'));
  const mapped = parseAddressMapping('{"10.0.0.7": {"name": "app", "external_id": "id", "session_name": "a b"}}', new Map()).get('10.0.0.7');
  assert.ok(mapped);
  assert.deepEqual([process, mapped].map(roleOf), ['agent', 'app']);
  assert.deepEqual([requestFor(mapped).externalId, requestFor(mapped).sessionName], ['id', 'a_b']);
  assert.deepEqual([requestFor(process).externalId, requestFor(process).sessionName], [undefined, 'host']);
  assert.equal(requestFor(process).role.kind, 'account');
  for (const caller of [process, mapped]) assignments.started(caller);
  assert.deepEqual([...users.keys()], [requestFor(process).key, requestFor(mapped).key]);
});
