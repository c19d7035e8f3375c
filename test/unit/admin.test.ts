import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { AdminServer } from '../../lib/admin/server.ts';
import type { Check } from '../../lib/admin/status.ts';
import { raw, request } from '../support/client.ts';
import { aStatus } from './helpers/status.ts';

async function setUp(t: TestContext) {
  const checks: Record<string, Check> = { docker: { ok: true, detail: 'synced' } };
  const admin = new AdminServer({ readiness: () => checks, status: aStatus });
  const port = await admin.listen('', 0);
  t.after(() => admin.close());
  return { checks, port };
}

test('/healthz answers that the proxy is alive', async (t) => {
  const { port } = await setUp(t);
  const { status, headers } = await request({ port, path: '/healthz?x' });
  assert.deepEqual(
    [status, headers['content-type'], headers['cache-control']],
    [200, 'application/json', 'no-store'],
  );
});

test('/readyz is 503 until every check is ok, and lists the checks', async (t) => {
  const { port, checks } = await setUp(t);
  assert.equal((await request({ port, path: '/readyz' })).status, 200);
  checks['docker'] = { ok: false, detail: 'starting' };
  const { status, body } = await request({ port, path: '/readyz' });
  assert.equal(status, 503);
  assert.deepEqual((JSON.parse(body) as { checks: unknown }).checks, {
    docker: { ok: false, detail: 'starting' },
  });
});

test('/status answers with the status', async (t) => {
  const { port } = await setUp(t);
  assert.deepEqual(JSON.parse((await request({ port, path: '/status' })).body), aStatus());
  assert.equal((await request({ port, path: '/status', method: 'HEAD' })).body, '');
});

test('terminal control characters are escaped', async (t) => {
  const { port, checks } = await setUp(t);
  checks['docker'] = { ok: false, detail: '\u009b31m' };
  const { body } = await request({ port, path: '/readyz' });
  assert.match(body, /\\u009b31m/);
  assert.doesNotMatch(body, /\u009b/);
});

test('other paths are 404, and other methods 405', async (t) => {
  const { port } = await setUp(t);
  for (const path of ['/x', '/index.html', '/favicon.ico', '/latest/meta-data/', '/statusx', '/status/'])
    assert.equal((await request({ port, path })).status, 404, path);
  const { status, headers } = await request({ port, path: '/status', method: 'POST' });
  assert.deepEqual([status, headers['allow']], [405, 'GET, HEAD']);
});

test('a Host other than an address or localhost is refused, which prevents DNS rebinding', async (t) => {
  const { port } = await setUp(t);
  const ask = async (host: string) =>
    (await raw({ port, bytes: `GET /status HTTP/1.1\r\nHost: ${host}\r\n\r\n` })).responses[0]?.status;
  for (const host of ['127.0.0.1', `127.0.0.1:${port}`, '[::1]', '[::1]:80', 'localhost', 'localhost:1'])
    assert.equal(await ask(host), 200, host);
  for (const host of [
    'evil.example',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    'evil.example:80',
    '127.0.0.1@evil',
  ]) {
    assert.equal(await ask(host), 421, host);
  }
});

test('listening on a port in use is an error', async (t) => {
  const { port } = await setUp(t);
  const other = new AdminServer({ readiness: () => ({}), status: aStatus });
  await assert.rejects(other.listen('127.0.0.1', port), { code: 'EADDRINUSE' });
});
