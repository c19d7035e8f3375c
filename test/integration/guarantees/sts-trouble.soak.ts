import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { Response } from '../../support/client.ts';
import { DockerEngine } from '../../support/docker-engine.ts';
import { request, startProxy, type LogLine } from '../../support/proxy.ts';
import { Sts, type StsFault } from '../../support/sts.ts';
import { accessKeyIn, host, jsonOf } from '../host.ts';
import { arnOf, SOAK, sized } from './size.ts';

const FROM = '127.0.0.11';
/** Renewal begins in the second quarter of it, so trouble that outlasts it is longer than the refresh window. */
const LIFETIME_S = sized(4, 20);
/** How long the trouble goes on after nothing valid is left. */
const BEYOND_MS = sized(500, 20_000);
/** STS tells its time to the second, and the test of the moment itself is the last one. */
const GRACE_MS = 1_500;
/** The SDK's attempts for one call of ours. */
const ATTEMPTS = 2;

interface RecentError {
  readonly what: string;
  /** In the log's reason. */
  readonly reason: RegExp;
  /** STS does not answer at all, so that who asks when nothing is left waits for it. */
  readonly isSilent?: boolean;
  begin(sts: Sts, clock: { skew: number }): Promise<() => Promise<void>> | (() => Promise<void>);
}

function fault(what: string, one: StsFault, reason: RegExp, isSilent = false): RecentError {
  return {
    what, reason, isSilent,
    begin: (sts) => {
      const struck = sts.fault(one);
      return async () => struck.lift();
    },
  };
}

const TROUBLES: readonly RecentError[] = [
  {
    what: 'cannot be reached',
    reason: /ECONNREFUSED/,
    begin: async (sts) => {
      await sts.stop();
      return () => sts.listen();
    },
  },
  {
    what: 'has a clock that is two hours behind, so that what it gives has expired',
    reason: /expired already.*clock/,
    begin: (_, clock) => {
      clock.skew = -2 * 3_600_000;
      return async () => void (clock.skew = 0);
    },
  },
  fault('is slow (30 s)', { kind: 'delay', ms: 30_000 }, /time|slow/i, true),
  fault('throttles', { kind: 'throttle' }, /Throttling: Rate exceeded/),
  fault('answers 500', { kind: 'error', status: 500, code: 'InternalFailure' }, /InternalFailure/),
  fault('answers 503', { kind: 'error', status: 503, code: 'ServiceUnavailable' }, /ServiceUnavailable/),
  fault('answers no XML', { kind: 'malformed' }, /./),
  fault('answers half of its XML', { kind: 'truncated' }, /./),
  fault('breaks off', { kind: 'reset' }, /ECONNRESET|hang up/),
  fault('says that the proxy\'s own credentials have expired', { kind: 'expired-token' }, /own credentials.*ExpiredToken/),
  fault('finds the clock skewed', { kind: 'error', status: 403, code: 'SignatureDoesNotMatch' }, /SignatureDoesNotMatch/),
];

describe('while STS', { concurrency: true }, () => {
  test('throttles, nothing is handed out after the Expiration that its answer has', async (t) => {
    const own = await host(t);
    own.sts.lifetimeSeconds = LIFETIME_S;
    await own.docker.host.run({ name: 'app', address: FROM, env: { IAM_ROLE: arnOf('app') } });
    const expires = own.sts.issuedAs(accessKeyIn(await own.ask(FROM, '/creds'))).expiration.getTime();
    own.sts.fault({ kind: 'throttle' });
    let last = 0;
    for (let status = 200; status === 200;) {
      const asked = Date.now();
      ({ status } = await own.ask(FROM, '/creds'));
      if (status === 200) last = asked;
      assert.ok(asked < expires + 10_000, 'it is still handed out ten seconds after its end');
    }
    t.diagnostic(`the last one was asked for ${expires - last} ms before its end`);
    assert.ok(last < expires, `handed out ${last - expires} ms after its end`);
  });

  for (const trouble of TROUBLES) {
    test(`${trouble.what}, what is valid is handed out, then 503 with the reason, then new ones`, async (t) => {
      await outlast(t, trouble);
    });
  }
});

