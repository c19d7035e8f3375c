import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BadTarget, canonicalPath } from '../../lib/http/canonical-path.ts';
import { isForwardable, match, type Handlers, type RouteKind } from '../../lib/http/routes.ts';
import type { Exchange } from '../../lib/http/exchange.ts';
import { hostIdentityIn, readingsOf } from '../support/generous-path.ts';
import { SeededRandom } from '../support/seeded-random.ts';
import { randomTarget } from './helpers/targets.ts';

const SECURITY = '/latest/meta-data/iam/security-credentials';

interface Expected {
  kind: RouteKind;
  role?: string;
  extended?: boolean;
}

function credentials(role: string, extended = false): Expected {
  return { kind: 'role-credentials', role, extended };
}

/** The kind of a path's route, and what its handler gets for a path that names a role. */
function routeOf(path: string): Expected {
  const { route, role } = match(path);
  const found: Expected = { kind: route.kind };
  if (route.kind !== 'role-credentials') return found;
  const roleCredentials: Handlers['roleCredentials'] = (_, ...given) => void ([found.role, found.extended] = given);
  void route.handle?.({ roleCredentials } as Handlers, {} as Exchange, role);
  return found;
}

const ROUTES: readonly (readonly [path: string, expected: Expected])[] = [
  ['/latest/api/token', { kind: 'session-token' }],
  ['/latest/meta-data/iam', { kind: 'iam-listing' }],
  ['/latest/meta-data/iam/', { kind: 'iam-listing' }],
  ['/latest/meta-data/iam/info', { kind: 'iam-info' }],
  [SECURITY, { kind: 'role-name' }],
  [`${SECURITY}/`, { kind: 'role-name' }],
  [`${SECURITY}/app`, credentials('app')],
  [`${SECURITY}/app/`, credentials('app')],
  [`${SECURITY}/app/whatever/follows`, credentials('app')],
  [`${SECURITY}/a+b=c,d.e@f-g_h`, credentials('a+b=c,d.e@f-g_h')],
  [`${SECURITY}-extended`, { kind: 'role-name' }],
  [`${SECURITY}-extended/`, { kind: 'role-name' }],
  [`${SECURITY}-extended/app`, credentials('app', true)],
  ['/2012-01-12/meta-data/iam/', { kind: 'iam-listing' }],
  ['/2021-07-15/meta-data/iam/security-credentials/app', credentials('app')],
  ['/v2/credentials', { kind: 'container-credentials' }],
  ['/v2/credentials/', { kind: 'container-credentials' }],
  ['/v2/credentials/0123-abcd', { kind: 'container-credentials' }],
  ['/v2/credentials/iam/security-credentials', { kind: 'container-credentials' }],
  ['/creds', { kind: 'container-credentials' }],
  ['/creds/any/thing', { kind: 'container-credentials' }],
];

for (const [path, expected] of ROUTES) {
  test(`${path} is answered here: ${expected.kind}`, () => {
    assert.deepEqual(routeOf(path), expected);
    assert.equal(canonicalPath(path), path, 'and the path is a canonical one');
  });
}

for (const path of [
  '/latest/meta-data/iam/security-credentials-v2/app',
  '/latest/meta-data/iam/other',
  '/latest/meta-data/iam/Info',
  '/latest/meta-data/IAM/info',
  '/latest/meta-data/Iam',
  '/latest/meta-data/iam2/info',
  '/latest/meta-data/iam-v2',
  '/latest/meta-data/identity-credentials',
  '/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance',
  '/latest/meta-data/Identity-Credentials/ec2/info',
  '/latest/identity-credentials/ec2/info',
  '/latest/iam/security-credentials/app',
  '/latest/dynamic/iam/info',
  '/latest/meta-data/x/iam/info',
  '/latest/meta-data/security-credentials/app',
  '/iam/security-credentials/',
  '/meta-data/iam/security-credentials/app',
  '/2012-01-11/meta-data/iam/info',
  '/2007-01-19/meta-data/iam/security-credentials/app',
  '/1.0/meta-data/iam/security-credentials/app',
  '/LATEST/meta-data/iam/info',
  '/latest/META-DATA/iam/info',
  '/3000/meta-data/iam/info',
  '/latest2/meta-data/iam/info',
  '/2012-01-12x/meta-data/iam/info',
  '/latest/meta-data/tags/instance/iam-role/x',
  '/latest/meta-data/tags/instance/iam-role/',
  '/latest/meta-data/tags/iam',
  '/latest/meta-data/x/tags/instance/iam-role',
  '/latest/user-data/iam',
]) {
  test(`${path} is refused: it could name a credential of the host`, () => {
    assert.deepEqual(routeOf(path), { kind: 'refused' });
    assert.equal(match(path).route.handle, undefined);
  });
}

