import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { host, SECURITY_CREDENTIALS, until, type Host } from './host.ts';

// The SDK's default chain of source credentials. Each provider is SDK code that is loaded on demand and that a build could
// omit unnoticed.

const CONTAINER = '127.0.3.11';
const SSO_START = 'https://example.awsapps.com/start';

/** The access key that signs AssumeRole, with this environment and these files in the home directory. */
async function signer(
  t: TestContext, env: Record<string, string>, files: Record<string, string> = {}, prepare = (_: Host): void => {},
): Promise<string | undefined> {
  const home = await mkdtemp(join(tmpdir(), 'source-credentials-'));
  t.after(() => rm(home, { recursive: true }));
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(home, path)), { recursive: true });
    await writeFile(join(home, path), text);
  }
  const at = await host(t, { env: {
    HOME: home, AWS_ACCESS_KEY_ID: undefined, AWS_SECRET_ACCESS_KEY: undefined, AWS_REGION: 'eu-west-1',
    AWS_CONFIG_FILE: join(home, 'config'), AWS_SHARED_CREDENTIALS_FILE: join(home, 'credentials'),
    ...Object.fromEntries(Object.entries(env).map(([name, value]) => [name, value.replace('~', home)])),
  } });
  prepare(at);
  await at.docker.host.run({ address: CONTAINER, env: { IAM_ROLE: 'app@123456789012' } });
  await until(() => at.ask(CONTAINER, `${SECURITY_CREDENTIALS}app`), ({ status }) => status === 200, 5_000);
  return at.sts.assumed('arn:aws:iam::123456789012:role/app').at(-1)?.accessKeyId;
}

/** A server on 127.0.0.1 that answers every request with the same JSON. */
async function answering(t: TestContext, body: object): Promise<string> {
  const server = createServer((_request, response) => {
    response.setHeader('Content-Type', 'application/json').end(JSON.stringify(body));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => void server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const inAnHour = (): string => new Date(Date.now() + 3_600_000).toISOString();

test('source credentials come from the environment', async (t) => {
  assert.equal(await signer(t, { AWS_ACCESS_KEY_ID: 'AKIAENV', AWS_SECRET_ACCESS_KEY: 'x' }), 'AKIAENV');
});

test('source credentials come from a profile', async (t) => {
  const credentials = '[ops]\naws_access_key_id = AKIAOPS\naws_secret_access_key = x\n';
  assert.equal(await signer(t, { AWS_PROFILE: 'ops' }, { credentials }), 'AKIAOPS');
});

test('source credentials come from a role that another profile assumes', async (t) => {
  const credentials = '[ops]\naws_access_key_id = AKIAOPS\naws_secret_access_key = x\n';
  const config = '[profile host]\nrole_arn = arn:aws:iam::123456789012:role/host\nsource_profile = ops\n';
  assert.match(await signer(t, { AWS_PROFILE: 'host' }, { credentials, config }) ?? '', /^ASIASTANDIN/);
});

test('source credentials come from a program', async (t) => {
  const answer = { Version: 1, AccessKeyId: 'ASIAPROCESS', SecretAccessKey: 'x', SessionToken: 'y' };
  const config = '[profile host]\ncredential_process = cat ANSWER\n';
  const home = await mkdtemp(join(tmpdir(), 'credential-process-'));
  t.after(() => rm(home, { recursive: true }));
  await writeFile(join(home, 'answer.json'), JSON.stringify(answer));
  const files = { config: config.replace('ANSWER', join(home, 'answer.json')) };
  assert.equal(await signer(t, { AWS_PROFILE: 'host' }, files), 'ASIAPROCESS');
});

test('source credentials come from a container credentials endpoint', async (t) => {
  const url = await answering(t, {
    AccessKeyId: 'ASIAECS', SecretAccessKey: 'x', Token: 'y', Expiration: inAnHour(),
  });
  assert.equal(await signer(t, { AWS_CONTAINER_CREDENTIALS_FULL_URI: url }), 'ASIAECS');
});

test('source credentials come from a web identity', async (t) => {
  const env = { AWS_WEB_IDENTITY_TOKEN_FILE: '~/token', AWS_ROLE_ARN: 'arn:aws:iam::123456789012:role/host' };
  const body = `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
    <AssumeRoleWithWebIdentityResult><Credentials>
      <AccessKeyId>ASIAWEB</AccessKeyId><SecretAccessKey>x</SecretAccessKey><SessionToken>y</SessionToken>
      <Expiration>${inAnHour()}</Expiration>
    </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`;
  assert.equal(await signer(t, env, { token: 'a.b.c' }, ({ sts }) => {
    sts.fault({ kind: 'body', body }, ({ action }) => action === 'AssumeRoleWithWebIdentity');
  }), 'ASIAWEB');
});

test('source credentials come from a single sign-on', async (t) => {
  const url = await answering(t, { roleCredentials: {
    accessKeyId: 'ASIASSO', secretAccessKey: 'x', sessionToken: 'y', expiration: Date.now() + 3_600_000,
  } });
  const config = `[profile host]\nsso_start_url = ${SSO_START}\nsso_region = eu-west-1\n` +
    'sso_account_id = 123456789012\nsso_role_name = host\n';
  const cache = `.aws/sso/cache/${createHash('sha1').update(SSO_START).digest('hex')}.json`;
  const token = JSON.stringify({ accessToken: 'z', expiresAt: inAnHour() });
  const env = { AWS_PROFILE: 'host', AWS_ENDPOINT_URL_SSO: url };
  assert.equal(await signer(t, env, { config, [cache]: token }), 'ASIASSO');
});
