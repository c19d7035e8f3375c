import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { roleRows } from '../../lib/admin/role-rows.ts';
import { AdminServer } from '../../lib/admin/server.ts';
import type { Status } from '../../lib/admin/status.ts';
import { NoStatus } from '../../lib/commands/status-client.ts';
import { status } from '../../lib/commands/status.ts';
import { readConfig } from '../../lib/config/config.ts';
import { aRow, aStatus, NOW } from './helpers/status.ts';

const configOf = (port: number) => readConfig({}, { ADMIN_ADDR: `127.0.0.1:${port}` });

async function ask(t: TestContext, told: Status, json = false) {
  const admin = new AdminServer({ readiness: () => told.checks, status: () => told });
  const port = await admin.listen('', 0);
  t.after(() => admin.close());
  const { ready, text } = await status(configOf(port), json);
  return { ready, text: text.replaceAll(String(port), 'PORT') };
}

test('metadataproxy status prints an aligned summary', async (t) => {
  const containers = [
    aRow(),
    aRow({ role: 'web', credentials: 'failing', expires: null, error: 'AccessDenied' }),
  ];
  const { ready, text } = await ask(t, aStatus({
    containers,
    roles: roleRows(containers),
    last_hour: { requests: 1234, refused: 5, failed: 1, p50: 0.00021, p99: 1.25 },
    sts: { state: 'failing', last_success: '2026-01-02T02:04:05.000Z', last_error: { time: NOW, message: 'away' } },
    errors: [{ message: 'role not assumed', about: 'web', error: 'AccessDenied', count: 3, first: NOW, last: NOW }],
  }));
  assert.equal(ready, true);
  assert.equal(text, `proxy       1.2.3 on Node v20.0.0, 127.0.0.1:PORT, up 3 h 4 min
state       ready
containers  2, with 2 roles
requests    1,234 in the last hour, 5 refused, 1 failed; p50 0.21 ms, p99 1.3 s
Docker      ok, last success just now
STS         FAILING, last success 1 h ago, last error just now: away
IMDS        no call yet

ROLE  CONTAINERS  CREDENTIALS  EXPIRES IN  ERROR
app   1           ready        1:00:00
web   1           failing      -           AccessDenied

RECENT ERRORS
just now       3x  role not assumed: web: AccessDenied
`);
});

test('a proxy that is not ready is shown with the reason', async (t) => {
  const checks = { docker: { ok: false, detail: 'starting' }, credentials: { ok: true, detail: 'found' } };
  const { ready, text } = await ask(t, aStatus({ ready: false, checks }));
  assert.equal(ready, false);
  assert.match(text, /^state {7}NOT READY: docker: starting$/m);
});

test('no line is longer than 100 columns or contains control characters', async (t) => {
  const long = `\u001b[2J\u202e${'x'.repeat(300)}`;
  const containers = [aRow({ role: long, error: long })];
  const { text } = await ask(t, aStatus({
    containers,
    roles: roleRows(containers),
    ready: false,
    checks: { docker: { ok: false, detail: long } },
    upstream: { state: 'failing', last_success: null, last_error: { time: NOW, message: long } },
    errors: [{ message: long, about: long, error: long, count: 1, first: NOW, last: NOW }],
  }));
  assert.deepEqual(text.split('\n').filter((line) => line.length > 100), []);
  assert.doesNotMatch(text, /[\u0000-\u0009\u000b-\u001f\u202e]/);
});

test('--json prints the JSON of /status', async (t) => {
  const { text } = await ask(t, aStatus({ containers: [aRow()] }), true);
  assert.deepEqual(JSON.parse(text), aStatus({ containers: [aRow()] }));
});

test('without a proxy the error names the address', async () => {
  const free = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => free.once('listening', resolve));
  const { port } = free.address() as AddressInfo;
  await new Promise((resolve) => free.close(resolve));
  await assert.rejects(status(configOf(port), false), (error: Error) => {
    assert.ok(error instanceof NoStatus);
    assert.equal(
      error.message,
      `no proxy answers on 127.0.0.1:${port} (ECONNREFUSED): is it running, and is ADMIN_ADDR the same here?`,
    );
    return true;
  });
  await assert.rejects(status(readConfig({}, { ADMIN_ADDR: 'off' }), false), /no status: ADMIN_ADDR is "off"/);
});

for (const body of ['', 'hello', '[]', '{"status":"ok"}', '{"ready":true}']) {
  test(`another server on the port is recognised: ${body}`, async (t) => {
    const other = createServer((_request, response) => response.end(body)).listen(0, '127.0.0.1');
    await new Promise((resolve) => other.once('listening', resolve));
    t.after(() => other.close());
    const { port } = other.address() as AddressInfo;
    await assert.rejects(status(configOf(port), false), /is not this version of metadataproxy/);
  });
}
