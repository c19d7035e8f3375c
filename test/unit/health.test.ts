import assert from 'node:assert/strict';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { AdminServer } from '../../lib/admin/server.ts';
import { parseCommandLine } from '../../lib/config/cli.ts';
import { askHealth } from '../../lib/commands/health.ts';
import { aStatus } from './helpers/status.ts';
import { ConfigError } from '../../lib/config/config.ts';

async function listening(t: TestContext, answer: RequestListener): Promise<number> {
  const server = createServer(answer).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

test('check --health is a command of its own', () => {
  assert.deepEqual(parseCommandLine(['check', '--health']), { kind: 'health', flags: {} });
});

for (const args of [['--health'], ['roles', '--health'], ['check', '--health', '--json']]) {
  test(`metadataproxy ${args.join(' ')} is refused`, () => {
    assert.throws(() => parseCommandLine(args), (error) => error instanceof ConfigError && /--health/.test(error.message));
  });
}

test('a proxy that is not ready is alive', async (t) => {
  const server = new AdminServer({ readiness: () => ({ docker: { ok: false, detail: 'away' } }), status: () => aStatus() });
  const port = await server.listen('127.0.0.1', 0);
  t.after(() => server.close());
  assert.deepEqual(await askHealth({ adminAddress: { host: '127.0.0.1', port } }), { ok: true, text: 'alive\n' });
});

test('a listener on every address is asked on loopback', async (t) => {
  const port = await listening(t, (_request, response) => response.end('{}'));
  assert.equal((await askHealth({ adminAddress: { host: '0.0.0.0', port } })).ok, true);
});

test('whatever answers with an error is not alive', async (t) => {
  const port = await listening(t, (_request, response) => response.writeHead(500).end());
  assert.deepEqual(await askHealth({ adminAddress: { host: '127.0.0.1', port } }), {
    ok: false,
    text: `not alive: http://127.0.0.1:${port}/healthz answers 500\n`,
  });
});

test('where nothing listens, nothing is alive, and the reason is told', async (t) => {
  const port = await listening(t, (request) => request.socket.destroy());
  const { ok, text } = await askHealth({ adminAddress: { host: '127.0.0.1', port } });
  assert.equal(ok, false);
  assert.match(text, /^not alive: http:\/\/127\.0\.0\.1:\d+\/healthz: .+\n$/);
});

test('without an operator\'s listener the answer is no, and says why', async () => {
  const { ok, text } = await askHealth({ adminAddress: 'off' });
  assert.equal(ok, false);
  assert.match(text, /ADMIN_ADDR is off/);
});
