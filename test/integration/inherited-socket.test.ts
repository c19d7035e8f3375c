// The built program with an inherited listening socket, as from metadataproxy.socket. test/e2e has the same with a real
// systemd.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { test } from 'node:test';
import { request } from '../support/proxy.ts';
import { host, SECURITY_CREDENTIALS } from './host.ts';

async function listeningServer(): Promise<{ inherited: Server; port: number }> {
  const inherited = createServer();
  await once(inherited.listen(0, '127.0.0.1'), 'listening');
  return { inherited, port: (inherited.address() as AddressInfo).port };
}

test('the proxy serves containers on the socket that it inherits', async (t) => {
  const { inherited, port } = await listeningServer();
  const { docker, proxy } = await host(t, { inherited, env: { PORT: String(port) } });
  inherited.close();
  const { fields } = await proxy.awaitLog('listening');
  assert.deepEqual([fields['address'], fields['inherited']], [`127.0.0.1:${port}`, true]);
  await docker.host.run({ address: '127.0.0.21', env: { IAM_ROLE: 'app@123456789012' } });
  const answer = await request({ port, path: SECURITY_CREDENTIALS, from: '127.0.0.21' });
  assert.deepEqual([answer.status, answer.body], [200, 'app']);
});

test('an inherited socket with another address than HOST and PORT is closed with a warning, and the proxy listens itself', async (t) => {
  const { inherited, port } = await listeningServer();
  const { proxy } = await host(t, { inherited });
  inherited.close();
  const { level, fields } = await proxy.awaitLog((line) => line.msg.startsWith('metadataproxy.socket listens elsewhere'));
  assert.equal(level, 'warning');
  assert.equal(fields['socket'], `127.0.0.1:${port}`);
  assert.equal(fields['settings'], '127.0.0.1:0');
  const { fields: listening } = await proxy.awaitLog('listening');
  assert.equal(listening['address'], `127.0.0.1:${proxy.port}`);
  assert.notEqual(proxy.port, port);
  await assert.rejects(request({ port, path: SECURITY_CREDENTIALS }), /ECONNREFUSED/);
});
