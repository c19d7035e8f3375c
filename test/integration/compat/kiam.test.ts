import assert from 'node:assert/strict';
import { test } from 'node:test';
import { arnOf, host, INSTANCE_ID_PATH, refusal, SECURITY_CREDENTIALS, type Host } from './host.ts';

const A = '127.0.0.21';
const ZONE = '/latest/meta-data/placement/availability-zone';
const USER_DATA = '/latest/user-data';

/** Those of these paths that pass through. The others are 404 and never reach the upstream IMDS. */
async function passed({ imds, ask }: Host, paths: readonly string[]): Promise<string[]> {
  const through: string[] = [];
  for (const path of paths) {
    imds.requests.clear();
    const { status } = await ask(A, path);
    const isForwarded = imds.requests.all(({ method }) => method === 'GET').length > 0;
    if (isForwarded) through.push(path);
    else assert.equal(status, 404, path);
  }
  return through;
}

test('kiam: only paths that match PASSTHROUGH_ALLOW pass through', async (t) => {
  const running = await host(t, {
    env: { PASSTHROUGH_ALLOW: `(${ZONE}|/latest/dynamic/instance-identity/document)` },
  });
  const allowed = [ZONE, '/latest/dynamic/instance-identity/document', `${ZONE}-id`];
  assert.deepEqual(
    await passed(running, [...allowed, USER_DATA, INSTANCE_ID_PATH, '/', '/latest/']),
    allowed,
  );
});

test('kiam: PASSTHROUGH_ALLOW may match anywhere in the path', async (t) => {
  const running = await host(t, { env: { PASSTHROUGH_ALLOW: 'meta-data' } });
  assert.deepEqual(await passed(running, [INSTANCE_ID_PATH, USER_DATA]), [INSTANCE_ID_PATH]);
});

test('kiam: with PASSTHROUGH_ALLOW=^$, its default, nothing passes through', async (t) => {
  const running = await host(t, { env: { PASSTHROUGH_ALLOW: '^$' } });
  assert.deepEqual(await passed(running, [INSTANCE_ID_PATH, USER_DATA, '/']), []);
});

test('kube2iam: PASSTHROUGH_DENY denies user-data', async (t) => {
  const running = await host(t, { env: { PASSTHROUGH_DENY: '/user-data' } });
  assert.deepEqual(await passed(running, [USER_DATA, '/2019-10-01/user-data', INSTANCE_ID_PATH]), [
    INSTANCE_ID_PATH,
  ]);
});

test('kiam, kube2iam: PASSTHROUGH_DENY takes precedence over PASSTHROUGH_ALLOW', async (t) => {
  const running = await host(t, {
    env: { PASSTHROUGH_ALLOW: '.*', PASSTHROUGH_DENY: 'user-data|placement' },
  });
  assert.deepEqual(await passed(running, [USER_DATA, ZONE, INSTANCE_ID_PATH]), [INSTANCE_ID_PATH]);
});

test('kiam, kube2iam: PASSTHROUGH_DENY is matched on the canonical path, in any case', async (t) => {
  const running = await host(t, { env: { PASSTHROUGH_DENY: '^/latest/user-data' } });
  assert.deepEqual(
    await passed(running, [
      '/latest/user%2ddata',
      '/latest/%75ser-data',
      '//latest//user-data',
      '/latest/./user-data',
      '/latest/x/../user-data',
      '/LATEST/User-Data',
      '/latest/user-data/',
      '/latest/user-data?x=1',
      '/latest%2fuser-data',
      INSTANCE_ID_PATH,
    ]),
    [INSTANCE_ID_PATH],
  );
});

test('kiam, kube2iam: PASSTHROUGH_ALLOW is matched on the canonical path', async (t) => {
  const running = await host(t, { env: { PASSTHROUGH_ALLOW: `^${ZONE}$` } });
  const same = [`${ZONE}?x=1`, `/${ZONE}`, ZONE.replace('placement', '%70lacement')];
  assert.deepEqual(
    await passed(running, [...same, `${USER_DATA}?${ZONE}`, `${ZONE}/../../../user-data`]),
    same,
  );
});

test('kiam, kube2iam: credentials and session tokens are not subject to the patterns', async (t) => {
  const { docker, ask, callFor } = await host(t, {
    env: { PASSTHROUGH_ALLOW: '^$', PASSTHROUGH_DENY: '.*' },
  });
  await docker.host.run({ address: A, env: { IAM_ROLE: arnOf('app') } });
  assert.equal((await ask(A, SECURITY_CREDENTIALS)).body, 'app');
  assert.equal((await callFor(A)).roleArn, arnOf('app'));
  const token = await ask(A, '/latest/api/token', { 'X-aws-ec2-metadata-token-ttl-seconds': '60' }, 'PUT');
  assert.equal(token.status, 200);
});

test('kiam, kube2iam: no pattern allows a path to the host\'s credentials', async (t) => {
  const running = await host(t, { env: { PASSTHROUGH_ALLOW: '.*' } });
  assert.deepEqual(
    await passed(running, [
      `${SECURITY_CREDENTIALS}host`,
      '/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance',
    ]),
    [],
  );
});

for (const setting of ['PASSTHROUGH_ALLOW', 'PASSTHROUGH_DENY'] as const) {
  test(`kiam, kube2iam: an invalid ${setting} ends the program with exit code 2`, async () => {
    const { code, lines } = await refusal({ env: { [setting]: '(' } });
    assert.equal(code, 2);
    assert.equal(lines.length, 1);
    assert.match(
      lines[0] ?? '',
      new RegExp(
        `^metadataproxy: ${setting}: "\\(" is invalid: Invalid regular expression: .*; expected a regular expression$`,
      ),
    );
  });
}
