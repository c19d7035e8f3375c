import assert from 'node:assert/strict';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { AdminServer } from '../../lib/admin/server.ts';
import { parseCommandLine } from '../../lib/config/cli.ts';
import { checkHealth } from '../../lib/commands/health.ts';
import { aStatus } from './helpers/status.ts';
import { ConfigError } from '../../lib/config/config.ts';

async function listening(t: TestContext, answer: RequestListener): Promise<number> {
  const server = createServer(answer).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

test('check --health is a command', () => {
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
  assert.deepEqual(await checkHealth({ adminAddress: { host: '127.0.0.1', port } }), { ok: true, text: 'alive\n' });
});

test('for a listener on every address the health check uses loopback', async (t) => {
  const port = await listening(t, (_request, response) => response.end('{}'));
  assert.equal((await checkHealth({ adminAddress: { host: '0.0.0.0', port } })).ok, true);
});

test('an error answer is not alive', async (t) => {
  const port = await listening(t, (_request, response) => response.writeHead(500).end());
  assert.deepEqual(await checkHealth({ adminAddress: { host: '127.0.0.1', port } }), {
    ok: false,
    text: `not alive: http://127.0.0.1:${port}/healthz answers 500\n`,
  });
});

test('a failed connection is not alive, with the reason', async (t) => {
  const port = await listening(t, (request) => request.socket.destroy());
  const { ok, text } = await checkHealth({ adminAddress: { host: '127.0.0.1', port } });
  assert.equal(ok, false);
  assert.match(text, /^not alive: http:\/\/127\.0\.0\.1:\d+\/healthz: .+\n$/);
});

test('without ADMIN_ADDR the check fails with the reason', async () => {
  const { ok, text } = await checkHealth({ adminAddress: 'off' });
  assert.equal(ok, false);
  assert.match(text, /ADMIN_ADDR is off/);
});
