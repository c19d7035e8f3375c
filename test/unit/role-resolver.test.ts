import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../../lib/util/clock.ts';
import { AwsClients } from '../../lib/credentials/aws/clients.ts';
import { AssumeRoleDenied, CredentialsUnavailable } from '../../lib/credentials/credentials.ts';
import { RoleResolver } from '../../lib/credentials/aws/get-role.ts';
import { parseRoleReference } from '../../lib/roles/role-reference.ts';
import { ManualClock } from './helpers/manual-clock.ts';

const MINUTE = 60_000;

/** A resolver that asks an IAM of the test's making: an ARN is its answer, an error is thrown. */
function setUp(
  answer: (name: string) => string | Error = (name) => `arn:aws:iam::123456789012:role/${name}`,
  region = 'eu-west-1',
) {
  const asked: string[] = [];
  const clock = new ManualClock();
  const iam = {
    send: async ({ input }: { input: { RoleName: string } }) => {
      asked.push(input.RoleName);
      const given = answer(input.RoleName);
      if (given instanceof Error) throw given;
      return { Role: { Arn: given } };
    },
  };
  const real = new AwsClients({ region, hostRegion: async () => undefined, clock: systemClock });
  const clients = {
    region: async () => region,
    iam: async () => iam,
    call: real.call.bind(real),
  };
  // What the resolver uses of the clients.
  const resolver = new RoleResolver(clients as unknown as AwsClients, clock);
  const resolve = async (text: string): Promise<string> =>
    (await resolver.resolve(parseRoleReference(text))).arn;
  return { resolve, asked, clock };
}

test('an ARN needs no lookup', async () => {
  const { resolve, asked } = setUp();
  const arn = 'arn:aws-cn:iam::111111111111:role/a/app';
  assert.equal(await resolve(arn), arn);
  assert.deepEqual(asked, []);
});

test('a role with an account is in the partition of the region, and needs no lookup', async () => {
  for (const [region, partition] of [
    ['eu-west-1', 'aws'],
    ['cn-north-1', 'aws-cn'],
    ['us-gov-west-1', 'aws-us-gov'],
  ] as const) {
    const { resolve, asked } = setUp(undefined, region);
    assert.equal(await resolve('a/app@123456789012'), `arn:${partition}:iam::123456789012:role/a/app`);
    assert.deepEqual(asked, []);
  }
});

test('a name without an account is looked up at IAM, once in an hour', async () => {
  const { resolve, asked, clock } = setUp((name) => `arn:aws:iam::111111111111:role/hidden/${name}`);
  const all = await Promise.all(Array.from({ length: 100 }, () => resolve('app')));
  assert.deepEqual([...new Set(all)], ['arn:aws:iam::111111111111:role/hidden/app']);
  assert.deepEqual(asked, ['app']);
  await clock.advance(60 * MINUTE - 1);
  await resolve('app');
  assert.deepEqual(asked, ['app']);
  await clock.advance(1);
  await resolve('app');
  assert.deepEqual(asked, ['app', 'app']);
});

test('each name has its own answer', async () => {
  const { resolve, asked } = setUp();
  assert.notEqual(await resolve('one'), await resolve('two'));
  assert.deepEqual(asked, ['one', 'two']);
});

test('a failure is cached for ten seconds', async () => {
  let answer: string | Error = noSuchEntity();
  const { resolve, asked, clock } = setUp(() => answer);
  await assert.rejects(resolve('app'));
  answer = 'arn:aws:iam::123456789012:role/app';
  await clock.advance(9_999);
  await assert.rejects(resolve('app'));
  assert.equal(asked.length, 1);
  await clock.advance(1);
  assert.equal(await resolve('app'), 'arn:aws:iam::123456789012:role/app');
});

test('a given path must be the path of the role', async () => {
  const { resolve } = setUp(() => 'arn:aws:iam::123456789012:role/team/app');
  assert.equal(await resolve('team/app'), 'arn:aws:iam::123456789012:role/team/app');
  assert.equal(await resolve('app'), 'arn:aws:iam::123456789012:role/team/app', 'without one any will do');
  await assert.rejects(
    resolve('other/app'),
    (error) => error instanceof AssumeRoleDenied && /"\/team\/", not "\/other\/"/.test(error.message),
  );
});

test('an answer of IAM without an ARN means that there is no such role', async () => {
  const { resolve } = setUp(() => '');
  await assert.rejects(resolve('app'), AssumeRoleDenied);
});

test('an IAM that cannot be reached is a retryable failure', async () => {
  const { resolve } = setUp(() =>
    Object.assign(new Error('connect ECONNREFUSED'), { name: 'Error', code: 'ECONNREFUSED' }),
  );
  await assert.rejects(resolve('app'), CredentialsUnavailable);
});

test('a role that IAM does not have is denied', async () => {
  const { resolve } = setUp(noSuchEntity);
  await assert.rejects(
    resolve('app'),
    (error) => error instanceof AssumeRoleDenied && error.code === 'NoSuchEntity',
  );
});

/** As the SDK throws it: the class has a field `$retryable`, which is undefined here. */
function noSuchEntity(): Error {
  return Object.assign(new Error('The role with name app cannot be found.'), {
    name: 'NoSuchEntity',
    $fault: 'client',
    $metadata: { httpStatusCode: 404 },
    $retryable: undefined,
  });
}
