import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { Response } from '../../support/client.ts';
import { DockerEngine } from '../../support/docker-engine.ts';
import { request, startProxy, type LogLine } from '../../support/proxy.ts';
import { Sts, type StsFault } from '../../support/sts.ts';
import { accessKeyIn, host, jsonOf } from '../host.ts';
import { arnOf, SOAK, sized } from './scale.ts';

const FROM = '127.0.0.11';
/** The refresh begins in the second quarter of the lifetime, so a failure longer than this exceeds the refresh window. */
const LIFETIME_S = sized(4, 20);
/** How long the failure continues after the credentials have expired. */
const BEYOND_MS = sized(500, 20_000);
/** Expirations are in whole seconds. Another test checks the exact moment. */
const GRACE_MS = 1_500;
/** The SDK's attempts per call. */
const ATTEMPTS = 2;

interface StsFailure {
  readonly what: string;
  /** Matches the error in the log. */
  readonly reason: RegExp;
  /** STS does not answer, so a request without valid credentials waits. */
  readonly isSilent?: boolean;
  begin(sts: Sts, clock: { skew: number }): Promise<() => Promise<void>> | (() => Promise<void>);
}

function fault(what: string, one: StsFault, reason: RegExp, isSilent = false): StsFailure {
  return {
    what, reason, isSilent,
    begin: (sts) => {
      const injected = sts.fault(one);
      return async () => injected.lift();
    },
  };
}

const FAILURES: readonly StsFailure[] = [
  {
    what: 'is unreachable',
    reason: /ECONNREFUSED/,
    begin: async (sts) => {
      await sts.stop();
      return () => sts.listen();
    },
  },
  {
    what: 'has a clock two hours behind, so that its credentials are already expired',
    reason: /expired credentials.*clock/,
    begin: (_, clock) => {
      clock.skew = -2 * 3_600_000;
      return async () => void (clock.skew = 0);
    },
  },
  fault('is slow (30 s)', { kind: 'delay', ms: 30_000 }, /time|slow/i, true),
  fault('throttles', { kind: 'throttle' }, /Throttling: Rate exceeded/),
  fault('answers 500', { kind: 'error', status: 500, code: 'InternalFailure' }, /InternalFailure/),
  fault('answers 503', { kind: 'error', status: 503, code: 'ServiceUnavailable' }, /ServiceUnavailable/),
  fault('does not answer XML', { kind: 'malformed' }, /./),
  fault('answers half of its XML', { kind: 'truncated' }, /./),
  fault('resets the connection', { kind: 'reset' }, /ECONNRESET|hang up/),
  fault('rejects the source credentials as expired', { kind: 'expired-token' }, /own credentials.*ExpiredToken/),
  fault('rejects the signature because of a skewed clock', { kind: 'error', status: 403, code: 'SignatureDoesNotMatch' }, /SignatureDoesNotMatch/),
];

describe('while STS', { concurrency: true }, () => {
  test('throttles, no credentials are served after their Expiration', async (t) => {
    const own = await host(t);
    own.sts.lifetimeSeconds = LIFETIME_S;
    await own.docker.host.run({ name: 'app', address: FROM, env: { IAM_ROLE: arnOf('app') } });
    const expires = own.sts.issuedAs(accessKeyIn(await own.ask(FROM, '/creds'))).expiration.getTime();
    own.sts.fault({ kind: 'throttle' });
    let last = 0;
    for (let status = 200; status === 200;) {
      const sent = Date.now();
      ({ status } = await own.ask(FROM, '/creds'));
      if (status === 200) last = sent;
      assert.ok(sent < expires + 10_000, 'credentials are still served ten seconds after their expiration');
    }
    t.diagnostic(`the last request was ${expires - last} ms before the expiration`);
    assert.ok(last < expires, `served ${last - expires} ms after the expiration`);
  });

  for (const failure of FAILURES) {
    test(`${failure.what}, valid credentials are served, then 503, then new ones`, async (t) => {
      await outlast(t, failure);
    });
  }
});

async function outlast(t: TestContext, failure: StsFailure): Promise<void> {
  const clock = { skew: 0 };
  const [docker, sts] = [await DockerEngine.start(), await Sts.start({ now: () => Date.now() + clock.skew })];
  // At the level debug the log has every failure without deduplication.
  const proxy = await startProxy(t, { docker, sts, env: { LOG_LEVEL: 'debug' } }).catch(async (error: unknown) => {
    await Promise.all([docker.close(), sts.close()]);
    throw error;
  });
  let end = async (): Promise<void> => {};
  t.after(async () => {
    // First, because ending an outage means to listen again.
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
  end = await failure.begin(sts, clock);
  const began = Date.now();
  sts.calls.clear();

  // Until they expire, every answer has the valid credentials.
  let served = 0;
  while (Date.now() < expires - 600) {
    const answer = await ask();
    assert.deepEqual([answer.status, accessKeyIn(answer)], [200, key], answer.body);
    served += 1;
    await pause(25);
  }
  await pause(Math.max(expires - Date.now(), 0) + GRACE_MS);

  // After their expiration the answer is 503, and the log has the reason.
  let refused = 0;
  const until = Date.now() + BEYOND_MS;
  const late = failure.isSilent && !SOAK ? ask() : undefined;
  while (late === undefined && Date.now() < until) {
    const answer = await ask();
    assert.equal(answer.status, 503, `${answer.body} ${Date.now() - expires} ms after the expiration`);
    assert.match(answer.headers['retry-after'] ?? '', /^[1-9]\d*$/);
    assert.deepEqual(Object.keys(jsonOf(answer)), ['Code', 'Message']);
    refused += 1;
    await pause(25);
  }
  if (late !== undefined) await pause(BEYOND_MS);
  const lasted = Date.now() - began;
  const failures = proxy.logs.all(({ msg }) => msg === 'role not assumed');
  assert.ok(failures.length > 0 || late !== undefined);
  for (const { fields } of failures) assert.match(String(fields['error']), failure.reason);

  // The number of backoff waits, each at least half of its step, that fit into the outage limits the calls.
  const maximum = Math.ceil(Math.log2(2 * lasted / 1_000 + 1)) + 1 + Math.floor(lasted / 30_000);
  const calls = sts.assumed().length;
  assert.ok(failures.length <= maximum, `${failures.length} failures in ${lasted} ms`);
  assert.ok(calls <= ATTEMPTS * (maximum + 1), `${calls} calls in ${lasted} ms`);

  // After the recovery the next attempt succeeds.
  sts.lifetimeSeconds = undefined;
  await end();
  const recoveredAt = Date.now();
  const step = Number(failures.at(-1)?.fields['retry_in_ms'] ?? 0);
  const isFresh = ({ msg, fields }: LogLine): boolean =>
    msg === 'role assumed' && Date.parse(String(fields['time'])) >= recoveredAt;
  await proxy.logs.first(isFresh, step + 45_000);
  const recovery = Date.now() - recoveredAt;
  const after = await ask();
  assert.equal(after.status, 200, after.body);
  assert.notEqual(accessKeyIn(after), key);
  if (late !== undefined) await late;
  const failedAfter = proxy.logs.all(({ msg }) => msg === 'role not assumed').slice(failures.length);
  // One call that was in flight at the recovery may still fail.
  assert.ok(failedAfter.length <= 1, `${failedAfter.length} more failures`);
  t.diagnostic(`${lasted} ms outage: ${served} served with valid credentials, ${refused} × 503, ${calls} STS calls, `
    + `${failures.length} failures (at most ${maximum}); recovered after ${recovery} ms (the backoff step was ${step} ms)`);
}
