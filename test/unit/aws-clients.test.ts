import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { AssumeRoleCommand, STSClient } from '@aws-sdk/client-sts';
import { systemClock } from '../../lib/util/clock.ts';
import { AwsClients } from '../../lib/credentials/aws/clients.ts';
import { AssumeRoleDenied, CredentialsUnavailable } from '../../lib/credentials/credentials.ts';

function clients(
  region: string | undefined = 'eu-west-1',
  hostRegion = async (): Promise<string | undefined> => undefined,
): AwsClients {
  return new AwsClients({ region, hostRegion, clock: systemClock });
}

/** The error that the SDK throws for an error answer of STS. */
async function thrownBySdk(t: TestContext, code: string, status: number): Promise<unknown> {
  const server = createServer((_request, response) => {
    response.writeHead(status, { 'Content-Type': 'text/xml' });
    response.end(
      '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>' +
        `<Code>${code}</Code><Message>the message</Message></Error><RequestId>1</RequestId></ErrorResponse>`,
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const client = new STSClient({
    region: 'eu-west-1',
    endpoint: `http://127.0.0.1:${port}`,
    credentials: { accessKeyId: 'AKIATEST', secretAccessKey: 'test' },
    maxAttempts: 1,
  });
  t.after(() => client.destroy());
  const role = { RoleArn: 'arn:aws:iam::123456789012:role/app', RoleSessionName: 'session' };
  return client.send(new AssumeRoleCommand(role)).then(
    () => assert.fail('STS answered'),
    (error: unknown) => error,
  );
}

for (const [code, status] of [
  ['AccessDenied', 403],
  ['RegionDisabledException', 403],
  ['ValidationError', 400],
  ['PackedPolicyTooLarge', 400],
  ['MalformedPolicyDocument', 400],
] as const) {
  test(`when STS answers ${code}, the role is denied`, async (t) => {
    const failure = clients().failure(await thrownBySdk(t, code, status));
    assert.ok(failure instanceof AssumeRoleDenied, failure.message);
    assert.match(failure.code, new RegExp(`^${code}`));
    assert.equal(failure.message, 'the message');
  });
}

for (const [code, status] of [
  ['Throttling', 400],
  ['ThrottlingException', 400],
  ['RequestLimitExceeded', 503],
  ['TooManyRequestsException', 429],
  ['InternalFailure', 500],
  ['ServiceUnavailable', 503],
] as const) {
  test(`when STS answers ${code}, the failure is retryable`, async (t) => {
    const failure = clients().failure(await thrownBySdk(t, code, status));
    assert.ok(failure instanceof CredentialsUnavailable);
    assert.match(failure.message, new RegExp(`${code}.*the message`));
  });
}

for (const [code, status] of [
  ['ExpiredToken', 403],
  ['ExpiredTokenException', 400],
  ['InvalidClientTokenId', 403],
  ['SignatureDoesNotMatch', 403],
  ['RequestExpired', 400],
] as const) {
  test(`when STS answers ${code}, the source credentials do not work`, async (t) => {
    const failure = clients().failure(await thrownBySdk(t, code, status));
    assert.ok(failure instanceof CredentialsUnavailable);
    assert.match(failure.message, /the proxy's source credentials do not work/);
  });
}

test('only an error about the source credentials recreates the clients', async () => {
  const all = clients();
  const before = await all.sts();
  all.failure(Object.assign(new Error('x'), { name: 'TimeoutError' }));
  assert.equal(await all.sts(), before);
  all.failure(Object.assign(new Error('no credentials'), { name: 'CredentialsProviderError' }));
  assert.notEqual(await all.sts(), before);
});

test('any other error, thrown as whatever value, is retryable', () => {
  for (const thrown of [
    Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' }),
    Object.assign(new Error('slow'), { name: 'TimeoutError' }),
    Object.assign(new Error('no metadata'), { $fault: 'client' }),
    Object.assign(new Error('not even HTTP'), { $fault: 'client', $metadata: {} }),
    Object.assign(new Error('theirs'), { $fault: 'server', $metadata: { httpStatusCode: 400 } }),
    'a string',
    undefined,
    null,
  ]) {
    assert.ok(clients().failure(thrown) instanceof CredentialsUnavailable, String(thrown));
  }
});

test('an error that is already classified stays the same', () => {
  for (const error of [new AssumeRoleDenied('A', 'b'), new CredentialsUnavailable('c')]) {
    assert.equal(clients().failure(error), error);
  }
});

/** Removes the machine's own region settings. */
function withoutRegion(t: TestContext): void {
  const names = [
    'AWS_REGION',
    'AWS_DEFAULT_REGION',
    'AWS_CONFIG_FILE',
    'AWS_SHARED_CREDENTIALS_FILE',
    'AWS_PROFILE',
  ] as const;
  const before = names.map((name) => [name, process.env[name]] as const);
  for (const name of names) delete process.env[name];
  process.env['AWS_CONFIG_FILE'] = process.env['AWS_SHARED_CREDENTIALS_FILE'] = '/dev/null';
  t.after(() => {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  });
}

test('the region comes from the settings, then from the host, then it is us-east-1', async (t) => {
  withoutRegion(t);
  const host = async (): Promise<string> => 'eu-north-1';
  assert.equal(await new AwsClients({ region: 'eu-west-1', hostRegion: host, clock: systemClock }).region(), 'eu-west-1');
  assert.equal(await new AwsClients({ region: undefined, hostRegion: host, clock: systemClock }).region(), 'eu-north-1');
  assert.equal(
    await new AwsClients({ region: undefined, hostRegion: async () => undefined, clock: systemClock }).region(),
    'us-east-1',
  );
});

test('the host\'s region is fetched once', async (t) => {
  withoutRegion(t);
  let asked = 0;
  const all = new AwsClients({ region: undefined, hostRegion: async () => `eu-west-${(asked += 1)}`, clock: systemClock });
  assert.deepEqual(await Promise.all([all.region(), all.region()]), ['eu-west-1', 'eu-west-1']);
  assert.equal(asked, 1);
});

test('an unknown host region is fetched again after a minute', async (t) => {
  withoutRegion(t);
  const answers = [undefined, 'cn-north-1'];
  let now = 0;
  const all = new AwsClients({ region: undefined, hostRegion: async () => answers.shift(), clock: { ...systemClock, now: () => now } });
  assert.equal(await all.region(), 'us-east-1');
  now = 59_999;
  assert.equal(await all.region(), 'us-east-1');
  now = 60_000;
  assert.equal(await all.region(), 'cn-north-1');
});