for (const path of [
  '/',
  '/latest',
  '/latest/',
  '/latest/meta-data/',
  '/latest/meta-data/instance-id',
  '/latest/user-data',
  '/latest/dynamic/instance-identity/document',
  '/latest/meta-data/placement/region',
  '/latest/meta-data/network/interfaces/macs/0e:49:61:0f:c3:11/device-number',
  '/latest/meta-data/tags/instance/Name',
  '/latest/meta-data/tags/instance/iam-role',
  '/2021-07-15/meta-data/tags/instance/identity-credentials',
  '/latest/meta-data/diamond',
  '/latest/meta-data/x-iam',
  '/latest/api/token/',
  '/latest/api',
  '/1.0/api/token',
  '/v2',
  '/v2/credentialsx',
  '/credsx',
  '/v2/metadata',
]) {
  test(`${path} is passed through`, () => {
    assert.deepEqual(routeOf(path), { kind: 'pass-through' });
  });
}

const CASES = 10_000;

/** The canonical paths of targets that are made to be misread; targets without one are left out. */
function* canonicalPaths(): Generator<{ target: string; path: string; about: string }> {
  const random = SeededRandom.fromEnvironment(process.env, 5);
  for (let count = 0; count < CASES; count += 1) {
    const target = randomTarget(random);
    try {
      const path = canonicalPath(target);
      yield {
        target,
        path,
        about: `seed ${random.seed}, case ${count}: ${JSON.stringify(target)} parsed as ${path}`,
      };
    } catch (error) {
      assert.ok(error instanceof BadTarget);
    }
  }
}

test('a path that is passed through names no credential of the host, however leniently it is parsed', () => {
  let passed = 0;
  let refused = 0;
  for (const { path, about } of canonicalPaths()) {
    const { kind } = match(path).route;
    if (kind === 'refused') refused += 1;
    if (kind !== 'pass-through') continue;
    passed += 1;
    assert.equal(hostIdentityIn(path), undefined, about);
    const isTag = /^\/[^/]+\/meta-data\/tags\/instance\/[^/]+$/.test(path);
    const name = isTag ? path.split('/').slice(5) : [];
    for (const segments of readingsOf(path)) {
      const naming = segments.filter((segment) =>
        /^(iam|identity-credentials|security-credentials)/i.test(segment),
      );
      const allowed = name.map((segment) => segment.toLowerCase());
      assert.deepEqual(
        naming.filter((segment) => !allowed.includes(segment)),
        [],
        about,
      );
    }
  }
  assert.ok(passed > 1000 && refused > 1000, `${passed} passed, ${refused} refused: nothing was tested`);
});

test('a path has the same route when it is parsed again', () => {
  for (const { path, about } of canonicalPaths()) {
    assert.deepEqual(match(canonicalPath(path)), match(path), about);
    if (match(path).route.kind === 'pass-through') assert.ok(isForwardable(path), about);
  }
});

test('a role in a path is never empty and has no slash', () => {
  let seen = 0;
  for (const { path, about } of canonicalPaths()) {
    const { route, role } = match(path);
    if (route.kind !== 'role-credentials') continue;
    seen += 1;
    assert.match(role, /^[^/]+$/, about);
  }
  assert.ok(seen > 100, `${seen} paths with a role: nothing was tested`);
});
