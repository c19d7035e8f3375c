import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CallerUndetermined, UnknownCaller } from '../../lib/caller.ts';
import { CredentialService, type CredentialServiceOptions } from '../../lib/http/credential-service.ts';
import { sendText } from '../../lib/http/exchange.ts';
import { credentialHandlers } from '../../lib/http/handlers/credentials.ts';
import { NoRole } from '../../lib/assignments.ts';
import { request } from '../support/client.ts';
import { aContainer, aRequest, someCredentials } from './helpers/fixtures.ts';
import { startServer } from './helpers/metadata-server.ts';
import { deferred } from './helpers/promises.ts';

const CONTAINER = aContainer();
const REQUEST = aRequest('team/app');
const CREDENTIALS = someCredentials({
  roleArn: 'arn:aws:iam::123456789012:role/team/app',
  assumedRoleArn: 'a',
  assumedRoleId: 'i',
});

function credentialService(sources: Partial<CredentialServiceOptions> = {}): CredentialService {
  return new CredentialService({
    resolver: { resolve: () => CONTAINER },
    assignments: { requestFor: () => REQUEST },
    store: { get: () => CREDENTIALS, obtain: () => assert.fail('there is no need to wait') },
    ...sources,
  });
}

function handlersOf(all: CredentialService) {
  return {
    ...credentialHandlers(all),
    passThrough: (exchange: Parameters<typeof sendText>[0]) => sendText(exchange, 'passed'),
  };
}

const IAM = '/latest/meta-data/iam';

test('a container with a role gets the listing, and its credentials at every endpoint', async (t) => {
  const { port } = await startServer(t, handlersOf(credentialService()));
  const get = async (path: string): Promise<string> => {
    const { status, body } = await request({ port, path });
    assert.equal(status, 200, path);
    return body;
  };
  assert.equal(await get(`${IAM}/`), 'info\nsecurity-credentials/');
  assert.equal(
    await get(`${IAM}/security-credentials/`),
    'app',
    'the bare name, without a path or a line break',
  );
  assert.equal(await get(`${IAM}/security-credentials-extended`), 'app');
  assert.match(await get(`${IAM}/info`), /"InstanceProfileArn": "a"/);
  assert.match(await get(`${IAM}/security-credentials/app`), /^(?!.*AccountId).*ASIATEST/s);
  assert.match(await get(`${IAM}/security-credentials-extended/app/x`), /"AccountId": "123456789012"/);
  assert.match(await get('/creds'), /"RoleArn": "arn:aws:iam::123456789012:role\/team\/app"/);
});

test('another role than its own is 404, also one that differs in case or by its path', async (t) => {
  const { port } = await startServer(t, handlersOf(credentialService()));
  for (const role of ['other', 'App', 'ap', 'app2', 'team']) {
    assert.equal((await request({ port, path: `${IAM}/security-credentials/${role}` })).status, 404, role);
  }
});

const throws = (error: Error) => (): never => {
  throw error;
};

for (const [what, sources, status] of [
  ['no container has the address', { resolver: { resolve: throws(new UnknownCaller()) } }, 404],
  ['no container has the address after a lookup', { resolver: { resolve: async () => throws(new UnknownCaller())() } }, 404],
  ['the caller is undetermined', { resolver: { resolve: async () => throws(new CallerUndetermined())() } }, 503],
  [
    'the network peers of the container are undetermined',
    { assignments: { requestFor: async () => throws(new CallerUndetermined())() } },
    503,
  ],
  ['the container has no role', { assignments: { requestFor: throws(new NoRole()) } }, 404],
] as const) {
  test(`when ${what}, every request about its role is answered ${status}`, async (t) => {
    const { port } = await startServer(t, handlersOf(credentialService(sources)));
    for (const path of [
      IAM,
      `${IAM}/info`,
      `${IAM}/security-credentials/`,
      `${IAM}/security-credentials/app`,
      '/creds',
      '/v2/credentials/x',
    ]) {
      const { status: answered, body } = await request({ port, path });
      assert.equal(answered, status, path);
      assert.doesNotMatch(body, /ASIATEST/);
    }
    assert.equal((await request({ port, path: '/latest/meta-data/instance-id' })).body, 'passed');
  });
}

test('each step waits for the one before it', async (t) => {
  const caller = deferred<typeof CONTAINER>();
  const role = deferred<typeof REQUEST>();
  const steps: string[] = [];
  const all = credentialService({
    resolver: { resolve: () => caller.promise },
    assignments: {
      requestFor: (found) => {
        assert.equal(found, CONTAINER);
        steps.push('role');
        queueMicrotask(() => role.resolve(REQUEST));
        return role.promise;
      },
    },
    store: {
      get: (request) => {
        assert.equal(request, REQUEST);
        steps.push('credentials');
        return CREDENTIALS;
      },
      obtain: () => assert.fail('they are ready'),
    },
  });
  const { port } = await startServer(t, handlersOf(all));
  const answer = request({ port, path: '/creds' });
  caller.resolve(CONTAINER);
  assert.match((await answer).body, /ASIATEST/);
  assert.deepEqual(steps, ['role', 'credentials']);
});

test('where nothing has to be waited for, no step makes a promise', async (t) => {
  const handlers = credentialHandlers(credentialService());
  const results: unknown[] = [];
  const { port } = await startServer(t, {
    ...handlersOf(credentialService()),
    containerCredentials: (exchange) => void results.push(handlers.containerCredentials(exchange)),
  });
  assert.match((await request({ port, path: '/creds' })).body, /ASIATEST/);
  assert.deepEqual(results, [undefined]);
});

test('the log has the caller and its role', async (t) => {
  const { port, lines } = await startServer(
    t,
    handlersOf(
      credentialService({
        resolver: { resolve: async () => CONTAINER },
        store: { get: () => undefined, obtain: async () => CREDENTIALS },
      }),
    ),
  );
  await request({ port, path: '/creds' });
  const line = await lines.first(({ msg }) => msg === 'credentials served');
  assert.deepEqual([line['container'], line['role_arn']], ['web', CREDENTIALS.roleArn]);
  assert.doesNotMatch(JSON.stringify(lines.entries), /ASIATEST/);
});

test('the address of an unknown caller is in the log, and not in the answer', async (t) => {
  const { port, lines } = await startServer(t, handlersOf(credentialService({
    resolver: { resolve: ({ address }) => throws(new UnknownCaller(`no container has the address ${address}`))() },
  })));
  const { body } = await request({ port, from: '127.0.0.7', path: '/creds' });
  assert.doesNotMatch(body, /127\.0\.0\.7/);
  const line = await lines.first(({ msg }) => msg === 'credentials refused');
  assert.deepEqual(
    [line['address'], line['error']],
    ['127.0.0.7', new UnknownCaller('no container has the address 127.0.0.7').message],
  );
});
