import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  AssumeRoleDenied,
  CredentialsUnavailable,
  type Credentials,
} from '../../lib/credentials/credentials.ts';
import { CredentialStore } from '../../lib/credentials/store.ts';
import { someCredentials } from './helpers/fixtures.ts';
import { ManualClock, settled } from './helpers/manual-clock.ts';
import { deferred, watch, type Deferred } from './helpers/promises.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

interface Request {
  readonly key: string;
}

interface Fetch extends Deferred<Credentials> {
  readonly key: string;
  /** Answers with credentials of the given lifetime. */
  give(lifetime?: number): Credentials;
}

interface Options {
  offset?: number;
  concurrency?: number;
  random?: () => number;
}

/** A store whose fetches the test answers. */
function setUp({ offset = 15 * MINUTE, concurrency = 16, random = () => 0.5 }: Options = {}) {
  const clock = new ManualClock();
  const fetches: Fetch[] = [];
  const failed: { key: string; message: string; retryIn: number }[] = [];
  const fetched: string[] = [];
  const store = new CredentialStore<Request>({
    fetch: ({ key }) => {
      const answer = deferred<Credentials>();
      const give = (lifetime = HOUR): Credentials => {
        const credentials = make(`${key}#${fetches.length}`, clock.now() + lifetime);
        answer.resolve(credentials);
        return credentials;
      };
      fetches.push({ key, ...answer, give });
      return answer.promise;
    },
    clock,
    random,
    offset,
    concurrency,
    events: {
      credentialsFetched: ({ key }) => fetched.push(key),
      credentialsFailed: ({ key }, { message }, retryIn) => failed.push({ key, message, retryIn }),
    },
  });
  const last = (): Fetch => {
    const fetch = fetches.at(-1);
    assert.ok(fetch, 'nothing was fetched');
    return fetch;
  };
  return { clock, store, fetches, fetched, failed, last };
}

function make(name: string, expiration: number): Credentials {
  return someCredentials({ accessKeyId: `ASIA${name}`, expiration });
}

/** The store returns its own request for an equal one, as long as it has an entry. */
function assertDropped(store: CredentialStore<Request>, ...requests: Request[]): void {
  for (const { key } of requests) {
    const equal = { key };
    assert.equal(store.intern(equal), equal, `an entry for ${key} is left`);
  }
}

const A = { key: 'a' };
const B = { key: 'b' };

/** A store with one-hour credentials for a running container. */
async function retained(options?: Options) {
  const parts = setUp(options);
  parts.store.retain(A);
  await settled();
  const credentials = parts.last().give();
  await settled();
  assert.equal(parts.store.get(A), credentials);
  return { ...parts, credentials };
}

test('1,000 simultaneous requests for one cold role make exactly one call', async () => {
  const { store, fetches, last } = setUp();
  const answers = Promise.all(Array.from({ length: 1000 }, () => store.obtain(A)));
  await settled();
  assert.equal(fetches.length, 1);
  const credentials = last().give();
  assert.ok((await answers).every((answer) => answer === credentials));
  assert.equal(fetches.length, 1);
});

test('a failing fetch is shared as well, and every waiter gets its error', async () => {
  const { store, fetches, last } = setUp();
  const answers = Array.from({ length: 100 }, () => watch(store.obtain(A)));
  await settled();
  last().reject(new AssumeRoleDenied('AccessDenied', 'no'));
  await settled();
  assert.equal(fetches.length, 1);
  assert.ok(answers.every(({ error }) => error instanceof AssumeRoleDenied));
});

test('credentials of another key are never returned', async () => {
  const { store, fetches } = setUp();
  const [a, b] = [store.obtain(A), store.obtain(B)];
  await settled();
  assert.deepEqual(
    fetches.map(({ key }) => key),
    ['a', 'b'],
  );
  for (const fetch of fetches) fetch.give();
  assert.match((await a).accessKeyId, /^ASIAa/);
  assert.match((await b).accessKeyId, /^ASIAb/);
});

test('credentials are ready before a created container requests them', async () => {
  const { store, last } = setUp();
  store.warm(A);
  await settled();
  const credentials = last().give();
  await settled();
  assert.equal(store.get(A), credentials);
});

