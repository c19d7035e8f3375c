import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { test } from 'node:test';
import { reset } from '../support/reset.ts';

/** Both ends of a connection. */
async function connection(t: { after(end: () => void): void }): Promise<{ server: Socket; client: Socket }> {
  const listener = createServer().listen(0, '127.0.0.1');
  t.after(() => void listener.close());
  await once(listener, 'listening');
  const client = connect((listener.address() as AddressInfo).port, '127.0.0.1');
  const [server] = await once(listener, 'connection') as [Socket];
  client.resume();
  return { server, client };
}

test('the client gets ECONNRESET', async (t) => {
  const { server, client } = await connection(t);
  reset(server);
  const [error] = await once(client, 'error') as [NodeJS.ErrnoException];
  assert.equal(error.code, 'ECONNRESET');
});

test('resetting a connection that is shutting down closes it and leaks no handle', async (t) => {
  const { server, client } = await connection(t);
  client.on('error', () => {});
  server.end('the last word');
  reset(server);
  await once(server, 'close');
});
