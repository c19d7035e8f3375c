import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  isAccountId,
  isRoleName,
  isRolePath,
  makeRoleArn,
  parseRoleArn,
  partitionOf,
} from '../../lib/roles/role-arn.ts';

test('the ARN of a role in any partition is parsed, with or without a path', () => {
  for (const partition of [
    'aws',
    'aws-cn',
    'aws-us-gov',
    'aws-iso',
    'aws-iso-b',
    'aws-iso-e',
    'aws-iso-f',
    'aws-eusc',
  ]) {
    for (const [path, name] of [
      ['/', 'app'],
      ['/a/', 'app'],
      ['/service-role/team.x/', 'My+Role=1,2.3@4-5_6'],
    ] as const) {
      const arn = `arn:${partition}:iam::012345678901:role${path}${name}`;
      assert.deepEqual(parseRoleArn(arn), { arn, partition, accountId: '012345678901', path, name });
      assert.deepEqual(makeRoleArn(partition, '012345678901', path, name), parseRoleArn(arn));
    }
  }
});

for (const text of [
  '',
  'app',
  'arn:aws:iam::123456789012:user/app',
  'arn:aws:iam::123456789012:role/',
  'arn:aws:iam::123456789012:role',
  'arn:aws:iam::123456789012:role//app',
  'arn:aws:iam::123456789012:role/a//app',
  'arn:aws:iam::123456789012:role/app/',
  'arn:aws:iam::12345678901:role/app',
  'arn:aws:iam::1234567890123:role/app',
  'arn:aws:iam:us-east-1:123456789012:role/app',
  'arn:aws:sts::123456789012:assumed-role/app/session',
  'arn:aws:iam::aws:role/app',
  'arn:azure:iam::123456789012:role/app',
  'arn:AWS:iam::123456789012:role/app',
  'arn:aws-:iam::123456789012:role/app',
  'arn:aws:iam::123456789012:role/a b',
  'arn:aws:iam::123456789012:role/a:b',
  'arn:aws:iam::123456789012:role/appé',
  'arn:aws:iam::123456789012:role/app\n',
  ' arn:aws:iam::123456789012:role/app',
  'xarn:aws:iam::123456789012:role/app',
  `arn:aws:iam::123456789012:role/${'a'.repeat(65)}`,
  `arn:aws:iam::123456789012:role/${'a/'.repeat(256)}app`,
]) {
  test(`${JSON.stringify(text.slice(0, 60))} is not the ARN of a role`, () => {
    assert.equal(parseRoleArn(text), undefined);
  });
}

test('a name has at most 64 characters, a path 512', () => {
  assert.ok(parseRoleArn(`arn:aws:iam::123456789012:role/${'a'.repeat(64)}`));
  assert.equal(parseRoleArn(`arn:aws:iam::123456789012:role/${'a'.repeat(510)}/app`)?.path.length, 512);
  assert.ok(isRoleName('a'.repeat(64)) && !isRoleName('a'.repeat(65)) && !isRoleName(''));
  assert.ok(isRolePath(`/${'a'.repeat(510)}/`) && !isRolePath(`/${'a'.repeat(511)}/`));
});

test('an account is twelve digits', () => {
  assert.ok(isAccountId('000000000000'));
  for (const text of [
    '',
    '12345678901',
    '1234567890123',
    '12345678901x',
    ' 12345678901',
    '１２３４５６７８９０１２',
  ]) {
    assert.ok(!isAccountId(text), text);
  }
});

test('a path begins and ends with a slash and has no empty part', () => {
  for (const path of ['/', '/a/', '/a/b/', '/a!~@/']) assert.ok(isRolePath(path), path);
  for (const path of ['', 'a', '/a', 'a/', '//', '/a//', '/a b/', '/é/', '/a/\n'])
    assert.ok(!isRolePath(path), path);
});

test('the partition of a role without an ARN is that of the region', () => {
  const partitions = {
    'us-east-1': 'aws',
    'eu-west-1': 'aws',
    'ap-southeast-2': 'aws',
    'us-west-2': 'aws',
    'il-central-1': 'aws',
    'cn-north-1': 'aws-cn',
    'cn-northwest-1': 'aws-cn',
    'us-gov-west-1': 'aws-us-gov',
    'us-gov-east-1': 'aws-us-gov',
    'us-iso-east-1': 'aws-iso',
    'us-iso-west-1': 'aws-iso',
    'us-isob-east-1': 'aws-iso-b',
    'us-isof-south-1': 'aws-iso-f',
    'eu-isoe-west-1': 'aws-iso-e',
    'eusc-de-east-1': 'aws-eusc',
  };
  for (const [region, partition] of Object.entries(partitions))
    assert.equal(partitionOf(region), partition, region);
});