test('a request joins the fetch that the creation of its container started', async () => {
  const { store, fetches, last } = setUp();
  store.warm(A);
  store.retain(A);
  const answer = store.obtain(A);
  await settled();
  assert.equal(fetches.length, 1);
  assert.equal(last().give(), await answer);
});

test('returned credentials have at least the offset left', async () => {
  const { store, clock, fetches, last } = setUp({ offset: 15 * MINUTE });
  const first = store.obtain(A);
  await settled();
  const credentials = last().give(HOUR);
  await first;
  store.retain(A);
  // The refresh, which is due by now, hangs.
  await clock.advance(45 * MINUTE - 1);
  assert.equal(store.get(A), credentials);
  await clock.advance(1);
  assert.equal(store.get(A), undefined, 'exactly 15 minutes left are not enough');
  const answer = store.obtain(A);
  await settled();
  assert.equal(fetches.length, 2);
  assert.equal(last().give(), await answer);
});

test('with an offset of 0 credentials are returned until they expire', async () => {
  const { store, clock, credentials } = await retained({ offset: 0 });
  await clock.advance(HOUR - 1);
  assert.equal(store.get(A), credentials);
  await clock.advance(1);
  assert.equal(store.get(A), undefined);
});

test('credentials that live shorter than the offset are fresh for the first half of their life', async () => {
  const { store, clock, fetches, last } = setUp({ offset: 15 * MINUTE });
  store.retain(A);
  await settled();
  const credentials = last().give(10 * MINUTE);
  await settled();
  assert.equal(fetches.length, 1, 'no second call');
  await clock.advance(1 * MINUTE);
  assert.equal(store.get(A), credentials);
  assert.equal(fetches.length, 1);
  await clock.advance(4 * MINUTE);
  assert.equal(store.get(A), undefined);
  assert.equal(fetches.length, 2);
});

/** Refreshes once, so that these are not the first credentials. */
async function renewed(options: Options) {
  const parts = await retained(options);
  await parts.clock.advance(45 * MINUTE * 0.6);
  const credentials = parts.last().give();
  await settled();
  assert.equal(parts.store.get(A), credentials);
  return { ...parts, credentials };
}

for (const [which, given, random, at] of [
  ['the first renewal', retained, 0, 0.1],
  ['the first renewal', retained, 0.999_999, 0.6],
  ['a later renewal', renewed, 0, 0.4],
  ['a later renewal', renewed, 0.999_999, 0.6],
] as const) {
  test(`${which} begins long before the offset: with random ${random} after ${at} of that time`, async () => {
    const { store, clock, fetches, last, credentials } = await given({ random: () => random });
    const before = fetches.length;
    const left = credentials.validUntil - 15 * MINUTE - clock.now();
    await clock.advance(left * at - 1000);
    assert.equal(fetches.length, before);
    await clock.advance(2000);
    assert.equal(fetches.length, before + 1, 'in the background, without a request');
    assert.equal(store.get(A), credentials, 'no request waits for it');
    const next = last().give();
    await settled();
    assert.equal(store.get(A), next);
  });
}

test('a fetch after failures is spread like a first one, because other hosts failed with it', async () => {
  const { store, clock, fetches, last } = await retained({ random: () => 0 });
  await clock.advance(45 * MINUTE * 0.1);
  last().reject(new CredentialsUnavailable('down'));
  await clock.advance(500);
  const credentials = last().give();
  await settled();
  assert.equal(store.get(A), credentials);
  const before = fetches.length;
  await clock.advance(45 * MINUTE * 0.1);
  assert.equal(fetches.length, before + 1);
});

