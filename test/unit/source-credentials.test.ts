import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SourceCredentials } from '../../lib/credentials/aws/source-credentials.ts';
import { ManualClock } from './helpers/manual-clock.ts';

function setUp(...answers: (string | Error)[]) {
  const clock = new ManualClock();
  const asked: number[] = [];
  const told: string[] = [];
  let forgotten = 0;
  const own = new SourceCredentials({
    resolve: async () => {
      asked.push(clock.now());
      const answer = answers.length > 1 ? answers.shift() : answers[0];
      if (answer instanceof Error) throw answer;
      return answer ?? '';
    },
    forget: () => (forgotten += 1),
    clock,
    random: () => 1,
    onFailed: ({ message }) => told.push(message),
  });
  return { clock, own, asked, told, forgotten: () => forgotten };
}

test("the proxy's own credentials are looked for at the start, with nobody asking", async () => {
  const { own, asked, clock } = setUp('KEY');
  assert.equal(own.state.ok, false);
  await own.start();
  assert.deepEqual(own.state, { ok: true, detail: 'found' });
  await clock.advance(3_600_000);
  assert.equal(asked.length, 1);
});

test('while there are none they are looked for again, ever more slowly, each time anew', async () => {
  const { own, clock, asked, told, forgotten } = setUp(new Error('none'), new Error('none'), new Error('none'), 'KEY');
  const began = clock.now();
  await own.start();
  assert.deepEqual(own.state, { ok: false, detail: 'none' });
  await clock.advance(60_000);
  assert.deepEqual(asked.map((at) => at - began), [0, 1_000, 3_000, 7_000]);
  assert.deepEqual([own.state.ok, told.length, forgotten()], [true, 3, 3]);
});

test('getting them may take long, but not for ever', async () => {
  const clock = new ManualClock();
  const never = new Promise<string>(() => {});
  const own = new SourceCredentials({ resolve: () => never, forget: () => {}, clock, random: () => 1 });
  void own.start();
  await clock.advance(30_000);
  assert.match(own.state.detail, /too long/);
  own.close();
  assert.deepEqual(clock.pending, []);
});

test('those that AWS refuses are not good again before a call succeeds', async () => {
  const { own, clock } = setUp('KEY');
  await own.start();
  own.failed('ExpiredToken', true);
  assert.deepEqual(own.state, { ok: false, detail: 'ExpiredToken' });
  await clock.advance(600_000);
  assert.equal(own.state.ok, false, 'the same key is there, and no better');
  own.worked();
  assert.equal(own.state.ok, true);
  assert.deepEqual(clock.pending, []);
});

test('nor when a call was refused before they had been looked for', async () => {
  const { own } = setUp('KEY');
  own.failed('ExpiredToken', true);
  await own.start();
  assert.equal(own.state.ok, false);
});

test('others in their place are good, though no container makes a call', async () => {
  const { own, clock } = setUp('OLD', 'OLD', 'NEW');
  await own.start();
  own.failed('ExpiredToken', true);
  await clock.advance(60_000);
  assert.equal(own.state.ok, true);
});

test('those that were missing for a call are good when they are found', async () => {
  const { own, clock } = setUp('KEY');
  await own.start();
  own.failed('CredentialsProviderError: none', false);
  assert.equal(own.state.ok, false);
  await clock.advance(2_000);
  assert.equal(own.state.ok, true);
});
