import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Admission, type AdmittedConnection } from '../../lib/http/admission.ts';
import { Refusal } from '../../lib/http/errors.ts';
import { ManualClock } from './helpers/manual-clock.ts';
import { watch } from './helpers/promises.ts';

function setUp(maxRequestsPerSecond: number) {
  const clock = new ManualClock();
  return { clock, admission: new Admission({ maxRequestsPerSecond, clock, random: () => 0.5 }) };
}

function connection(state: AdmittedConnection['state'] = 'open', address = '10.0.0.1') {
  const pauses: number[] = [];
  return { address, state, deferred: new Set<() => void>(), pauses, pauseReads: (ms: number) => void pauses.push(ms) };
}

function refusalOf(error: unknown) {
  assert.ok(error instanceof Refusal);
  return [error.status, error.reason, ...error.headers];
}

test('without a rate limit every request is answered at once, and a large body costs nothing', () => {
  const { admission } = setUp(0);
  const client = connection();
  for (let requests = 0; requests < 1_000; requests += 1) assert.equal(admission.admit(client), undefined);
  assert.equal(admission.charge(client.address, 1_000), undefined);
});

test('a request over the rate waits until the rate allows it', async () => {
  const { admission, clock } = setUp(2);
  const client = connection();
  assert.equal(admission.admit(client), undefined);
  assert.equal(admission.admit(client), undefined);
  const third = watch(Promise.resolve(admission.admit(client)));
  await clock.advance(499);
  assert.equal(third.state, 'pending');
  await clock.advance(1);
  assert.deepEqual([third.state, client.deferred.size], ['fulfilled', 0]);
});

test('a request over the rate by more than a second is refused with 429 after 1 to 2 s', async () => {
  const { admission, clock } = setUp(2);
  const client = connection();
  for (let requests = 0; requests < 4; requests += 1) void admission.admit(client);
  const refused = watch(Promise.resolve(admission.admit(client)));
  await clock.advance(1_499);
  assert.equal(refused.state, 'pending');
  await clock.advance(1);
  assert.deepEqual(refusalOf(refused.error), [429, 'too_fast', 'Retry-After', '1']);
  assert.equal(admission.admit(connection('open', '10.0.0.2')), undefined, 'another address has a rate of its own');
});

test('an overflowed connection pauses its address, and is refused with 503 when the pause ends', async () => {
  const { admission, clock } = setUp(0);
  const client = connection('overflowed');
  const refused = watch(Promise.resolve(admission.admit(client)));
  assert.deepEqual(client.pauses, [3_000]);
  await clock.advance(2_999);
  assert.equal(refused.state, 'pending');
  await clock.advance(1);
  assert.deepEqual(refusalOf(refused.error), [503, 'too_many', 'Retry-After', '1']);
});

test('a client that disconnects takes its deferred requests with it', async () => {
  const { admission, clock } = setUp(1);
  const client = connection();
  void admission.admit(client);
  const deferred = watch(Promise.resolve(admission.admit(client)));
  for (const cancel of client.deferred) cancel();
  await clock.advance(0);
  assert.deepEqual(refusalOf(deferred.error).slice(0, 2), [429, 'too_fast']);
  assert.deepEqual([client.deferred.size, clock.pending.length], [0, 0]);
});

test('an iteration of the event loop takes four requests of an address, and the next one takes the rest', async () => {
  const { admission, clock } = setUp(1_000);
  const client = connection();
  for (let requests = 0; requests < 4; requests += 1) assert.equal(admission.admit(client), undefined);
  const fifth = watch(Promise.resolve(admission.admit(client)));
  assert.equal(admission.admit(connection('open', '10.0.0.2')), undefined);
  assert.equal(fifth.state, 'pending');
  await clock.advance(0);
  assert.equal(fifth.state, 'fulfilled');
});

test('a large body is charged like so many requests: it waits, and the requests after it are refused', async () => {
  const { admission, clock } = setUp(1);
  const client = connection();
  const charged = watch(Promise.resolve(admission.charge(client.address, 5)));
  await clock.advance(1_000);
  assert.equal(charged.state, 'pending');
  const request = watch(Promise.resolve(admission.admit(client)));
  await clock.advance(1_500);
  assert.deepEqual(refusalOf(request.error).slice(0, 2), [429, 'too_fast']);
  await clock.advance(10_000);
  assert.equal(charged.state, 'fulfilled');
});

test('an address has 16 upstream permits; one more waits a second for one, and then is refused with 503', async () => {
  const { admission, clock } = setUp(0);
  const permits = Array.from({ length: 16 }, () => admission.upstreamPermit('10.0.0.1'));
  assert.ok(permits.every((permit) => !(permit instanceof Promise)));
  assert.ok(!(admission.upstreamPermit('10.0.0.2') instanceof Promise), 'another address has permits of its own');
  const [served, refused] = [1, 2].map(() => watch(Promise.resolve(admission.upstreamPermit('10.0.0.1'))));
  const release = await permits[0];
  release?.();
  release?.();
  await clock.advance(999);
  assert.deepEqual([served?.state, refused?.state], ['fulfilled', 'pending'], 'a permit is released once');
  await clock.advance(1);
  assert.deepEqual(refusalOf(refused?.error), [503, 'too_many', 'Retry-After', '1']);
});
