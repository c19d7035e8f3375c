import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DependencyHealth } from '../../lib/log/dependency-health.ts';
import { Log, type LogLevel } from '../../lib/log/log.ts';
import { RecentErrors } from '../../lib/log/recent-errors.ts';
import { ManualClock } from './helpers/manual-clock.ts';

function setUp(level: LogLevel = 'info') {
  const clock = new ManualClock();
  let text = '';
  const log = new Log({ level, format: 'text', host: 'h', write: (lines) => (text += lines), now: clock.now });
  const recentErrors = new RecentErrors(log, clock);
  const lines = (): string[] => {
    log.flush();
    return text.trimEnd().split('\n').map((line) => line.slice(25));
  };
  const fail = (error = 'denied', about = 'app'): void => {
    recentErrors.report('error', 'role not assumed', about, { role: about, error });
  };
  return { clock, log, recentErrors, lines, fail };
}

test('duplicate errors are one line per minute, with the suppressed count', async () => {
  const { clock, lines, fail } = setUp();
  for (let times = 0; times < 5; times += 1) fail();
  fail('throttled');
  fail('denied', 'web');
  const first = ['denied', 'throttled'].map((error) => `ERROR role not assumed role=app error=${error}`);
  assert.deepEqual(lines(), [...first, 'ERROR role not assumed role=web error=denied']);
  await clock.advance(60_000);
  assert.deepEqual(lines().slice(3), ['ERROR role not assumed role=app error=denied suppressed=3']);
});

test('at debug level every error is a line', () => {
  const { lines, fail } = setUp('debug');
  for (let times = 0; times < 5; times += 1) fail();
  assert.equal(lines().length, 5);
});

test('the 30 most recent errors are kept, duplicates as one with a count', async () => {
  const { clock, recentErrors, fail } = setUp();
  const began = clock.now();
  fail();
  await clock.advance(5);
  fail();
  assert.deepEqual(recentErrors.list, [
    { message: 'role not assumed', about: 'app', error: 'denied', count: 2, first: began, last: began + 5 },
  ]);
  for (let role = 0; role < 40; role += 1) fail('denied', `role-${role}`);
  assert.equal(recentErrors.list.length, 30);
  assert.equal(recentErrors.list[0]?.about, 'role-39');
});

test('a dependency is failing until it succeeds, and its last error is kept', async () => {
  const clock = new ManualClock();
  const health = new DependencyHealth(clock.now);
  assert.deepEqual(health.report(), { state: 'unknown', lastSuccess: undefined, lastError: undefined });
  health.failed('away');
  const lastError = { time: clock.now(), message: 'away' };
  assert.deepEqual(health.report(), { state: 'failing', lastSuccess: undefined, lastError });
  await clock.advance(7);
  health.succeeded();
  assert.deepEqual(health.report(), { state: 'ok', lastSuccess: clock.now(), lastError });
});
