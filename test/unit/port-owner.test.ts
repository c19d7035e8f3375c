import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { test } from 'node:test';
import { portOwners } from '../../lib/commands/port-owner.ts';

for (const host of ['127.0.0.1', '::1']) {
  test(`the owner of a port on ${host} is the process that listens`, async (t) => {
    const server = createServer();
    t.after(() => server.close());
    await once(server.listen(0, host), 'listening');
    const { port } = server.address() as AddressInfo;
    const owners = await portOwners(port);
    assert.equal(owners.length, 1);
    assert.equal(owners[0]?.uid, process.getuid?.());
    assert.deepEqual(owners[0]?.processes.map(({ pid }) => pid), [process.pid]);
    assert.match(owners[0]?.processes[0]?.command ?? '', /\w/);
  });
}

test('a port on which nothing listens has no owner', async () => {
  const server = createServer();
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  await once(server.close(), 'close');
  assert.deepEqual(await portOwners(port), []);
});

test('a connection to the port is no owner', async (t) => {
  const server = createServer();
  t.after(() => server.close());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  const { connect } = await import('node:net');
  const client = connect(port, '127.0.0.1');
  const [accepted] = (await once(server, 'connection')) as [import('node:net').Socket];
  assert.equal((await portOwners(port)).length, 1);
  client.destroy();
  accepted.destroy();
});
