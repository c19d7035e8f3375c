import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Log } from '../../lib/log/log.ts';
import { PostQueue, type PostQueueOptions } from '../../lib/telemetry/export/post-queue.ts';
import { batches, Pusher } from '../../lib/telemetry/export/pusher.ts';
import { Journal } from '../support/journal.ts';
import { Receiver } from '../support/receiver.ts';
import { ManualClock } from './helpers/manual-clock.ts';

type Line = Readonly<Record<string, unknown>> & { readonly msg: string };

async function setUp(t: TestContext, more: Partial<PostQueueOptions> = {}) {
  const receiver = await Receiver.start(t);
  const clock = new ManualClock();
  const lines = new Journal<Line>('a line of the log');
  const write = (text: string): void => {
    for (const line of text.trim().split('\n')) lines.add(JSON.parse(line) as Line);
  };
  const log = new Log({ level: 'debug', format: 'json', host: 'host', write, now: clock.now });
  const dropped: number[] = [];
  const queue = new PostQueue({
    backend: 'test',
    url: new URL(receiver.url),
    headers: { 'Api-Key': 'hush-hush' },
    gzip: false,
    timeout: 10_000,
    isRetryable: (status) => status === 429 || status >= 500,
    onDropped: (points) => dropped.push(points),
    clock,
    random: () => 0,
    log,
    ...more,
  });
  /** Resolves when the queue waits before it tries again. */
  const waits = async (): Promise<number> => {
    while (clock.pending.length !== 1 || clock.pending[0] === 10_000) await new Promise(setImmediate);
    return clock.pending[0] ?? NaN;
  };
  return { receiver, clock, lines, log, dropped, queue, waits };
}

test('batches are posted one after the other, in order, as they are', async (t) => {
  const { receiver, queue, lines } = await setUp(t);
  for (const text of ['[1]', '[2]', '[3]']) await queue.add({ text, points: 1 });
  const posts = await receiver.posts.several(3);
  assert.deepEqual(posts.map(({ text }) => text), ['[1]', '[2]', '[3]']);
  assert.equal(posts[0]?.headers['content-type'], 'application/json');
  assert.equal(posts[0]?.headers['content-encoding'], undefined);
  await queue.close(new AbortController().signal);
  assert.deepEqual(lines.entries, []);
});

test('batches are compressed when that is asked for', async (t) => {
  const { receiver, queue } = await setUp(t, { gzip: true });
  const text = `[${'1,'.repeat(10_000)}1]`;
  await queue.add({ text, points: 1 });
  const post = await receiver.posts.first();
  assert.equal(post.text, text);
  assert.ok(post.size < 1_000);
});

test('passing trouble is tried again with backoff, logged once, and once when it is over', async (t) => {
  const { receiver, clock, queue, lines, dropped, waits } = await setUp(t);
  receiver.replies.push({ status: 503 }, 'reset', { status: 500 });
  await queue.add({ text: '[1]', points: 5 });
  for (const [index, wait] of [500, 1_000, 2_000].entries()) {
    await receiver.posts.several(index + 1);
    assert.equal(await waits(), wait);
    await clock.advance(wait);
  }
  const { fields } = { fields: await lines.first(({ msg }) => msg === 'metrics are sent again') };
  assert.equal(fields['dropped'], 0);
  assert.deepEqual(receiver.posts.entries.map(({ text }) => text), ['[1]', '[1]', '[1]', '[1]']);
  const [first = assert.fail(), ...others] = lines.entries;
  assert.deepEqual(
    { ...first, time: undefined },
    {
      time: undefined, level: 'warning', msg: 'metrics cannot be sent; trying again', backend: 'test',
      receiver: receiver.url, error: 'it answers 503',
    },
  );
  assert.equal(others.length, 1);
  assert.deepEqual(dropped, []);
});

test('Retry-After is waited for, up to an hour', async (t) => {
  const { receiver, clock, queue, waits } = await setUp(t);
  receiver.replies.push(
    { status: 429, headers: { 'Retry-After': '120' } },
    { status: 429, headers: { 'Retry-After': '99999999' } },
    { status: 429, headers: { 'Retry-After': '0' } },
  );
  await queue.add({ text: '[1]', points: 1 });
  for (const [index, wait] of [120_000, 3_600_000, 2_000].entries()) {
    await receiver.posts.several(index + 1);
    assert.equal(await waits(), wait);
    await clock.advance(wait);
  }
  await receiver.posts.several(4);
});

test('a final refusal drops that batch with a count, and the next is posted', async (t) => {
  const { receiver, queue, dropped, lines } = await setUp(t);
  receiver.replies.push({ status: 403, body: 'hush-hush is not a key' }, { status: 413 }, { status: 301 });
  for (const points of [7, 8, 9, 1]) await queue.add({ text: `[${points}]`, points });
  const { dropped: told } = await lines.first(({ msg }) => msg === 'metrics are sent again');
  assert.deepEqual(receiver.posts.entries.map(({ text }) => text), ['[7]', '[8]', '[9]', '[1]']);
  assert.deepEqual(dropped, [7, 8, 9]);
  assert.equal(told, 24);
  assert.deepEqual(lines.entries.map(({ error }) => error), ['it answers 403', undefined]);
});

