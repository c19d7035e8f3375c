import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeRoleArn } from '../../lib/roles/role-arn.ts';
import { BadRoleRequest } from '../../lib/roles/bad-request.ts';
import { parseRoleReference, roleName } from '../../lib/roles/role-reference.ts';
import { SeededRandom } from '../support/seeded-random.ts';

const ACCOUNT = '123456789012';

test('a role reference is a name', () => {
  assert.deepEqual(parseRoleReference('app'), { kind: 'name', text: 'app', name: 'app', path: '/' });
});

test('a role reference is a name and an account', () => {
  const expected = { kind: 'account', text: `app@${ACCOUNT}`, name: 'app', path: '/', accountId: ACCOUNT };
  assert.deepEqual(parseRoleReference(`app@${ACCOUNT}`), expected);
});

test('a role reference is a path, a name and an account, with or without the first slash', () => {
  for (const text of [`team/web/app@${ACCOUNT}`, `/team/web/app@${ACCOUNT}`]) {
    const expected = { kind: 'account', text, name: 'app', path: '/team/web/', accountId: ACCOUNT };
    assert.deepEqual(parseRoleReference(text), expected);
  }
});

test('a role reference is a path and a name', () => {
  assert.deepEqual(parseRoleReference('team/app'), {
    kind: 'name',
    text: 'team/app',
    name: 'app',
    path: '/team/',
  });
});

test('a role reference is an ARN in any partition', () => {
  const role = makeRoleArn('aws-cn', ACCOUNT, '/team/', 'app');
  assert.deepEqual(parseRoleReference(role.arn), { kind: 'arn', text: role.arn, role });
});

test('a role with an "@" in its name needs its ARN', () => {
  const reference = parseRoleReference(`arn:aws:iam::${ACCOUNT}:role/me@home`);
  assert.equal(roleName(reference), 'me@home');
  assert.throws(
    () => parseRoleReference('me@home'),
    /names the account "home"; expected 12 digits after the "@"/,
  );
});

test('containers see the bare name, whatever form the reference has', () => {
  for (const text of [
    'app',
    'team/app',
    `app@${ACCOUNT}`,
    `a/b/app@${ACCOUNT}`,
    `arn:aws:iam::${ACCOUNT}:role/a/b/app`,
  ]) {
    assert.equal(roleName(parseRoleReference(text)), 'app');
  }
});

for (const text of [
  '',
  ' ',
  '/',
  '@',
  '//',
  'a b',
  'app ',
  ' app',
  'app\n',
  'team/',
  '//app',
  'a//app',
  `@${ACCOUNT}`,
  `/@${ACCOUNT}`,
  'app@',
  'app@12345678901',
  'app@1234567890123',
  `app@${ACCOUNT} `,
  `app@${ACCOUNT}/x`,
  'app:x',
  'arn:',
  `arn:aws:iam::${ACCOUNT}:role/`,
  `arn:aws:iam::${ACCOUNT}:user/app`,
  `arn:aws:iam::${ACCOUNT}:role/a b`,
  'é',
  'a'.repeat(65),
  `${'a'.repeat(65)}@${ACCOUNT}`,
  `${'a/'.repeat(300)}app`,
  '../app@x',
  'app\u0000',
  '<app>',
  '"app"',
]) {
  test(`${JSON.stringify(text.slice(0, 50))} is an invalid role`, () => {
    assert.throws(() => parseRoleReference(text), BadRoleRequest);
  });
}

test('the message about an invalid role is one line, cuts a long value and names the accepted forms', () => {
  const message = (text: string): string => {
    try {
      parseRoleReference(text);
    } catch (error) {
      return (error as Error).message;
    }
    return assert.fail(`${text} was taken`);
  };
  assert.match(message('a\nb'), /^"a\\nb" is not a role; expected "name", "name@123456789012"/);
  assert.match(
    message('arn:x'),
    /^"arn:x" is not a role ARN; expected arn:aws:iam::123456789012:role\/name$/,
  );
  for (const text of [
    `${'x'.repeat(100_000)} `,
    `arn:${'x'.repeat(100_000)}`,
    `app@${'9'.repeat(100_000)}`,
  ]) {
    assert.ok(message(text).length < 700, `${message(text).length} characters`);
    assert.doesNotMatch(message(text), /\n/);
  }
});

// What a reference may be made of, and what it may not.
const NAME = 'abcXYZ019+=,.-_';
const NOISE = `${NAME}@/: \n\u0000é%"\\`;

test('any string is a role reference or a BadRoleRequest', () => {
  const random = SeededRandom.fromEnvironment(process.env, 11);
  const seen = { role: 0, none: 0 };
  for (let count = 0; count < 20_000; count += 1) {
    const text = random.chance(0.5)
      ? random.string(NOISE, 0, 12)
      : random.string(`${NAME}@//`, 1, 8) + random.pick(['', `@${ACCOUNT}`]);
    try {
      const reference = parseRoleReference(text);
      seen.role += 1;
      assert.equal(reference.text, text);
      assert.match(roleName(reference), /^[\w+=,.@-]{1,64}$/);
      if (reference.kind === 'arn') continue;
      assert.match(reference.path, /^\/(?:[!-.0-~]+\/)*$/);
      if (reference.kind === 'account') assert.match(reference.accountId, /^\d{12}$/);
      // Nothing of the string is lost.
      const parts =
        reference.path.slice(1) +
        reference.name +
        (reference.kind === 'account' ? `@${reference.accountId}` : '');
      assert.equal(parts, text.replace(/^\//, ''), `seed ${random.seed}`);
    } catch (error) {
      assert.ok(
        error instanceof BadRoleRequest,
        `seed ${random.seed}: ${JSON.stringify(text)}: ${String(error)}`,
      );
      seen.none += 1;
    }
  }
  assert.ok(seen.role > 1000 && seen.none > 1000, JSON.stringify(seen));
});

test('any valid path, name and account is parsed into the same parts', () => {
  const random = SeededRandom.fromEnvironment(process.env, 12);
  for (let count = 0; count < 5_000; count += 1) {
    const path = `/${Array.from({ length: random.int(0, 3) }, () => `${random.string(`${NAME}:@!~`, 1, 6)}/`).join('')}`;
    const name = random.string(NAME, 1, 64);
    const accountId = random.string('0123456789', 12, 12);
    const byAccount = parseRoleReference(`${path.slice(1)}${name}@${accountId}`);
    const isArnLike = path.startsWith('/arn:');
    if (isArnLike) continue;
    assert.deepEqual(
      { ...byAccount, text: '' },
      { kind: 'account', text: '', name, path, accountId },
      `seed ${random.seed}`,
    );
    const { arn } = makeRoleArn('aws', accountId, path, name);
    const byArn = parseRoleReference(arn);
    assert.deepEqual(byArn.kind === 'arn' && [byArn.role.path, byArn.role.name, byArn.role.accountId], [
      path,
      name,
      accountId,
    ]);
  }
});
