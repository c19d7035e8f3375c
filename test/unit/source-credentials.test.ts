import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AwsClients } from '../../lib/credentials/aws/clients.ts';
import { SourceCredentials } from '../../lib/credentials/aws/source-credentials.ts';
import { ManualClock } from './helpers/manual-clock.ts';

/** @param answers the access keys that the credential chain gives, one after the other; the last one again and again */
function setUp(...answers: (string | Error)[]) {
  const clock = new ManualClock();
  const attempts: number[] = [];
  const failures: string[] = [];
  let forgotten = 0;
  const source = new SourceCredentials({
    clients: {
      sourceAccessKey: async () => {
        attempts.push(clock.now());
        const answer = answers.length > 1 ? answers.shift() : answers[0];
        if (answer instanceof Error) throw answer;
        return answer ?? '';
      },
      forget: () => (forgotten += 1),
      subscribe: () => {},
    },
    clock,
    random: () => 1,
    events: { sourceCredentialsFailed: ({ message }) => failures.push(message) },
  });
  return { clock, source, attempts, failures, forgotten: () => forgotten };
}

test("the source credentials are resolved at start, before any request", async () => {
  const { source, attempts, clock } = setUp('KEY');
  assert.equal(source.state.ok, false);
  await source.start();
  assert.deepEqual(source.state, { ok: true, detail: 'found' });
  await clock.advance(3_600_000);
  assert.equal(attempts.length, 1);
});

test('missing source credentials are resolved again with backoff, from a new credential chain each time', async () => {
  const { source, clock, attempts, failures, forgotten } = setUp(new Error('none'), new Error('none'), new Error('none'), 'KEY');
  const began = clock.now();
  await source.start();
  assert.deepEqual(source.state, { ok: false, detail: 'none' });
  await clock.advance(60_000);
  assert.deepEqual(attempts.map((at) => at - began), [0, 1_000, 3_000, 7_000]);
  assert.deepEqual([source.state.ok, failures.length, forgotten()], [true, 3, 3]);
});

test('resolving the source credentials has a timeout', async () => {
  const clock = new ManualClock();
  const never = new Promise<string>(() => {});
  const source = new SourceCredentials({
    clients: { sourceAccessKey: () => never, forget: () => {}, subscribe: () => {} },
    clock,
    random: () => 1,
    events: { sourceCredentialsFailed: () => {} },
  });
  void source.start();
  await clock.advance(30_000);
  assert.equal(source.state.detail, 'no credentials within 30 s');
  source.close();
  assert.deepEqual(clock.pending, []);
});

test('a refused access key does not work again before a call succeeds', async () => {
  const { source, clock } = setUp('KEY');
  await source.start();
  source.failed('ExpiredToken', true);
  assert.deepEqual(source.state, { ok: false, detail: 'ExpiredToken' });
  await clock.advance(600_000);
  assert.equal(source.state.ok, false, 'the credential chain still gives the refused key');
  source.worked();
  assert.equal(source.state.ok, true);
  assert.deepEqual(clock.pending, []);
});

test('a call that is refused before the first resolution counts as well', async () => {
  const { source } = setUp('KEY');
  source.failed('ExpiredToken', true);
  await source.start();
  assert.equal(source.state.ok, false);
});

test('a new access key works without a call', async () => {
  const { source, clock } = setUp('OLD', 'OLD', 'NEW');
  await source.start();
  source.failed('ExpiredToken', true);
  await clock.advance(60_000);
  assert.equal(source.state.ok, true);
});

test('source credentials that were missing for a call work once they are found', async () => {
  const { source, clock } = setUp('KEY');
  await source.start();
  source.failed('CredentialsProviderError: none', false);
  assert.equal(source.state.ok, false);
  await clock.advance(2_000);
  assert.equal(source.state.ok, true);
});

test('the result of every AWS call reaches the source credentials', async () => {
  const clock = new ManualClock();
  const clients = new AwsClients({ region: 'eu-west-1', hostRegion: async () => undefined, clock });
  const source = new SourceCredentials({ clients, clock, random: () => 1, events: { sourceCredentialsFailed: () => {} } });
  await clients.call('GetRole', async () => {});
  assert.deepEqual(source.state, { ok: true, detail: 'accepted by AWS' });
  const expired = Object.assign(new Error('it has expired'), { name: 'ExpiredToken' });
  await assert.rejects(clients.call('GetRole', () => Promise.reject(expired)));
  assert.deepEqual(source.state, { ok: false, detail: 'ExpiredToken: it has expired' });
  source.close();
});
