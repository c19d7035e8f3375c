import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DirectoryUnavailable, UnknownCaller } from '../../lib/docker/container.ts';
import { CredentialService, type CredentialServiceOptions } from '../../lib/http/credential-service.ts';
import { sendText } from '../../lib/http/exchange.ts';
import { containerCredentials } from '../../lib/http/handlers/container-credentials.ts';
import { iamInfo } from '../../lib/http/handlers/iam-info.ts';
import { iamListing } from '../../lib/http/handlers/iam-listing.ts';
import { roleCredentials } from '../../lib/http/handlers/role-credentials.ts';
import { roleNameListing } from '../../lib/http/handlers/role-name.ts';
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
    resolver: { resolve: () => CONTAINER, peersKnown: () => assert.fail('it names a role') },
    assignments: { requestFor: () => REQUEST, mayUsePeerRole: () => false },
    store: { get: () => CREDENTIALS, obtain: () => assert.fail('there is no need to wait') },
    ...sources,
  });
}

function handlersOf(all: CredentialService) {
  return {
    iamListing: iamListing(all),
    iamInfo: iamInfo(all),
    roleName: roleNameListing(all),
    roleCredentials: roleCredentials(all),
    containerCredentials: containerCredentials(all),
    passThrough: (exchange: Parameters<typeof sendText>[0]) => sendText(exchange, 'passed'),
  };
}

const IAM = '/latest/meta-data/iam';

test('a container with a role is told what there is, and gets its credentials through every door', async (t) => {
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

const nothingOpen = { peersKnown: () => undefined };

for (const [what, sources, status] of [
  ['no container has the address', { resolver: { ...nothingOpen, resolve: () => undefined } }, 404],
  ['no container has the address after a look', { resolver: { ...nothingOpen, resolve: async () => undefined } }, 404],
  [
    'it cannot be told which container asks',
    {
      resolver: {
        ...nothingOpen,
        resolve: async () => {
          throw new DirectoryUnavailable();
        },
      },
    },
    503,
  ],
  [
    'it cannot be told who shares the network of a container that names no role',
    {
      resolver: {
        resolve: () => CONTAINER,
        peersKnown: async () => {
          throw new DirectoryUnavailable();
        },
      },
      assignments: { requestFor: () => REQUEST, mayUsePeerRole: () => true },
    },
    503,
  ],
  [
    'the container has no role',
    {
      resolver: { ...nothingOpen, resolve: () => CONTAINER },
      assignments: {
        mayUsePeerRole: () => true,
        requestFor: () => {
          throw new NoRole();
        },
      },
    },
    404,
  ],
] as const) {
  test(`when ${what}, every question about its role is answered ${status}`, async (t) => {
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

test('whoever names no role has one only when it is known who shares its network', async (t) => {
  const { promise, resolve } = deferred<void>();
  let isKnown = false;
  const all = credentialService({
    resolver: { resolve: () => CONTAINER, peersKnown: () => promise.then(() => void (isKnown = true)) },
    assignments: {
      mayUsePeerRole: (container) => container === CONTAINER,
      requestFor: () => (isKnown ? REQUEST : assert.fail('it is not known yet')),
    },
  });
  const { port } = await startServer(t, handlersOf(all));
  const answer = request({ port, path: `${IAM}/security-credentials/` });
  resolve();
  assert.equal((await answer).body, 'app');
});

test('whoever is found stands in the exchange, for the log', async (t) => {
  const { port, lines } = await startServer(
    t,
    handlersOf(
      credentialService({
        resolver: { ...nothingOpen, resolve: async () => CONTAINER },
        store: { get: () => undefined, obtain: async () => CREDENTIALS },
      }),
    ),
  );
  await request({ port, path: '/creds' });
  const line = await lines.first(({ msg }) => msg === 'credentials served');
  assert.deepEqual([line['container'], line['role_arn']], ['web', CREDENTIALS.roleArn]);
  assert.doesNotMatch(JSON.stringify(lines.entries), /ASIATEST/);
});

test('a caller whom nobody knows is named by its address in the log alone', async (t) => {
  const { port, lines } = await startServer(t, handlersOf(credentialService({ resolver: { ...nothingOpen, resolve: () => undefined } })));
  const { body } = await request({ port, from: '127.0.0.7', path: '/creds' });
  assert.doesNotMatch(body, /127\.0\.0\.7/);
  const line = await lines.first(({ msg }) => msg === 'credentials refused');
  assert.deepEqual(
    [line['address'], line['error']],
    ['127.0.0.7', new UnknownCaller('no container has the address 127.0.0.7').message],
  );
});
