import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { GetRoleCommand, IAMClient } from '@aws-sdk/client-iam';
import { AssumeRoleCommand, GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
import { ACCOUNT_ID, Sts, type StsOptions } from '../support/sts.ts';

const BASE = { accessKeyId: 'AKIABASE', secretAccessKey: 'base' };
const ROLE = `arn:aws:iam::${ACCOUNT_ID}:role/team/reader`;

async function start(t: TestContext, options?: StsOptions): Promise<{ sts: Sts; client: STSClient }> {
  const sts = await Sts.start(options);
  const client = clientOf(sts);
  t.after(async () => {
    client.destroy();
    await sts.close();
  });
  return { sts, client };
}

function clientOf(sts: Sts, credentials: { accessKeyId: string; secretAccessKey: string } = BASE): STSClient {
  return new STSClient({ endpoint: sts.url, region: 'eu-west-1', credentials, maxAttempts: 1 });
}

function assume(RoleArn = ROLE): AssumeRoleCommand {
  return new AssumeRoleCommand({ RoleArn, RoleSessionName: 'a-session' });
}

test('each AssumeRole of the SDK gets unique credentials', async (t) => {
  const { sts, client } = await start(t);
  const first = (await client.send(assume())).Credentials;
  const second = await client.send(assume());
  assert.match(first?.AccessKeyId ?? '', /^ASIA[A-Z0-9]{16}$/);
  assert.match(first?.SecretAccessKey ?? '', /^StandInSecret\/.*reader$/);
  assert.match(first?.SessionToken ?? '', /^StandInToken\//);
  assert.notEqual(first?.AccessKeyId, second.Credentials?.AccessKeyId);
  assert.equal(second.AssumedRoleUser?.Arn, `arn:aws:sts::${ACCOUNT_ID}:assumed-role/reader/a-session`);
  assert.equal(sts.issuedAs(first?.AccessKeyId ?? '').call.roleArn, ROLE);
});

test('a call is recorded with all parameters of AssumeRole', async (t) => {
  const { sts, client } = await start(t);
  await client.send(new AssumeRoleCommand({
    RoleArn: ROLE,
    RoleSessionName: 'a-session',
    ExternalId: 'outside',
    Policy: '{"Statement":[]}',
    PolicyArns: [{ arn: 'arn:aws:iam::aws:policy/ReadOnlyAccess' }],
    Tags: [{ Key: 'team', Value: 'a & b' }, { Key: 'stage', Value: '' }],
    TransitiveTagKeys: ['team'],
    DurationSeconds: 900,
    SourceIdentity: 'someone',
  }));
  const { parameters, ...call } = await sts.calls.first();
  assert.equal(parameters['Version'], '2011-06-15');
  assert.deepEqual(call, {
    action: 'AssumeRole',
    roleArn: ROLE,
    roleSessionName: 'a-session',
    externalId: 'outside',
    policy: '{"Statement":[]}',
    policyArns: ['arn:aws:iam::aws:policy/ReadOnlyAccess'],
    tags: { team: 'a & b', stage: '' },
    transitiveTagKeys: ['team'],
    durationSeconds: 900,
    sourceIdentity: 'someone',
    roleName: undefined,
    accessKeyId: 'AKIABASE',
    region: 'eu-west-1',
  });
});

test('the lifetime is DurationSeconds or the test\'s, by the test\'s clock', async (t) => {
  const { sts, client } = await start(t, { now: () => Date.parse('2030-01-01T00:00:00.900Z') });
  const expiration = async (DurationSeconds?: number): Promise<string | undefined> => {
    const command = new AssumeRoleCommand({ RoleArn: ROLE, RoleSessionName: 'a-session', DurationSeconds });
    return (await client.send(command)).Credentials?.Expiration?.toISOString();
  };
  assert.equal(await expiration(), '2030-01-01T01:00:00.000Z');
  assert.equal(await expiration(900), '2030-01-01T00:15:00.000Z');
  sts.lifetimeSeconds = 30;
  assert.equal(await expiration(), '2030-01-01T00:00:30.000Z');
});

test('GetCallerIdentity answers the identity that signed it', async (t) => {
  const { sts, client } = await start(t);
  const base = await client.send(new GetCallerIdentityCommand({}));
  assert.equal(base.Arn, `arn:aws:iam::${ACCOUNT_ID}:user/base`);
  await client.send(assume());
  const { accessKeyId, secretAccessKey } = await sts.issued.first();
  const assumed = clientOf(sts, { accessKeyId, secretAccessKey });
  t.after(() => assumed.destroy());
  const { Arn, Account } = await assumed.send(new GetCallerIdentityCommand({}));
  assert.deepEqual([Arn, Account], [`arn:aws:sts::${ACCOUNT_ID}:assumed-role/reader/a-session`, ACCOUNT_ID]);
});

test('GetRole answers a role\'s ARN with its path', async (t) => {
  const { sts } = await start(t);
  sts.roleArns.set('reader', ROLE);
  const iam = new IAMClient({ endpoint: sts.url, region: 'eu-west-1', credentials: BASE, maxAttempts: 1 });
  t.after(() => iam.destroy());
  const { Role } = await iam.send(new GetRoleCommand({ RoleName: 'reader' }));
  assert.deepEqual([Role?.Arn, Role?.Path], [ROLE, '/team/']);
  const other = await iam.send(new GetRoleCommand({ RoleName: 'other' }));
  assert.equal(other.Role?.Arn, `arn:aws:iam::${ACCOUNT_ID}:role/other`);
  const absent = iam.send(new GetRoleCommand({ RoleName: 'no role' }));
  await assert.rejects(absent, { name: 'NoSuchEntityException' });
});

test('a trust policy that requires an external ID denies calls without it', async (t) => {
  const { sts, client } = await start(t);
  sts.externalIds.set(ROLE, 'outside');
  await assert.rejects(client.send(assume()), { name: 'AccessDenied' });
});

test('a pending call is answered when the fault is lifted, the next call immediately', async (t) => {
  const { sts, client } = await start(t);
  const fault = sts.fault({ kind: 'hold' }, ROLE, 1);
  const pending = client.send(assume());
  await sts.calls.first();
  await client.send(assume());
  assert.deepEqual([sts.inFlight, sts.maxInFlight, fault.hits], [1, 2, 1]);
  fault.lift();
  await pending;
});

test('the SDK reports each fault as the intended error', async (t) => {
  const { sts, client } = await start(t);
  const errorOf = async (kind: Parameters<Sts['fault']>[0]): Promise<string> => {
    const fault = sts.fault(kind, ROLE);
    const error: unknown = await client.send(assume()).then(() => 'no error', (reason: unknown) => reason);
    fault.lift();
    return error instanceof Error ? error.name : String(error);
  };
  assert.equal(await errorOf({ kind: 'deny' }), 'AccessDenied');
  assert.equal(await errorOf({ kind: 'throttle' }), 'Throttling');
  assert.equal(await errorOf({ kind: 'expired-token' }), 'ExpiredToken');
  const unavailable = { kind: 'error', status: 503, code: 'ServiceUnavailable' } as const;
  assert.equal(await errorOf(unavailable), 'ServiceUnavailable');
  assert.notEqual(await errorOf({ kind: 'malformed' }), 'no error');
  assert.notEqual(await errorOf({ kind: 'truncated' }), 'no error');
  assert.notEqual(await errorOf({ kind: 'reset' }), 'no error');
  assert.equal(await errorOf({ kind: 'delay', ms: 1 }), 'no error');
});

test('a fault for one role does not affect others', async (t) => {
  const { sts, client } = await start(t);
  sts.fault({ kind: 'deny' }, ROLE);
  await assert.rejects(client.send(assume()), { name: 'AccessDenied' });
  await client.send(assume(`arn:aws:iam::${ACCOUNT_ID}:role/other`));
  assert.equal(sts.assumed(ROLE).length, 1);
  assert.equal(sts.assumed().length, 2);
});

test('a stopped server refuses connections and listens again on the same port', async (t) => {
  const { sts, client } = await start(t);
  await sts.stop();
  await assert.rejects(client.send(assume()), { code: 'ECONNREFUSED' });
  await sts.listen();
  await client.send(assume());
});
