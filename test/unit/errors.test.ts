import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CallerUndetermined, UnknownCaller } from '../../lib/caller.ts';
import { AssumeRoleDenied, CredentialsUnavailable } from '../../lib/credentials/credentials.ts';
import { BadTarget } from '../../lib/http/canonical-path.ts';
import { errorPage, failureOf, Refusal } from '../../lib/http/errors.ts';
import { NoRole } from '../../lib/assignments.ts';
import { BadRoleRequest } from '../../lib/roles/bad-request.ts';
import { UpstreamTimeout, UpstreamUnreachable } from '../../lib/imds/client.ts';

/** Stands for what an error could reveal of the host. */
const SECRET = 'SECRET';

const TABLE: readonly (readonly [what: string, error: unknown, status: number, code?: string])[] = [
  ['the request target has no canonical path', new BadTarget(SECRET), 400],
  ['no container has the address', new UnknownCaller(SECRET), 404],
  ['the container has no role', new NoRole(SECRET), 404],
  ['its role is invalid', new BadRoleRequest(SECRET), 404],
  ['STS denies the role', new AssumeRoleDenied('AccessDenied', SECRET), 403, 'AssumeRoleUnauthorizedAccess'],
  ['STS fails in a way that may pass', new CredentialsUnavailable(SECRET), 503, 'ServiceUnavailable'],
  ['the caller cannot be determined now', new CallerUndetermined(SECRET), 503, 'ServiceUnavailable'],
  ['the upstream IMDS cannot be reached', new UpstreamUnreachable(SECRET), 502],
  ['the upstream IMDS times out', new UpstreamTimeout(SECRET), 504],
  ['anything else happens', new TypeError(SECRET), 500],
  ['something else than an Error is thrown', SECRET, 500],
  ['nothing is thrown', undefined, 500],
];

for (const [what, error, status, code] of TABLE) {
  test(`when ${what}, the answer is ${status}${code === undefined ? '' : ` with the code ${code}`}`, () => {
    const failure = failureOf(error);
    assert.equal(failure.status, status);
    assert.equal(failure.code, code);
    assert.equal(failure.unexpected, status === 500 ? true : undefined);
    assert.doesNotMatch(JSON.stringify(failure), new RegExp(SECRET), 'and reveals nothing of the host');
  });
}

test('a denial names STS\'s error code', () => {
  assert.match(failureOf(new AssumeRoleDenied('RegionDisabled', '')).message ?? '', /RegionDisabled/);
});

test('a retryable error has Retry-After in whole seconds, at least one', () => {
  for (const [milliseconds, seconds] of [
    [0, '1'],
    [1, '1'],
    [1000, '1'],
    [1001, '2'],
    [59_500, '60'],
  ] as const) {
    const error = Object.assign(new CredentialsUnavailable(''), { retryAfter: milliseconds });
    assert.deepEqual(failureOf(error).headers, ['Retry-After', seconds]);
  }
  assert.deepEqual(failureOf(new CallerUndetermined('')).headers, ['Retry-After', '1']);
});

test('a refusal has the status and the headers that it was made with', () => {
  assert.deepEqual(failureOf(new Refusal(405, 'method', SECRET, ['Allow', 'PUT'])), {
    status: 405,
    reason: 'method',
    headers: ['Allow', 'PUT'],
  });
});

test("an error page is as small as that of IMDS and names the status", () => {
  const page = errorPage(404).toString();
  assert.match(page, /<title>404 - Not Found<\/title>/);
  assert.match(page, /<h1>404 - Not Found<\/h1>/);
  assert.ok(page.length < 500);
  assert.equal(errorPage(404), errorPage(404), 'it is made once');
  assert.match(errorPage(799).toString(), /799 - Error/);
});
