import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { requestRecorder } from '../../lib/telemetry/request-recorder.ts';
import { Refusal } from '../../lib/http/errors.ts';
import type { Handlers } from '../../lib/http/routes.ts';
import { RequestHistory } from '../../lib/telemetry/request-history.ts';
import { DependencyHealth } from '../../lib/log/dependency-health.ts';
import { Log } from '../../lib/log/log.ts';
import { RecentErrors } from '../../lib/log/recent-errors.ts';
import { UpstreamUnreachable } from '../../lib/imds/client.ts';
import { request } from '../support/client.ts';
import { aContainer } from './helpers/fixtures.ts';
import { ManualClock } from './helpers/manual-clock.ts';
import { startServer } from './helpers/metadata-server.ts';

const ID_PATH = '/latest/meta-data/instance-id';

async function setUp(t: TestContext, handlers: Partial<Handlers> = {}) {
  const container = aContainer();
  const requestHistory = new RequestHistory();
  const upstream = new DependencyHealth(Date.now);
  const recentErrors = new RecentErrors(
    new Log({ level: 'info', format: 'text', host: 'h', write: () => {}, now: Date.now }),
    new ManualClock(),
  );
  const peek = (address: string) => (address === '127.0.0.2' ? container : undefined);
  const requestAnswered = requestRecorder({ requestHistory, upstream, recentErrors, peek });
  const { port } = await startServer(t, handlers, { events: { requestAnswered } });
  const ask = (path = ID_PATH) => request({ port, path, from: '127.0.0.2' });
  return { container, requestHistory, upstream, recentErrors, ask, hour: () => requestHistory.hour(performance.now()) };
}

test('what a container asks is counted as its own, whatever it asks', async (t) => {
  const { container, requestHistory, upstream, ask, hour } = await setUp(t);
  for (const path of [ID_PATH, '/v2/credentials']) await ask(path);
  assert.equal(requestHistory.of(container).requests, 2);
  assert.deepEqual([hour().requests, hour().refused, hour().failed], [2, 0, 0]);
  assert.equal(upstream.report().state, 'ok');
});

test('a caller that leaves at once says nothing of the metadata service', async (t) => {
  const { upstream, ask } = await setUp(t, { passThrough: ({ response }) => void response.destroy() });
  await assert.rejects(ask());
  assert.equal(upstream.report().state, 'unknown');
});

test("the caller's fault is a refusal, and everything else a failure", async (t) => {
  const { container, requestHistory, ask, hour } = await setUp(t, {
    containerCredentials: () => Promise.reject(new Refusal(404, 'other_role', 'no role')),
    iamInfo: () => Promise.reject(new Error('a bug')),
  });
  await ask('/v2/credentials');
  assert.equal(requestHistory.of(container).lastError?.message, 'no role');
  await ask('/latest/meta-data/iam/info');
  assert.equal(requestHistory.of(container).lastError?.message, 'a bug');
  assert.deepEqual([hour().requests, hour().refused, hour().failed], [2, 1, 1]);
});

test('a metadata service that does not answer is told, once for all that ask it', async (t) => {
  const { upstream, recentErrors, ask, hour } = await setUp(t, {
    passThrough: () => Promise.reject(new UpstreamUnreachable('cannot be reached')),
  });
  for (let times = 0; times < 3; times += 1) await ask();
  assert.equal(upstream.report().state, 'failing');
  assert.deepEqual(recentErrors.list.map(({ error, count }) => [error, count]), [['cannot be reached', 3]]);
  assert.equal(hour().failed, 3);
});
