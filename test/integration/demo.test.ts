import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, test } from 'node:test';
import { request, startProxy } from '../support/proxy.ts';
import { jsonOf, SECURITY_CREDENTIALS, TOKEN, TOKEN_PATH, TTL } from './host.ts';

const proxy = await startProxy({ after }, { args: ['--mock', '--mock-credentials'], env: { METADATA_URL: undefined } });
const ask = (path: string, headers = {}, method = 'GET') => request({ port: proxy.port, path, headers, method });

test('the demo prints role, credentials and instance ID and exits with 0', () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['test/demo.mjs', '--once'], {
    env: { PATH: process.env['PATH'], AWS_EC2_METADATA_DISABLED: 'true' }, encoding: 'utf8',
  });
  assert.deepEqual([status, stderr], [0, '']);
  assert.match(stdout, /^demo-role$/m);
  const [json = ''] = /^\{\n[^]*?^\}$/m.exec(stdout) ?? [];
  const credentials = JSON.parse(json) as Record<string, string>;
  assert.equal(credentials['Code'], 'Success');
  assert.match(credentials['AccessKeyId'] ?? '', /^ASIAMOCK/);
  assert.match(stdout, /^i-0a1b2c3d4e5f67890$/m);
});

test('--mock-credentials: callers on loopback count as a container with the default role', async () => {
  const { body: token } = await ask(TOKEN_PATH, { [TTL]: '60' }, 'PUT');
  assert.equal((await ask(SECURITY_CREDENTIALS, { [TOKEN]: token })).body, 'demo-role');
  const credentials = jsonOf(await ask(`${SECURITY_CREDENTIALS}demo-role`, { [TOKEN]: token }));
  assert.match(Object.values(credentials).join(' '), /MOCK.*opens\+nothing.*opens-nothing/);
  const left = Date.parse(credentials['Expiration'] ?? '') - Date.now();
  assert.ok(left > 15 * 60_000 && left <= 60 * 60_000);
  assert.equal(jsonOf(await ask('/creds'))['RoleArn'], 'arn:aws:iam::123456789012:role/demo-role');
});

test('--mock-credentials: --role sets another default role', async (t) => {
  const other = await startProxy(t, { args: ['--mock-credentials', '-r', 'team/mine@210987654321'] });
  const answer = await request({ port: other.port, path: '/creds' });
  assert.equal(jsonOf(answer)['RoleArn'], 'arn:aws:iam::210987654321:role/team/mine');
});

test('--mock: the built-in tree has the paths of a t3 instance', async () => {
  const mac = (await ask('/latest/meta-data/mac')).body;
  const paths = [
    'ami-id', 'hostname', 'instance-id', 'instance-type', 'local-hostname', 'local-ipv4', 'mac', 'public-hostname',
    'public-ipv4', 'reservation-id', 'security-groups', 'placement/availability-zone', 'placement/region',
    'services/domain', 'services/partition', 'tags/instance/Name', 'block-device-mapping/ami',
    ...['device-number', 'interface-id', 'local-ipv4s', 'subnet-id', 'vpc-id', 'owner-id', 'security-group-ids']
      .map((leaf) => `network/interfaces/macs/${mac}/${leaf}`),
  ];
  for (const path of paths) {
    const answer = await ask(`/latest/meta-data/${path}`);
    assert.equal(answer.status, 200, path);
    assert.notEqual(answer.body, '', path);
  }
  assert.equal((await ask('/latest/meta-data/instance-type')).body, 't3.micro');
  const document = jsonOf(await ask('/latest/dynamic/instance-identity/document'));
  assert.equal(document['instanceId'], (await ask('/latest/meta-data/instance-id')).body);
  assert.equal(document['region'], (await ask('/latest/meta-data/placement/region')).body);
  assert.equal((await ask('/latest/user-data')).status, 200);
});

test('--mock: directories list what they have, and every entry can be read', async () => {
  const walk = async (path: string): Promise<number> => {
    const { status, body } = await ask(path);
    assert.equal(status, 200, path);
    if (!path.endsWith('/')) return 1;
    let leaves = 0;
    for (const name of body.split('\n').filter((line) => line !== '')) leaves += await walk(path + name);
    return leaves;
  };
  assert.ok(await walk('/latest/') > 30);
});

test('--mock: a missing path is 404', async () => {
  const paths = ['/latest/meta-data/nothing', '/latest/meta-data/instance-id/x', '/latest/__proto__'];
  for (const path of paths) {
    assert.equal((await ask(path)).status, 404, path);
  }
});
