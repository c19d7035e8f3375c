import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseArnPattern, wildcard } from '../../lib/roles/arn-pattern.ts';
import { BadRoleRequest } from '../../lib/roles/bad-request.ts';

const ROLE = 'arn:aws:iam::123456789012:role/';

for (const [pattern, matching, others] of [
  [
    `${ROLE}app`,
    [`${ROLE}app`],
    [`${ROLE}app2`, `${ROLE}x/app`, `x${ROLE}app`, `${ROLE}App`, `${ROLE}app\n`],
  ],
  [
    `${ROLE}app-*`,
    [`${ROLE}app-`, `${ROLE}app-one`, `${ROLE}app-one/two`],
    [`${ROLE}app`, `${ROLE}x/app-one`],
  ],
  [`${ROLE}*/app`, [`${ROLE}a/app`, `${ROLE}a/b/app`, `${ROLE}/app`], [`${ROLE}app`, `${ROLE}a/app2`]],
  [`${ROLE}app-?`, [`${ROLE}app-1`], [`${ROLE}app-`, `${ROLE}app-12`]],
  ['arn:*:iam::*:role/app', [`${ROLE}app`, 'arn:aws-cn:iam::1:role/app'], [`${ROLE}apps`]],
  ['*', [`${ROLE}app`, 'anything'], []],
  // Whatever means something in a regular expression means itself.
  [`${ROLE}a.b+c`, [`${ROLE}a.b+c`], [`${ROLE}axb+c`, `${ROLE}a.bbc`]],
  [
    `${ROLE}(a|b)[c]{2}^$\\d`,
    [`${ROLE}(a|b)[c]{2}^$\\d`],
    [`${ROLE}a`, `${ROLE}ac`, `${ROLE}(a|b)[c]{2}^$1`],
  ],
] as const) {
  test(`the pattern ${pattern} matches whole ARNs, with * for any characters and ? for one`, () => {
    const { matches } = parseArnPattern(pattern);
    assert.deepEqual(
      matching.filter((arn) => !matches(arn)),
      [],
    );
    assert.deepEqual(
      others.filter((arn) => matches(arn)),
      [],
    );
  });
}

for (const pattern of [
  'app',
  'app-*',
  'role/app',
  'arn:aws:iam::123456789012:user/*',
  'arn:aws:sts::123456789012:assumed-role/x/*',
  'arn:aws:iam::123456789012:role/',
]) {
  test(`the pattern "${pattern}" can match no role, and is refused`, () => {
    assert.throws(
      () => parseArnPattern(pattern),
      (error) => {
        assert.ok(error instanceof BadRoleRequest);
        assert.equal(
          error.message,
          `"${pattern}" matches no role; expected an ARN such as arn:aws:iam::123456789012:role/app-*`,
        );
        return true;
      },
    );
  });
}

test('a wildcard matches line breaks like any other character, and only whole strings', () => {
  assert.equal(wildcard('a*b')('a\n\nb'), true);
  assert.equal(wildcard('a?b')('a\nb'), true);
  assert.equal(wildcard('a')('a\n'), false);
  assert.equal(wildcard('')(''), true);
  assert.equal(wildcard('')('a'), false);
});

test('the time to match does not grow with the number of stars', () => {
  // Labels and image names are for whoever starts containers to choose, and may be long.
  const before = process.cpuUsage();
  assert.equal(wildcard('*a*a*a*a*b')('a'.repeat(140)), false);
  // A thousandth of this is plenty; tried in every combination, the stars take some seconds.
  assert.ok(process.cpuUsage(before).user < 1_000_000);
});