async function outlast(t: TestContext, trouble: RecentError): Promise<void> {
  const clock = { skew: 0 };
  const [docker, sts] = [await DockerEngine.start(), await Sts.start({ now: () => Date.now() + clock.skew })];
  // At the level debug each failure is told: they are counted here.
  const proxy = await startProxy(t, { docker, sts, env: { LOG_LEVEL: 'debug' } }).catch(async (error: unknown) => {
    await Promise.all([docker.close(), sts.close()]);
    throw error;
  });
  let end = async (): Promise<void> => {};
  t.after(async () => {
    // First, because the end of being away is to listen again.
    await end();
    await Promise.all([docker.close(), sts.close()]);
  });
  await proxy.awaitLog('containers known');
  const ask = (): Promise<Response> => request({ port: proxy.port, from: FROM, path: '/creds' });

  sts.lifetimeSeconds = LIFETIME_S;
  await docker.host.run({ name: 'app', address: FROM, env: { IAM_ROLE: arnOf('app') } });
  const first = await ask();
  const key = accessKeyIn(first);
  const expires = sts.issuedAs(key).expiration.getTime();
  end = await trouble.begin(sts, clock);
  const began = Date.now();
  sts.calls.clear();

  // Everything that is answered before the end of what is valid is answered with it.
  let served = 0;
  while (Date.now() < expires - 600) {
    const answer = await ask();
    assert.deepEqual([answer.status, accessKeyIn(answer)], [200, key], answer.body);
    served += 1;
    await pause(25);
  }
  await pause(Math.max(expires - Date.now(), 0) + GRACE_MS);

  // Nothing is left. Who asks is told so, and why stands in the log.
  let refused = 0;
  const until = Date.now() + BEYOND_MS;
  const late = trouble.isSilent && !SOAK ? ask() : undefined;
  while (late === undefined && Date.now() < until) {
    const answer = await ask();
    assert.equal(answer.status, 503, `${answer.body} ${Date.now() - expires} ms after its end`);
    assert.match(answer.headers['retry-after'] ?? '', /^[1-9]\d*$/);
    assert.deepEqual(Object.keys(jsonOf(answer)), ['Code', 'Message']);
    refused += 1;
    await pause(25);
  }
  if (late !== undefined) await pause(BEYOND_MS);
  const lasted = Date.now() - began;
  const failures = proxy.logs.all(({ msg }) => msg === 'role not assumed');
  assert.ok(failures.length > 0 || late !== undefined);
  for (const { fields } of failures) assert.match(String(fields['error']), trouble.reason);

  // So many waits of backoff, each at least half of its step, fit into the trouble: and so many calls.
  const most = Math.ceil(Math.log2(2 * lasted / 1_000 + 1)) + 1 + Math.floor(lasted / 30_000);
  const calls = sts.assumed().length;
  assert.ok(failures.length <= most, `${failures.length} failures in ${lasted} ms`);
  assert.ok(calls <= ATTEMPTS * (most + 1), `${calls} calls in ${lasted} ms`);

  // After it, the next step of the backoff brings new ones: no attempt fails any more.
  sts.lifetimeSeconds = undefined;
  await end();
  const over = Date.now();
  const step = Number(failures.at(-1)?.fields['retry_in_ms'] ?? 0);
  const isFresh = ({ msg, fields }: LogLine): boolean =>
    msg === 'role assumed' && Date.parse(String(fields['time'])) >= over;
  await proxy.logs.first(isFresh, step + 45_000);
  const recovery = Date.now() - over;
  const after = await ask();
  assert.equal(after.status, 200, after.body);
  assert.notEqual(accessKeyIn(after), key);
  if (late !== undefined) await late;
  const failedAfter = proxy.logs.all(({ msg }) => msg === 'role not assumed').slice(failures.length);
  // One call that was under way when the trouble ended may still fail of it.
  assert.ok(failedAfter.length <= 1, `${failedAfter.length} more failures`);
  t.diagnostic(`${lasted} ms of trouble: ${served} served from what was valid, ${refused} × 503, ${calls} calls of STS, `
    + `${failures.length} failures (at most ${most}); fresh ${recovery} ms after it (the step was ${step} ms)`);
}
