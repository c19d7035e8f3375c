import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDockerEndpoint } from '../../lib/docker/endpoint.ts';
import { DockerEngine } from '../../lib/docker/client.ts';
import type { EngineEvent } from '../../lib/docker/engine.ts';
import { CredentialsUnavailable, type Credentials } from '../../lib/credentials/credentials.ts';
import { CredentialStore } from '../../lib/credentials/store.ts';
import { parseGoDuration } from '../../lib/util/go-duration.ts';
import { DockerEngine as StandIn } from '../support/docker-engine.ts';
import { SeededRandom } from '../support/seeded-random.ts';
import { someCredentials } from './helpers/fixtures.ts';
import { ManualClock } from './helpers/manual-clock.ts';

const UNITS = [['h', 36e5], ['m', 6e4], ['s', 1e3], ['ms', 1], ['us', 1e-3], ['µs', 1e-3], ['ns', 1e-6]] as const;

test('consecutive durations are parsed as their sum', () => {
  const random = SeededRandom.fromEnvironment(process.env, 4);
  for (let times = 0; times < 5_000; times += 1) {
    let [text, sum] = ['', 0];
    for (let count = random.int(1, 5); count > 0; count -= 1) {
      const [unit, milliseconds] = random.pick(UNITS);
      const amount = random.chance(0.5) ? String(random.int(0, 9_999)) : `${random.int(0, 99)}.${random.int(0, 999)}`;
      text += amount + unit;
      sum += Number(amount) * milliseconds;
    }
    const read = parseGoDuration(text);
    assert.ok(read !== undefined && Math.abs(read - sum) <= 1e-9 * Math.max(sum, 1), `${text} is ${read}, not ${sum}`);
  }
});

test('every accepted duration is a non-negative number of milliseconds', () => {
  const random = SeededRandom.fromEnvironment(process.env, 5);
  let accepted = 0;
  for (let times = 0; times < 20_000; times += 1) {
    const text = random.string('0123456789.hmsnuµ-+e ', 0, 8);
    const read = parseGoDuration(text);
    if (read === undefined) continue;
    accepted += 1;
    assert.ok(Number.isFinite(read) && read >= 0, `${JSON.stringify(text)} is ${read}`);
    assert.match(text, /^(?:0|(?:\d+(?:\.\d+)?(?:h|m|s|ms|us|µs|ns))+)$/);
  }
  assert.ok(accepted > 100, `only ${accepted} were durations`);
});

/** JSON of any shape, with some words from events. */
function anyJson(random: SeededRandom, depth = 0): unknown {
  const leaf = [
    () => null, () => random.chance(0.5), () => random.int(-5, 5), () => random.string('aé\u0000"\\/', 0, 4), () => [],
    () => random.pick(['container', 'network', 'die', 'start', 'connect', '__proto__']),
  ];
  if (depth > 3 || random.chance(0.5)) return random.pick(leaf)();
  if (random.chance(0.3)) return Array.from({ length: random.int(0, 3) }, () => anyJson(random, depth + 1));
  const names = ['Type', 'Action', 'Actor', 'ID', 'Attributes', 'container', 'name', 'type', '__proto__', 'toString', ''];
  return Object.fromEntries(names.filter(() => random.chance(0.4)).map((name) => [name, anyJson(random, depth + 1)]));
}

test('arbitrary JSON in the event stream makes a complete event or none, and later events arrive', async (t) => {
  const random = SeededRandom.fromEnvironment(process.env, 6);
  const engine = await StandIn.start();
  const endpoint = parseDockerEndpoint(engine.url) ?? assert.fail();
  const client = new DockerEngine(endpoint);
  const stop = new AbortController();
  t.after(async () => {
    stop.abort();
    client.close();
    await engine.close();
  });
  const received: EngineEvent[] = [];
  let lastReceived = (): void => {};
  const last = new Promise<void>((resolve) => (lastReceived = resolve));
  const { ended } = await client.events((event) => {
    received.push(event);
    if (event.container === 'the last one') lastReceived();
  }, stop.signal);
  await engine.subscriptions.first();
  for (let times = 0; times < 3_000; times += 1) {
    const event = random.chance(0.5) ? anyJson(random) : {
      Type: random.pick(['container', 'network', anyJson(random)]),
      Action: random.pick(['create', 'start', 'die', 'destroy', 'rename', 'connect', 'disconnect', anyJson(random)]),
      Actor: random.chance(0.2) ? anyJson(random) : { ID: anyJson(random), Attributes: anyJson(random) },
    };
    engine.writeToSubscribers(`${JSON.stringify(event)}\n`);
  }
  engine.writeToSubscribers('{"Type":"container","Action":"die","Actor":{"ID":"the last one"}}\n');
  const timeout = AbortSignal.timeout(20_000);
  const late = new Promise<never>((_, reject) => {
    timeout.addEventListener('abort', () => reject(new Error('the last event did not arrive')));
  });
  await Promise.race([last, late, ended.then((error) => Promise.reject(error))]);
  assert.ok(received.length > 100, `only ${received.length} were valid`);
  for (const event of received) {
    for (const value of Object.values(event)) assert.equal(typeof value, 'string', JSON.stringify(event));
  }
});

test('the store never serves expired credentials, whatever STS answers', async () => {
  const random = SeededRandom.fromEnvironment(process.env, 8);
  for (let life = 0; life < 40; life += 1) {
    const clock = new ManualClock();
    const store = new CredentialStore<{ key: string }>({
      fetch: async (): Promise<Credentials> => {
        if (random.chance(0.4)) throw new CredentialsUnavailable('no');
        const until = clock.now() + random.pick([-3_600_000, -1, 0, 1, 999, 60_000, 900_000, 3_600_000, 43_200_000]);
        return { ...someCredentials(), expiration: until, validUntil: until };
      },
      clock, random: () => random.next(), offset: random.pick([0, 1_000, 900_000, 7_200_000]), concurrency: 2,
    });
    const request = { key: 'one' };
    store.retain(request);
    for (let step = 0; step < 60; step += 1) {
      await clock.advance(random.pick([1, 500, 1_000, 30_000, 600_000, 3_600_000]));
      const now = clock.now();
      const ready = store.get(request);
      assert.ok(ready === undefined || ready.validUntil > now, `seed ${random.seed}, life ${life}`);
      const got = await store.obtain(request).catch((error: unknown) => {
        assert.ok(error instanceof CredentialsUnavailable);
        return undefined;
      });
      assert.ok(got === undefined || got.validUntil > now, `seed ${random.seed}, life ${life}, step ${step}`);
    }
    store.close();
  }
});