test('credentials survive half an hour without STS, whenever that begins', async () => {
  for (let beginning = 0; beginning < 30; beginning += 1) {
    const { store, clock, fetches } = await renewed({ random: () => 0.999_999 });
    let answered = fetches.length;
    const minuteWith = async (there: boolean): Promise<void> => {
      await clock.advance(MINUTE);
      for (; answered < fetches.length; answered += 1) {
        if (there) fetches[answered]?.give();
        else fetches[answered]?.reject(new CredentialsUnavailable('down'));
        await settled();
      }
      assert.ok(store.inspect(A).credentials);
    };
    for (let minute = 0; minute < beginning; minute += 1) await minuteWith(true);
    for (let minute = 0; minute < 30; minute += 1) await minuteWith(false);
    await minuteWith(true);
    await minuteWith(true);
  }
});

test('a running container never waits while STS answers', async () => {
  const { store, clock, fetches, last } = await retained();
  for (let minute = 0; minute < 24 * 60; minute += 1) {
    const before = fetches.length;
    await clock.advance(MINUTE);
    if (fetches.length > before) last().give();
    await settled();
    const credentials = store.get(A);
    assert.ok(credentials, `nothing at minute ${minute}`);
    assert.ok(credentials.expiration - clock.now() >= 15 * MINUTE);
  }
  assert.ok(fetches.length <= (24 * 60) / (45 * 0.4), `${fetches.length} calls in a day`);
});

test('while STS fails, valid credentials are returned until they expire', async () => {
  const { store, clock, fetches, credentials } = await retained();
  let rejected = 0;
  const failAll = (): void => {
    for (; rejected < fetches.length; rejected += 1)
      fetches[rejected]?.reject(new CredentialsUnavailable('down'));
  };
  for (let minute = 1; minute < 60; minute += 1) {
    await clock.advance(MINUTE);
    failAll();
    const answer = watch(store.obtain(A));
    await settled();
    failAll();
    await settled();
    assert.equal(answer.value, credentials, `minute ${minute}`);
  }
  await clock.advance(MINUTE - 1);
  failAll();
  await settled();
  assert.equal(await store.obtain(A), credentials);
  await clock.advance(1);
  const answer = watch(store.obtain(A));
  await settled();
  failAll();
  await settled();
  assert.ok(answer.error instanceof CredentialsUnavailable);
});

test('a denied refresh also keeps the valid credentials', async () => {
  const { store, clock, last, credentials } = await retained();
  await clock.advance(46 * MINUTE);
  last().reject(new AssumeRoleDenied('AccessDenied', 'the policy was changed'));
  await settled();
  assert.equal(await store.obtain(A), credentials);
  await clock.advance(14 * MINUTE);
  last().reject(new AssumeRoleDenied('AccessDenied', 'still no'));
  await settled();
  await assert.rejects(store.obtain(A), AssumeRoleDenied);
});

test('a failed fetch is retried after 0.5 to 1 s, then with doubled backoff up to a minute', async () => {
  for (const random of [0, 0.5, 0.999_999]) {
    const { store, clock, fetches, failed, last } = setUp({ random: () => random });
    store.retain(A);
    await settled();
    for (let failures = 1; failures <= 40; failures += 1) {
      last().reject(new CredentialsUnavailable('down'));
      await settled();
      const { retryIn = NaN } = failed.at(-1) ?? {};
      const ceiling = Math.min(60_000, 1000 * 2 ** (failures - 1));
      assert.ok(retryIn >= ceiling / 2 && retryIn <= ceiling, `${retryIn} ms after ${failures} failures`);
      assert.equal(fetches.length, failures, 'not at once');
      await clock.advance(retryIn - 1);
      assert.equal(fetches.length, failures, 'not early');
      await clock.advance(1);
      assert.equal(fetches.length, failures + 1, 'and then it is');
    }
  }
});

test('a success ends the backoff', async () => {
  const { store, clock, last, failed } = setUp({ random: () => 0 });
  store.retain(A);
  await settled();
  for (let failure = 0; failure < 5; failure += 1) {
    last().reject(new CredentialsUnavailable('down'));
    await settled();
    await clock.advance(failed.at(-1)?.retryIn ?? 0);
  }
  last().give();
  await settled();
  await clock.advance(45 * MINUTE * 0.75);
  last().reject(new CredentialsUnavailable('down again'));
  await settled();
  assert.equal(failed.at(-1)?.retryIn, 500);
});

