import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventQueue } from '../sim/event-queue.ts';
import { findings, play, SCENES, type PlayOptions } from '../sim/scenes.ts';
import { VirtualClock } from '../sim/virtual-clock.ts';
import { SeededRandom } from '../support/seeded-random.ts';

const SMALL: PlayOptions = {
  hosts: 20, containersPerHost: 50, requestsPerHost: 10, seed: 1, jitter: true, stsPerSecond: 2,
};

test('the event queue returns events by time, and by insertion order for equal times', () => {
  const random = new SeededRandom(7);
  const queue = new EventQueue<number>();
  const added = Array.from({ length: 2000 }, (_, number) => ({ number, at: random.int(0, 300) }));
  const cancel = added.map(({ at, number }) => queue.add(at, number));
  const kept = added.filter(({ number }) => number % 3 !== 0);
  for (const { number } of added) if (number % 3 === 0) cancel[number]?.();
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

test('the virtual clock runs a timer\'s promise reactions before the next timer', async () => {
  const clock = new VirtualClock(0);
  const seen: string[] = [];
  const note = (what: string): void => void seen.push(`${what} at ${clock.now()}`);
  clock.after(20, () => note('later'));
  clock.after(10, async () => {
    note('first');
    for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
    note('what follows');
    clock.after(0, () => note('immediately'));
  });
  clock.after(15, () => note('cancelled'))();
  clock.after(1000, () => note('too late'));
  await clock.run(100);
  assert.deepEqual(seen, ['first at 10', 'what follows at 10', 'immediately at 10', 'later at 20']);
  assert.equal(clock.now(), 100);
});

test('an error in a timer rejects the run', async () => {
  const clock = new VirtualClock(0);
  clock.after(1, () => {
    throw new Error('a bug');
  });
  await assert.rejects(clock.run(10), /a bug/);
});

test('a seed repeats its history; another seed makes another one', async () => {
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
    // With so few hosts the rate varies randomly, so only `make sim` checks the peaks.
  });
}

test('without jitter the refreshes of a fleet peak together', async () => {
  const [restart] = SCENES;
  assert.ok(restart);
  const options = { ...SMALL, hosts: 100, stsPerSecond: 1e6 };
  const [jitter, none] = await Promise.all([true, false].map((with_) => play(restart, { ...options, jitter: with_ })));
  assert.ok(jitter && none);
  assert.ok(findings(restart, none).peakFromSecondRefresh > 5 * findings(restart, jitter).peakFromSecondRefresh);
});
