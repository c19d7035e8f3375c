import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseArnPattern } from '../../lib/roles/arn-pattern.ts';
import { aRequest } from './helpers/fixtures.ts';

function key(role: string, sessionName = 'session', externalId?: string): string {
  return aRequest(role, { sessionName, externalId }).key;
}

test('equal requests have the same key', () => {
  assert.equal(key('app@123456789012', 's', 'x'), key('app@123456789012', 's', 'x'));
  assert.equal(key('/app'), key('app'), 'however the role was written');
});

test('the key has everything that AssumeRole is given', () => {
  const keys = [
    key('app'),
    key('app2'),
    key('team/app'),
    key('app@123456789012'),
    key('app@123456789013'),
    key('team/app@123456789012'),
    key('arn:aws:iam::123456789012:role/app'),
    key('arn:aws-cn:iam::123456789012:role/app'),
    key('arn:aws:iam::123456789012:role/team/app'),
    key('app', 'other-session'),
    key('app', 'session', 'external'),
    key('app', 'session', 'External'),
    key('app', 'session', ''),
    key('app', 'session', 'null'),
    key('app', 'external', 'session'),
    aRequest('app', { policy: '{}' }).key,
    aRequest('app', { durationSeconds: 3600 }).key,
    aRequest('app', { sourceIdentity: '{}' }).key,
    aRequest('app', { tags: new Map([['a', 'b']]) }).key,
    aRequest('app', { tags: new Map([['a', 'b']]), transitiveTags: true }).key,
    aRequest('app', { allowed: [[parseArnPattern('*')]] }).key,
    aRequest('app', { allowed: [[parseArnPattern('*')], [parseArnPattern('*')]] }).key,
    aRequest('app', { allowed: [[]] }).key,
  ];
  assert.deepEqual(
    keys.filter((one, index) => keys.indexOf(one) !== index),
    [],
  );
});

test('no external ID can imitate the key of another request', () => {
  const forged = ['session","x"]', '"]', 'x",null]', '\\', '","'];
  const keys = forged.flatMap((text) => [
    key('app', 'session', text),
    key('app', text),
    key('app', text, 'x'),
  ]);
  assert.equal(new Set([...keys, key('app'), key('app', 'session', 'x')]).size, keys.length + 2);
});
