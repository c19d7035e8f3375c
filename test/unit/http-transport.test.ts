import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Rejected, RetryAfter } from '../../lib/telemetry/export/exporter.ts';
import { httpPost, HttpTransport, type HttpTransportOptions, type Post } from '../../lib/telemetry/export/http.ts';
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

test('a body is posted with its headers and length, and the response has its status and body', async (t) => {
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

test('a response that never comes times out', async (t) => {
  const { receiver, clock, post } = await setUp(t, 'silence');
  const rejected = assert.rejects(post(), { message: 'no response within 5000 ms' });
  await receiver.posts.first();
  await clock.advance(TIMEOUT);
  await rejected;
});

test('of an endless response only the beginning is read', async (t) => {
  const { post } = await setUp(t, 'endless');
  const { status, text } = await post();
  assert.equal(status, 200);
  assert.equal(text.length, 16_384);
});

test('a response whose body stops has its status at the timeout', async (t) => {
  const { receiver, clock, post } = await setUp(t, 'half');
  const answer = post();
  await receiver.posts.first();
  // Nothing reports when the head has arrived.
  const ticking = setInterval(() => void clock.advance(10), 1);
  t.after(() => clearInterval(ticking));
  const { status, text } = await answer;
  assert.deepEqual({ status, text }, { status: 200, text: '{' });
});

for (const reply of ['reset', 'garbage', 'endless headers'] as const) {
  test(`${reply} in place of a response is an error`, async (t) => {
    const { post } = await setUp(t, reply);
    await assert.rejects(post(), { code: /^(ECONNRESET|HPE_\w+)$/ });
  });
}

test('endless interim responses are an error', async (t) => {
  const { post } = await setUp(t, 'endless interim answers');
  await assert.rejects(post(), { message: 'more than 10 interim responses' });
});

test('an upgrade to another protocol is an error', async (t) => {
  const { post } = await setUp(t, 'upgrade');
  await assert.rejects(post());
});

test('a refused connection is an error', async (t) => {
  const { receiver, post } = await setUp(t);
  await receiver.close();
  await assert.rejects(post(), { code: 'ECONNREFUSED' });
});

test('a signal aborts a post', async (t) => {
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

// The transport

async function transportTo(t: TestContext, reply?: Reply, more: Partial<HttpTransportOptions> = {}) {
  const { receiver, clock } = await setUp(t, reply);
  const transport = new HttpTransport({
    url: new URL(receiver.url), headers: { 'api-key': 'hush-hush' }, gzip: false, timeout: TIMEOUT,
    retryable: new Set([429, 503]), rejectedPoints: (response) => Number(response) || 0, clock, ...more,
  });
  const send = (body = '[1]', points = 5) => transport.send({ body, points, commit: () => {} });
  return { receiver, clock, transport, send };
}

test('a chunk is posted as JSON', async (t) => {
  const { receiver, transport, send } = await transportTo(t);
  await transport.open();
  await send();
  const [post] = receiver.posts.entries;
  assert.equal(post?.text, '[1]');
  assert.equal(post?.headers['content-type'], 'application/json');
  assert.equal(post?.headers['content-encoding'], undefined);
});

test('a chunk is compressed with gzip if that is set', async (t) => {
  const { receiver, send } = await transportTo(t, undefined, { gzip: true });
  const text = `[${'1,'.repeat(10_000)}1]`;
  await send(text);
  const [post] = receiver.posts.entries;
  assert.equal(post?.text, text);
  assert.equal(post?.headers['content-encoding'], 'gzip');
  assert.ok((post?.size ?? Infinity) < 1_000);
});

test('a retryable status is an error with Retry-After', async (t) => {
  const { send } = await transportTo(t, { status: 429, headers: { 'Retry-After': '120' } });
  await assert.rejects(send(), (error) => {
    assert.ok(error instanceof RetryAfter);
    assert.deepEqual([error.message, error.milliseconds], ['the receiver answered 429', 120_000]);
    return true;
  });
});

test('any other status rejects all points, and the error never quotes the response', async (t) => {
  for (const status of [301, 400, 403, 413, 500]) {
    const { send } = await transportTo(t, { status, body: 'hush-hush is not a key' });
    await assert.rejects(send(), (error) => {
      assert.ok(error instanceof Rejected);
      assert.deepEqual([error.message, error.points], [`the receiver answered ${status}`, 5]);
      return true;
    });
  }
});

test('a successful response may reject some points, but no more than were sent', async (t) => {
  for (const [body, rejected] of [['2', 2], ['99', 5]] as const) {
    const { send } = await transportTo(t, { status: 200, body });
    await assert.rejects(send(), (error) => {
      assert.ok(error instanceof Rejected);
      assert.deepEqual([error.message, error.points], [`the receiver rejected ${rejected} of 5 data points`, rejected]);
      return true;
    });
  }
  const { send } = await transportTo(t, { status: 200, body: '0' });
  await send();
});

test('a destroyed transport aborts its request, and can be opened again', async (t) => {
  const { receiver, transport, send } = await transportTo(t, 'silence');
  const aborted = assert.rejects(send(), { name: 'AbortError' });
  await receiver.posts.first();
  transport.destroy();
  await aborted;
  receiver.always = { status: 200 };
  await transport.open();
  await send();
});