test('requests during the backoff make no call and get a retryAfter', async () => {
  const { store, clock, fetches, last } = setUp({ random: () => 0.999_999 });
  store.retain(A);
  await settled();
  for (const wait of [1000, 2000, 4000]) {
    last().reject(new CredentialsUnavailable('down'));
    await settled();
    if (wait < 4000) await clock.advance(wait);
  }
  await clock.advance(1000);
  for (let request = 0; request < 50; request += 1) {
    await assert.rejects(store.obtain(A), (error: Error) => {
      assert.ok(error instanceof CredentialsUnavailable);
      assert.equal(error.message, 'down');
      assert.equal(Math.round(error.retryAfter), 3000);
      return true;
    });
  }
  assert.equal(fetches.length, 3);
});

test('a denial differs from a retryable failure, also during the backoff', async () => {
  const { store, last } = setUp();
  store.retain(A);
  await settled();
  last().reject(new AssumeRoleDenied('AccessDenied', 'no'));
  await settled();
  await assert.rejects(
    store.obtain(A),
    (error: Error) => error instanceof AssumeRoleDenied && error.code === 'AccessDenied',
  );
});

test('any other error is retryable', async () => {
  const { store, last } = setUp();
  const answer = watch(store.obtain(A));
  await settled();
  last().reject(new TypeError('a bug'));
  await settled();
  assert.ok(answer.error instanceof CredentialsUnavailable);
  assert.ok(answer.error.retryAfter >= 1000);
});

test('the last release drops the credentials', async () => {
  const { store, clock, fetches, credentials } = await retained();
  store.retain(A);
  store.release(A);
  assert.equal(store.get(A), credentials, 'one user is left');
  store.release(A);
  assert.equal(store.get(A), undefined);
  assertDropped(store, A);
  assert.deepEqual(clock.pending, [], 'no refresh is scheduled');
  await clock.advance(2 * HOUR);
  assert.equal(fetches.length, 1);
});

test('more releases than retains do no harm', async () => {
  const { store, last } = setUp();
  store.release(A);
  store.warm(A);
  store.release(A);
  store.retain(A);
  store.retain(A);
  store.release(A);
  await settled();
  last().give();
  await settled();
  assert.ok(store.get(A));
});

test('a container that ends during its fetch leaves no entry', async () => {
  const { store, clock, last } = setUp();
  store.retain(A);
  await settled();
  store.release(A);
  last().give();
  await settled();
  assertDropped(store, A);
  assert.equal(store.get(A), undefined);
  assert.deepEqual(clock.pending, []);
});

test('a container that ends before its fetch fails leaves no entry', async () => {
  const { store, clock, last } = setUp();
  store.retain(A);
  await settled();
  store.release(A);
  last().reject(new CredentialsUnavailable('down'));
  await settled();
  assertDropped(store, A);
  assert.deepEqual(clock.pending, []);
});

test('a container that starts again does not get the result of a fetch from before its end', async () => {
  const { store, fetches } = setUp();
  store.retain(A);
  await settled();
  store.release(A);
  store.retain(A);
  await settled();
  assert.equal(fetches.length, 2);
  const [before, after] = fetches;
  const late = after?.give();
  await settled();
  before?.give();
  await settled();
  assert.equal(store.get(A), late);
});

test('credentials of a container that never starts are dropped, not refreshed', async () => {
  const { store, clock, fetches, last } = setUp();
  store.warm(A);
  await settled();
  last().give();
  await clock.advance(HOUR);
  assertDropped(store, A);
  assert.equal(fetches.length, 1);
});

test('a failed entry of a container that never starts is dropped as well', async () => {
  const { store, clock, fetches, last } = setUp();
  store.warm(A);
  await settled();
  last().reject(new AssumeRoleDenied('AccessDenied', 'no'));
  await clock.advance(HOUR);
  assertDropped(store, A);
  assert.equal(fetches.length, 1);
});

test('credentials that expired on arrival are a retryable failure that mentions the clock', async () => {
  for (const lifetime of [0, -1, -HOUR]) {
    const { store, last, failed } = setUp();
    store.retain(A);
    const answer = watch(store.obtain(A));
    await settled();
    last().give(lifetime);
    await settled();
    assert.ok(answer.error instanceof CredentialsUnavailable);
    assert.match(failed[0]?.message ?? '', /clock/);
    assert.equal(store.get(A), undefined);
  }
});

