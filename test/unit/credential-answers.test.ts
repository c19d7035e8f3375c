import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Credentials } from '../../lib/credentials/credentials.ts';
import { credentialAnswer, type CredentialForm } from '../../lib/http/handlers/credential-answers.ts';

const CREDENTIALS: Credentials = {
  accessKeyId: 'ASIATEST',
  secretAccessKey: 'the/secret+key',
  sessionToken: 'the//token==',
  expiration: Date.parse('2026-01-02T03:04:05.999Z'),
  validUntil: 0,
  lastUpdated: Date.parse('2026-01-02T02:04:05.001Z'),
  roleArn: 'arn:aws:iam::123456789012:role/team/app',
  accountId: '123456789012',
  assumedRoleArn: 'arn:aws:sts::123456789012:assumed-role/app/web-0123456789ab',
  assumedRoleId: 'AROATEST:web-0123456789ab',
};

function entries(form: CredentialForm): [string, unknown][] {
  return Object.entries(JSON.parse(credentialAnswer(CREDENTIALS, form).toString()) as object);
}

const IMDS: [string, string][] = [
  ['Code', 'Success'],
  ['LastUpdated', '2026-01-02T02:04:05Z'],
  ['Type', 'AWS-HMAC'],
  ['AccessKeyId', 'ASIATEST'],
  ['SecretAccessKey', 'the/secret+key'],
  ['Token', 'the//token=='],
  ['Expiration', '2026-01-02T03:04:05Z'],
];

test('credentials have the keys of IMDS, in their order, and times to the second', () => {
  assert.deepEqual(entries('imds'), IMDS);
});

test('the extended form adds the account', () => {
  assert.deepEqual(entries('imds-extended'), [...IMDS, ['AccountId', '123456789012']]);
});

test("the ECS-style endpoint has the keys of the ECS agent", () => {
  assert.deepEqual(entries('ecs'), [
    ['RoleArn', 'arn:aws:iam::123456789012:role/team/app'],
    ['AccessKeyId', 'ASIATEST'],
    ['SecretAccessKey', 'the/secret+key'],
    ['Token', 'the//token=='],
    ['Expiration', '2026-01-02T03:04:05Z'],
  ]);
});

test("iam/info has the assumed role's ARN and id, and no secret", () => {
  assert.deepEqual(entries('info'), [
    ['Code', 'Success'],
    ['LastUpdated', '2026-01-02T02:04:05Z'],
    ['InstanceProfileArn', 'arn:aws:sts::123456789012:assumed-role/app/web-0123456789ab'],
    ['InstanceProfileId', 'AROATEST:web-0123456789ab'],
  ]);
});

test('a body is cached with its credentials, and never used for others', () => {
  const forms = ['imds', 'imds-extended', 'ecs', 'info'] as const;
  const renewed = { ...CREDENTIALS, secretAccessKey: 'another', lastUpdated: CREDENTIALS.expiration };
  for (const form of forms) {
    assert.equal(credentialAnswer(CREDENTIALS, form), credentialAnswer(CREDENTIALS, form));
    assert.notDeepEqual(credentialAnswer(renewed, form), credentialAnswer(CREDENTIALS, form));
  }
  assert.equal(new Set(forms.map((form) => credentialAnswer(CREDENTIALS, form).toString())).size, 4);
});
