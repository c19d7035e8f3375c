import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { httpPost, type Post } from '../../lib/telemetry/export/http-post.ts';
import { makeCertificates } from '../support/certificates.ts';
import { Receiver, type Reply } from '../support/receiver.ts';
import { ManualClock } from './helpers/manual-clock.ts';

const TIMEOUT = 5_000;

async function setUp(t: TestContext, reply?: Reply) {
  const receiver = await Receiver.start(t);
  const url = new URL(`${receiver.url}/path?q=1`);
  if (reply !== undefined) receiver.always = reply;
  const clock = new ManualClock();
  const post = (more: Partial<Post> = {}) =>
    httpPost({
      url,
      headers: { 'Api-Key': 'hush' },
      body: Buffer.from('{"a":1}'),
      timeout: TIMEOUT,
      signal: new AbortController().signal,
      ...more,
    }, clock);
  return { receiver, clock, post };
}

test('a body is posted with its headers and length, and the status and body of the answer come back', async (t) => {
  const { receiver, clock, post } = await setUp(t, { status: 202, body: 'ok' });
  assert.deepEqual(await post(), { status: 202, retryAfter: undefined, text: 'ok' });
  const [{ method, path, headers, text } = assert.fail()] = receiver.posts.entries;
  assert.deepEqual({ method, path, text }, { method: 'POST', path: '/path?q=1', text: '{"a":1}' });
  assert.equal(headers['api-key'], 'hush');
  assert.equal(headers['content-length'], '7');
  assert.equal(headers['connection'], 'close');
  assert.deepEqual(clock.pending, []);
});

for (const [value, expected] of [
  ['0', 0],
  ['7', 7_000],
  ['Thu, 01 Jan 2026 00:00:30 GMT', 30_000],
  ['Wed, 31 Dec 2025 00:00:00 GMT', undefined],
  ['soon', undefined],
  ['-5', undefined],
  ['1.5', undefined],
] as const) {
  test(`Retry-After: ${value} is ${expected} ms`, async (t) => {
    const { post } = await setUp(t, { status: 429, headers: { 'Retry-After': value } });
    assert.equal((await post()).retryAfter, expected);
  });
}

test('an answer that never comes is given up in time', async (t) => {
  const { receiver, clock, post } = await setUp(t, 'silence');
  const rejected = assert.rejects(post(), { message: 'no answer within 5000 ms' });
  await receiver.posts.first();
  await clock.advance(TIMEOUT);
  await rejected;
});

test('of an answer without end only the beginning is read', async (t) => {
  const { post } = await setUp(t, 'endless');
  const { status, text } = await post();
  assert.equal(status, 200);
  assert.equal(text.length, 16_384);
});

test('an answer whose body stops counts by its status when the time is over', async (t) => {
  const { receiver, clock, post } = await setUp(t, 'half');
  const answer = post();
  await receiver.posts.first();
  // The header has to have come, and nothing tells when.
  const ticking = setInterval(() => void clock.advance(10), 1);
  t.after(() => clearInterval(ticking));
  const { status, text } = await answer;
  assert.deepEqual({ status, text }, { status: 200, text: '{' });
});

for (const reply of ['reset', 'garbage', 'endless headers'] as const) {
  test(`${reply} instead of an answer is an error`, async (t) => {
    const { post } = await setUp(t, reply);
    await assert.rejects(post(), { code: /^(ECONNRESET|HPE_\w+)$/ });
  });
}

test('interim answers without end are an error', async (t) => {
  const { post } = await setUp(t, 'endless interim answers');
  await assert.rejects(post(), { message: 'more than 10 interim answers' });
});

test('another protocol that nobody asked for is an error', async (t) => {
  const { post } = await setUp(t, 'upgrade');
  await assert.rejects(post());
});

test('nobody there is an error', async (t) => {
  const { receiver, post } = await setUp(t);
  await receiver.close();
  await assert.rejects(post(), { code: 'ECONNREFUSED' });
});

test('a post is taken back by its signal', async (t) => {
  const { receiver, post } = await setUp(t, 'silence');
  const controller = new AbortController();
  const rejected = assert.rejects(post({ signal: controller.signal }), { name: 'AbortError' });
  await receiver.posts.first();
  controller.abort();
  await rejected;
});

test('a certificate of an unknown authority is refused', async (t) => {
  const { post } = await setUp(t);
  const receiver = await Receiver.start(t, makeCertificates().server);
  await assert.rejects(post({ url: new URL(receiver.url) }), { code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' });
  assert.equal(receiver.posts.entries.length, 0);
});
