import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BadRoleRequest } from '../../lib/roles/bad-request.ts';
import { parseSessionPolicy, sessionPolicy } from '../../lib/roles/session-policy.ts';

const OBJECT = 'the session policy is not a JSON object with a "Statement"';

test('a session policy is compact JSON', () => {
  const text =
    ' {\n  "Version": "2012-10-17",\n  "Statement": [ { "Effect": "Allow", "Action": "s3:*", "Resource": "*" } ]\n}\n';
  const policy = parseSessionPolicy(text);
  assert.deepEqual(JSON.parse(policy), JSON.parse(text));
  assert.doesNotMatch(policy, /\s/);
  assert.equal(sessionPolicy(JSON.parse(text)), policy);
});

test('blanks do not count against the 2048 characters that STS accepts', () => {
  const statement = 'x'.repeat(2048 - '{"Statement":""}'.length);
  assert.equal(parseSessionPolicy(`${' '.repeat(500)}{"Statement": "${statement}"}`).length, 2048);
  assert.throws(
    () => parseSessionPolicy(`{"Statement":"${statement}x"}`),
    new BadRoleRequest('the session policy has 2049 characters; STS accepts 2048'),
  );
});

for (const text of ['[]', '"Statement"', '5', 'null', 'true', '{}', '{"statement":[]}']) {
  test(`${text} is not a session policy`, () => {
    assert.throws(() => parseSessionPolicy(text), new BadRoleRequest(OBJECT));
    assert.throws(() => sessionPolicy(JSON.parse(text)), new BadRoleRequest(OBJECT));
  });
}

test('text that is not JSON is not a session policy, and the message has only its beginning', () => {
  assert.throws(
    () => parseSessionPolicy(`{${'x'.repeat(5000)}`),
    (error) => {
      assert.ok(error instanceof BadRoleRequest);
      assert.match(error.message, /^the session policy "\{x{199}…" is not JSON \(/);
      assert.ok(error.message.length < 400);
      return true;
    },
  );
});
