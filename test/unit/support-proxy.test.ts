import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { DockerEngine } from '../support/docker-engine.ts';
import { Imds, INSTANCE_ID } from '../support/imds.ts';
import { request, runToEnd, startProxy } from '../support/proxy.ts';
import { Sts } from '../support/sts.ts';

test('a proxy under test serves a container from the fake Docker, IMDS and STS, and exits on stop()', async (t) => {
  const [docker, imds, sts] = await Promise.all([DockerEngine.start(), Imds.start(), Sts.start()]);
  t.after(() => Promise.all([docker.close(), imds.close(), sts.close()]));
  const proxy = await startProxy(t, { docker, imds, sts });
  await docker.subscriptions.first();
  await docker.host.run({ address: '127.0.0.11', env: { IAM_ROLE: 'reader' } });
  await sts.calls.first(({ action }) => action === 'AssumeRole');
  const { body } = await request({
    port: proxy.port, from: '127.0.0.11', path: '/latest/meta-data/iam/security-credentials/reader',
  });
  const { AccessKeyId } = JSON.parse(body) as { AccessKeyId: string };
  assert.equal(sts.issuedAs(AccessKeyId).call.roleArn, 'arn:aws:iam::123456789012:role/reader');
  const path = '/latest/meta-data/instance-id';
  const passed = await request({ port: proxy.port, from: '127.0.0.11', path });
  assert.equal(passed.body, INSTANCE_ID);
  assert.deepEqual(await proxy.stop(), { code: 0, signal: null });
});

test('a proxy under test inherits none of the test\'s environment and exits with the test', async (t) => {
  process.env['ONLY_IN_THE_TEST'] = 'x';
  let pid = 0;
  await t.test('while it runs', async (inner) => {
    const env = { LOG_FORMAT: 'text', ADMIN_ADDR: 'off', AWS_REGION: 'eu-west-1' };
    const proxy = await startProxy(inner, { env });
    pid = proxy.pid;
    assert.ok(proxy.port > 0);
    assert.equal(proxy.adminPort, 0);
    const entries = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
    const names = entries.map((entry) => entry.split('=')[0]);
    assert.ok(names.includes('AWS_REGION') && names.includes('AWS_EC2_METADATA_DISABLED'));
    assert.ok(!names.includes('ONLY_IN_THE_TEST') && !names.includes('HOME'));
  });
  assert.ok(!existsSync(`/proc/${pid}`));
});

test('startProxy rejects with the output of a proxy that cannot start', async (t) => {
  const args = ['--no-such-flag'];
  await assert.rejects(startProxy(t, { args }), /the proxy has ended \(2\).*no-such-flag/s);
  const { code, stderr } = await runToEnd({ args });
  assert.equal(code, 2);
  assert.match(stderr, /no-such-flag/);
});
