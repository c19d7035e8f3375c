import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventQueue } from '../sim/event-queue.ts';
import { findings, play, SCENES, type PlayOptions } from '../sim/scenes.ts';
import { VirtualClock } from '../sim/virtual-clock.ts';
import { SeededRandom } from '../support/seeded-random.ts';

const SMALL: PlayOptions = {
  hosts: 20, containersPerHost: 50, requestsPerHost: 10, seed: 1, jitter: true, stsPerSecond: 2,
};

test('the event queue gives what was added by time, and of the same time by order', () => {
  const random = new SeededRandom(7);
  const queue = new EventQueue<number>();
  const added = Array.from({ length: 2000 }, (_, number) => ({ number, at: random.int(0, 300) }));
  const takeBack = added.map(({ at, number }) => queue.add(at, number));
  const kept = added.filter(({ number }) => number % 3 !== 0);
  for (const { number } of added) if (number % 3 === 0) takeBack[number]?.();
  const taken: number[] = [];
  for (const until of [99, 300]) {
    for (let due = queue.take(until); due !== undefined; due = queue.take(until)) {
      assert.ok(due.at <= until);
      taken.push(due.what);
    }
  }
  const expected = kept.sort((a, b) => a.at - b.at || a.number - b.number).map(({ number }) => number);
  assert.deepEqual(taken, expected);
});

test('virtual time goes from timer to timer, and what follows from one happens before the next', async () => {
  const clock = new VirtualClock(0);
  const seen: string[] = [];
  const note = (what: string): void => void seen.push(`${what} at ${clock.now()}`);
  clock.after(20, () => note('later'));
  clock.after(10, async () => {
    note('first');
    for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
    note('what follows');
    clock.after(0, () => note('at once'));
  });
  clock.after(15, () => note('taken back'))();
  clock.after(1000, () => note('too late'));
  await clock.run(100);
  assert.deepEqual(seen, ['first at 10', 'what follows at 10', 'at once at 10', 'later at 20']);
  assert.equal(clock.now(), 100);
});

test('an error in a timer ends the run with it', async () => {
  const clock = new VirtualClock(0);
  clock.after(1, () => {
    throw new Error('a bug');
  });
  await assert.rejects(clock.run(10), /a bug/);
});

test('the same seed plays the same scene, another one another', async () => {
  const [scene] = SCENES;
  assert.ok(scene);
  const [one, same, other] = await Promise.all([SMALL, SMALL, { ...SMALL, seed: 2 }].map((options) => play(scene, options)));
  assert.deepEqual(one, same);
  assert.notDeepEqual(one?.attempts, other?.attempts);
});

for (const scene of SCENES) {
  test(`${scene.title}: 20 hosts keep their credentials`, async () => {
    const found = findings(scene, await play(scene, SMALL));
    assert.equal(found.expiredThoughReachable, 0);
    assert.ok(found.calls >= 200 * 4 && found.steady > 0, JSON.stringify(found));
    // Of so few the rate itself is a matter of chance: `make sim` judges the peaks.
  });
}

test('a fleet without jitter comes back all at once', async () => {
  const [restart] = SCENES;
  assert.ok(restart);
  const options = { ...SMALL, hosts: 100, stsPerSecond: 1e6 };
  const [jitter, none] = await Promise.all([true, false].map((with_) => play(restart, { ...options, jitter: with_ })));
  assert.ok(jitter && none);
  assert.ok(findings(restart, none).peakFromSecondRefresh > 5 * findings(restart, jitter).peakFromSecondRefresh);
});
