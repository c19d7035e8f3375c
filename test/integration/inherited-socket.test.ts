// The built program with a listening socket that it inherits, as from metadataproxy.socket. The same under a real systemd
// is in test/e2e.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { test } from 'node:test';
import { request } from '../support/proxy.ts';
import { host, SECURITY_CREDENTIALS } from './host.ts';

async function heldPort(): Promise<{ held: Server; port: number }> {
  const held = createServer();
  await once(held.listen(0, '127.0.0.1'), 'listening');
  return { held, port: (held.address() as AddressInfo).port };
}

test('the proxy serves containers on the socket that it inherits', async (t) => {
  const { held, port } = await heldPort();
  const { docker, proxy } = await host(t, { inherited: held, env: { PORT: String(port) } });
  held.close();
  const { fields } = await proxy.awaitLog('listening');
  assert.deepEqual([fields['address'], fields['inherited']], [`127.0.0.1:${port}`, true]);
  await docker.host.run({ address: '127.0.0.21', env: { IAM_ROLE: 'app@123456789012' } });
  const answer = await request({ port, path: SECURITY_CREDENTIALS, from: '127.0.0.21' });
  assert.deepEqual([answer.status, answer.body], [200, 'app']);
});

test('a socket that is not at HOST and PORT is given up with a warning, and the proxy listens by itself', async (t) => {
  const { held, port } = await heldPort();
  const { proxy } = await host(t, { inherited: held });
  held.close();
  const { level, fields } = await proxy.awaitLog((line) => line.msg.startsWith('metadataproxy.socket listens elsewhere'));
  assert.equal(level, 'warning');
  assert.equal(fields['socket'], `127.0.0.1:${port}`);
  assert.equal(fields['settings'], '127.0.0.1:0');
  const { fields: listening } = await proxy.awaitLog('listening');
  assert.equal(listening['address'], `127.0.0.1:${proxy.port}`);
  assert.notEqual(proxy.port, port);
  await assert.rejects(request({ port, path: SECURITY_CREDENTIALS }), /ECONNREFUSED/);
});
