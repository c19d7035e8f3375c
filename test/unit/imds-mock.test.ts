import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { match } from '../../lib/http/routes.ts';
import { canonicalPath } from '../../lib/http/canonical-path.ts';
import { startMockImds } from '../../lib/imds/mock.ts';
import { request, type Response } from '../support/client.ts';

const META_DATA = '/latest/meta-data/';

async function setUp(t: TestContext, instanceId = 'i-0123') {
  const mock = await startMockImds(instanceId);
  t.after(() => mock.close());
  assert.equal(mock.url.hostname, '127.0.0.1');
  const get = (path: string): Promise<Response> => request({ port: Number(mock.url.port), path });
  return { mock, get };
}

test('the mock shows the configured instance ID everywhere', async (t) => {
  const { get } = await setUp(t, 'i-mine');
  assert.equal((await get(`${META_DATA}instance-id`)).body, 'i-mine');
  const document = JSON.parse((await get('/latest/dynamic/instance-identity/document')).body) as {
    instanceId: string;
  };
  assert.equal(document.instanceId, 'i-mine');
});

test('the mock has the metadata of a t3 instance', async (t) => {
  const { get } = await setUp(t);
  const [mac] = (await get(`${META_DATA}network/interfaces/macs/`)).body.split('/');
  for (const path of [
    `${META_DATA}ami-id`,
    `${META_DATA}placement/availability-zone`,
    `${META_DATA}placement/region`,
    `${META_DATA}tags/instance/Name`,
    `${META_DATA}local-ipv4`,
    `${META_DATA}network/interfaces/macs/${mac}/vpc-id`,
    '/latest/user-data',
    '/2021-07-15/meta-data/mac',
    '/latest/dynamic/instance-identity/signature',
    '/latest/dynamic/instance-identity/pkcs7',
  ]) {
    const { status, body, headers } = await get(path);
    assert.deepEqual(
      [path, status, headers['content-type'], headers['server']],
      [path, 200, 'text/plain', 'EC2ws'],
    );
    assert.notEqual(body, '');
  }
});

test('every directory lists its entries, and every listed path exists and can be passed through', async (t) => {
  const { get } = await setUp(t);
  const seen: string[] = [];
  const walk = async (directory: string): Promise<void> => {
    const { status, body } = await get(directory);
    assert.equal(status, 200, directory);
    for (const name of body.split('\n').filter((line) => line !== '')) {
      const path = directory + name;
      if (name === 'iam/') continue; // The proxy's own to answer.
      assert.equal(match(canonicalPath(path)).route.kind, 'pass-through', path);
      seen.push(path);
      if (path.endsWith('/')) await walk(path);
      else if (directory === '/') await walk(`${path}/`);
      else assert.equal((await get(path)).status, 200, path);
    }
  };
  await walk('/');
  assert.ok(seen.includes('/latest/meta-data/placement/region') && seen.length > 100);
});

test('the mock has no credentials, and answers 404 for other paths', async (t) => {
  const { get } = await setUp(t);
  for (const path of [
    `${META_DATA}iam/security-credentials/`,
    `${META_DATA}nothing`,
    `${META_DATA}instance-id/x`,
    '/latest/nothing',
    '/latest/__proto__',
    '/latest/constructor',
    `${META_DATA}toString`,
    `${META_DATA}instance-id/length`,
  ]) {
    assert.equal((await get(path)).status, 404, path);
  }
});