test('a refresh that expired on arrival does not replace valid credentials', async () => {
  const { store, clock, last, credentials } = await retained();
  await clock.advance(46 * MINUTE);
  last().give(-1);
  await settled();
  assert.equal(await store.obtain(A), credentials);
});

test('credentials with a second left are returned without a fetch for each request', async () => {
  const { store, clock, fetches, last } = setUp();
  store.retain(A);
  await settled();
  last().give(1000);
  await settled();
  assert.ok(store.get(A));
  for (let request = 0; request < 100; request += 1) await store.obtain(A);
  assert.equal(fetches.length, 1);
  await clock.advance(1000);
  assert.equal(fetches.length, 2);
});

test('while old credentials are valid a request waits at most half a second for new ones', async () => {
  const { store, clock, last, credentials } = await retained();
  await clock.advance(46 * MINUTE);
  const answer = watch(store.obtain(A));
  await clock.advance(499);
  assert.equal(answer.state, 'pending');
  await clock.advance(1);
  assert.equal(answer.value, credentials);
  const renewed = last().give();
  await settled();
  assert.equal(store.get(A), renewed, 'the call went on, and counts');
});

test('a request waits at most ten seconds for the first credentials', async () => {
  const { store, clock, fetches, last } = setUp();
  store.retain(A);
  const answer = watch(store.obtain(A));
  await clock.advance(9_999);
  assert.equal(answer.state, 'pending');
  await clock.advance(1);
  assert.ok(answer.error instanceof CredentialsUnavailable);
  assert.ok(answer.error.retryAfter >= 1000);
  assert.equal(fetches.length, 1);
  last().give();
  await settled();
  assert.ok(store.get(A), 'the call went on, and counts');
});

test('concurrent fetches are limited', async () => {
  const { store, fetches } = setUp({ concurrency: 3 });
  for (let role = 0; role < 10; role += 1) store.retain({ key: `${role}` });
  await settled();
  for (let answered = 0; answered < 10; answered += 1) {
    assert.equal(fetches.length, Math.min(answered + 3, 10));
    if (answered % 2 === 0) fetches[answered]?.give();
    else fetches[answered]?.reject(new CredentialsUnavailable('down'));
    await settled();
  }
  assert.deepEqual(
    fetches.map(({ key }) => key),
    Array.from({ length: 10 }, (_, role) => `${role}`),
  );
});

test('a fetch with waiters runs before one without', async () => {
  const { store, fetches, last } = setUp({ concurrency: 1 });
  store.warm({ key: 'first' });
  store.warm({ key: 'ahead of time' });
  void store.obtain({ key: 'waiting' });
  await settled();
  last().give();
  await settled();
  assert.deepEqual(
    fetches.map(({ key }) => key),
    ['first', 'waiting'],
  );
});

test('a queued fetch becomes urgent when a request starts to wait for it', async () => {
  const { store, fetches, last } = setUp({ concurrency: 1 });
  store.warm({ key: 'first' });
  store.warm({ key: 'ahead of time' });
  store.warm(A);
  void store.obtain(A);
  await settled();
  last().give();
  await settled();
  assert.deepEqual(
    fetches.map(({ key }) => key),
    ['first', 'a'],
  );
});

test('close drops every entry and timer', async () => {
  const { store, clock, last } = await retained();
  store.retain(B);
  await settled();
  store.close();
  assertDropped(store, A, B);
  last().give();
  await settled();
  assert.deepEqual(clock.pending, []);
});

test('equal requests are interned while an entry exists', () => {
  const { store } = setUp();
  const kept = { ...A };
  assert.notEqual(store.intern({ ...A }), kept, 'nothing is interned yet');
  store.retain(kept);
  assert.equal(store.intern({ ...A }), kept);
  assert.equal(store.intern(B), B);
  store.release(kept);
  assert.notEqual(store.intern({ ...A }), kept);
});
