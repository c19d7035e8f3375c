import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RequestHistory, MINUTES } from '../../lib/telemetry/request-history.ts';
import { aContainer } from './helpers/fixtures.ts';

const MINUTE = 60_000;

test('the last hour is recorded minute by minute, with refusals, failures and latencies', () => {
  const requestHistory = new RequestHistory();
  for (let times = 0; times < 99; times += 1) requestHistory.record(undefined, 'served', 10 * MINUTE, 0.0002);
  requestHistory.record(undefined, 'refused', 10 * MINUTE + 59_999, 0.0002, 'no role');
  requestHistory.record(undefined, 'failed', 11 * MINUTE, 3, 'STS is away');
  const minutes = requestHistory.minutes(11 * MINUTE + 1);
  assert.equal(minutes.length, MINUTES);
  const [before, now] = minutes.slice(-2);
  assert.deepEqual([before?.ago, before?.requests, before?.refused, before?.failed], [1, 100, 1, 0]);
  assert.deepEqual([now?.ago, now?.requests, now?.refused, now?.failed], [0, 1, 0, 1]);
  // Within its bucket: 0.1 to 0.25 ms, and 2.5 to 5 s.
  assert.ok(before && before.p50 > 0.0001 && before.p99 <= 0.00025);
  assert.ok(now && now.p50 > 2.5 && now.p99 <= 5);
  assert.ok(minutes.slice(0, -2).every(({ requests, p50 }) => requests === 0 && Number.isNaN(p50)));
});

test('requests older than an hour are forgotten, even if none came since', () => {
  const requestHistory = new RequestHistory();
  requestHistory.record(undefined, 'served', 0, 0.001);
  assert.equal(requestHistory.hour(59 * MINUTE).requests, 1);
  assert.equal(requestHistory.hour(60 * MINUTE).requests, 0);
  requestHistory.record(undefined, 'served', 60 * MINUTE, 0.001);
  assert.equal(requestHistory.hour(60 * MINUTE).requests, 1, 'the bucket of an hour ago is reused');
  assert.equal(requestHistory.minutes(60 * MINUTE).at(-1)?.requests, 1);
});

test('the totals of the hour add up its minutes', () => {
  const requestHistory = new RequestHistory();
  for (let minute = 0; minute < 5; minute += 1) requestHistory.record(undefined, 'served', minute * MINUTE, 0.02);
  requestHistory.record(undefined, 'refused', 5 * MINUTE, 0.02, 'x');
  const { requests, refused, failed, p50 } = requestHistory.hour(5 * MINUTE);
  assert.deepEqual([requests, refused, failed], [6, 1, 0]);
  assert.ok(p50 > 0.01 && p50 <= 0.025);
});

test('each container has its own count and last error', () => {
  const requestHistory = new RequestHistory();
  const [web, other] = [aContainer({ id: 'a' }), aContainer({ id: 'b' })];
  requestHistory.record(web, 'served', 1, 0.001);
  requestHistory.record(web, 'refused', 2, 0.001, 'no role');
  requestHistory.record(web, 'served', 3, 0.001);
  assert.deepEqual(requestHistory.of(web), { requests: 3, lastError: { at: 2, message: 'no role' } });
  assert.deepEqual(requestHistory.of(other), { requests: 0, lastError: undefined });
});