test('what an answer of success refuses is counted, and no more than there was', async (t) => {
  const { receiver, queue, dropped, lines } = await setUp(t, { refused: (text) => Number(text) });
  receiver.replies.push({ status: 200, body: '2' }, { status: 200, body: '99' }, { status: 200, body: '0' });
  for (const text of ['[1]', '[2]', '[3]']) await queue.add({ text, points: 5 });
  await lines.first(({ msg }) => msg === 'metrics are sent again');
  assert.deepEqual(dropped, [2, 5]);
  assert.deepEqual(lines.entries.map(({ error }) => error), ['it refuses 2 of 5 data points', undefined]);
  assert.equal(receiver.posts.entries.length, 3, 'none is posted again');
});

test('while the receiver is away the oldest batches make room, by number and by size', async (t) => {
  const { receiver, queue, dropped, waits } = await setUp(t);
  receiver.always = { status: 503 };
  await queue.add({ text: '[0]', points: 1 });
  await waits();
  for (let points = 1; points <= 62; points += 1) await queue.add({ text: `[${points}]`, points });
  assert.deepEqual(dropped, [1, 2], 'sixty wait beside the one that is tried');
  const megabyte = `"${'x'.repeat(999_990)}"`;
  for (let count = 0; count < 5; count += 1) await queue.add({ text: megabyte, points: 1_000 });
  assert.equal(dropped.filter((points) => points === 1_000).length, 1);
  assert.equal(dropped.length, 63);
});

test('a batch that is larger than everything that may wait is dropped, and the next is posted', async (t) => {
  const { receiver, queue, dropped } = await setUp(t);
  await queue.add({ text: 'x'.repeat(4_000_001), points: 3 });
  await queue.add({ text: '[1]', points: 1 });
  await receiver.posts.first(({ text }) => text === '[1]');
  assert.deepEqual(dropped, [3]);
});

test('at the end what waits is tried once more', async (t) => {
  const { receiver, queue, dropped, waits } = await setUp(t);
  receiver.replies.push({ status: 503 });
  await queue.add({ text: '[1]', points: 1 });
  await waits();
  await queue.add({ text: '[2]', points: 1 });
  await queue.close(new AbortController().signal);
  assert.deepEqual(receiver.posts.entries.map(({ text }) => text), ['[1]', '[1]', '[2]']);
  assert.deepEqual(dropped, []);
});

test('at the end a receiver that is still away is tried once, and the rest dropped', async (t) => {
  const { receiver, queue, dropped, waits } = await setUp(t);
  receiver.always = { status: 503 };
  for (const points of [1, 2, 3]) await queue.add({ text: `[${points}]`, points });
  await waits();
  await queue.close(new AbortController().signal);
  assert.deepEqual(receiver.posts.entries.map(({ text }) => text), ['[1]', '[1]']);
  assert.deepEqual(dropped, [1, 2, 3]);
});

test('the end waits for a silent receiver until its signal', async (t) => {
  const { receiver, queue, dropped } = await setUp(t);
  receiver.always = 'silence';
  for (const points of [1, 2]) await queue.add({ text: `[${points}]`, points });
  await receiver.posts.first();
  const controller = new AbortController();
  const closed = queue.close(controller.signal);
  controller.abort();
  await closed;
  assert.deepEqual(dropped, [1, 2]);
});

test('it is pushed at every interval, and once more at the end, which takes a second at most', async (t) => {
  const { receiver, clock, queue, dropped } = await setUp(t);
  let count = 0;
  const pusher = new Pusher([{
    queue,
    batches: () => {
      count += 1;
      return [{ text: `"a${count}"`, points: 1 }, { text: `"b${count}"`, points: 1 }];
    },
  }], 60_000, clock);
  await clock.advance(59_999);
  assert.equal(count, 0);
  await clock.advance(1);
  await receiver.posts.several(2);
  while (!clock.pending.includes(60_000)) await new Promise(setImmediate);
  receiver.always = 'silence';
  const closed = pusher.close();
  await receiver.posts.several(3);
  await clock.advance(1_000);
  await closed;
  assert.deepEqual(receiver.posts.entries.map(({ text }) => text), ['"a1"', '"b1"', '"a2"']);
  assert.deepEqual(dropped, [1, 1]);
  await clock.advance(600_000);
  assert.equal(count, 2);
});

test('pieces are put together up to a quarter of a million characters', () => {
  const pieces = Array.from({ length: 10 }, (_, index) => ({ json: `"${index}${'x'.repeat(59_990)}"`, points: 2 }));
  const made = [...batches(pieces, (values) => `[${values}]`)];
  assert.deepEqual(made.map(({ points }) => points), [8, 8, 4]);
  const read = made.flatMap(({ text }) => JSON.parse(text) as string[]);
  assert.deepEqual(read, pieces.map(({ json }) => JSON.parse(json) as string));
  assert.deepEqual([...batches([], (values) => `[${values}]`)], []);
  const [huge] = batches([{ json: '1'.repeat(300_000), points: 1 }], (values) => values);
  assert.equal(huge?.points, 1, 'what is too large alone is a batch of its own');
});
