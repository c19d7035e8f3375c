import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DirectoryUnavailable, UnknownCaller } from '../../lib/docker/container.ts';
import { AssumeRoleDenied, CredentialsUnavailable } from '../../lib/credentials/credentials.ts';
import { BadTarget } from '../../lib/http/canonical-path.ts';
import { errorPage, failureOf, Refusal } from '../../lib/http/errors.ts';
import { NoRole } from '../../lib/assignments.ts';
import { BadRoleRequest } from '../../lib/roles/bad-request.ts';
import { UpstreamTimeout, UpstreamUnreachable } from '../../lib/imds/client.ts';

/** Stands for whatever an error could tell of the host. */
const SECRET = 'SECRET';

const TABLE: readonly (readonly [what: string, error: unknown, status: number, code?: string])[] = [
  ['the request target has no one canonical reading', new BadTarget(SECRET), 400],
  ['no container has the address', new UnknownCaller(SECRET), 404],
  ['the container has no role', new NoRole(SECRET), 404],
  ['its role string means no role', new BadRoleRequest(SECRET), 404],
  ['STS denies the role', new AssumeRoleDenied('AccessDenied', SECRET), 403, 'AssumeRoleUnauthorizedAccess'],
  ['there is passing trouble with STS', new CredentialsUnavailable(SECRET), 503, 'ServiceUnavailable'],
  ['there is passing trouble with Docker', new DirectoryUnavailable(SECRET), 503, 'ServiceUnavailable'],
  ['the real metadata service cannot be reached', new UpstreamUnreachable(SECRET), 502],
  ['the real metadata service is slow', new UpstreamTimeout(SECRET), 504],
  ['anything else happens', new TypeError(SECRET), 500],
  ['something is thrown that is no error', SECRET, 500],
  ['nothing is thrown', undefined, 500],
];

for (const [what, error, status, code] of TABLE) {
  test(`when ${what}, the answer is ${status}${code === undefined ? '' : ` with the code ${code}`}`, () => {
    const failure = failureOf(error);
    assert.equal(failure.status, status);
    assert.equal(failure.code, code);
    assert.equal(failure.unexpected, status === 500 ? true : undefined);
    assert.doesNotMatch(JSON.stringify(failure), new RegExp(SECRET), 'and says nothing of the host');
  });
}

test('a denial says which error STS gave', () => {
  assert.match(failureOf(new AssumeRoleDenied('RegionDisabled', '')).message ?? '', /RegionDisabled/);
});

test('passing trouble says when to come back, in whole seconds, at least one', () => {
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
  assert.deepEqual(failureOf(new DirectoryUnavailable('')).headers, ['Retry-After', '1']);
});

test('a refusal has the status and the headers that it was made with', () => {
  assert.deepEqual(failureOf(new Refusal(405, 'method', SECRET, ['Allow', 'PUT'])), {
    status: 405,
    reason: 'method',
    headers: ['Allow', 'PUT'],
  });
});

test("the page of an error is as small as the real service's, and names the status", () => {
  const page = errorPage(404).toString();
  assert.match(page, /<title>404 - Not Found<\/title>/);
  assert.match(page, /<h1>404 - Not Found<\/h1>/);
  assert.ok(page.length < 500);
  assert.equal(errorPage(404), errorPage(404), 'it is made once');
  assert.match(errorPage(799).toString(), /799 - Error/);
});
