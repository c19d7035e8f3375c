import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SessionTokens } from '../../lib/http/session-tokens.ts';

function setUp(start = 1_700_000_000_500) {
  const time = { now: start };
  return { time, tokens: new SessionTokens(() => time.now) };
}

test('a token is valid for its subject until its TTL is over, and has its remaining TTL', () => {
  const { time, tokens } = setUp();
  const token = tokens.issue('subject', 60);
  assert.equal(tokens.remaining(token, 'subject'), 60);
  time.now += 15_000;
  assert.equal(tokens.remaining(token, 'subject'), 45);
  time.now += 44_000;
  assert.equal(tokens.remaining(token, 'subject'), 1);
  time.now += 1_000;
  assert.equal(tokens.remaining(token, 'subject'), undefined);
  time.now += 1e12;
  assert.equal(tokens.remaining(token, 'subject'), undefined);
});

test('the shortest token is valid at once, the longest until its last second', () => {
  for (const milliseconds of [0, 1, 500, 999]) {
    const { time, tokens } = setUp(1_700_000_000_000 + milliseconds);
    assert.equal(tokens.remaining(tokens.issue('h', 1), 'h'), 1);
    const longest = tokens.issue('h', 21_600);
    time.now += 21_599_000;
    assert.equal(tokens.remaining(longest, 'h'), 1);
  }
});

test('a token starts with A, as those of IMDS do, and fits into a header', () => {
  const { tokens } = setUp();
  assert.match(tokens.issue('subject', 21_600), /^A[\w-]{40,}$/);
});

test("a token is invalid for any other subject", () => {
  const { tokens } = setUp();
  const token = tokens.issue('10.0.0.1', 60);
  for (const other of ['10.0.0.11', '10.0.0.', '10.0.0.2', '', ' 10.0.0.1', '10.0.0.1\u0000', 'x']) {
    assert.equal(tokens.remaining(token, other), undefined, other);
  }
  assert.equal(tokens.remaining(tokens.issue('', 60), '10.0.0.1'), undefined);
});

test("a token is invalid for another process: after a restart SDKs request a new one", () => {
  const [one, other] = [setUp(), setUp()];
  assert.equal(other.tokens.remaining(one.tokens.issue('h', 60), 'h'), undefined);
});

test('a token with any one bit changed is invalid', () => {
  const { tokens } = setUp();
  const bytes = Buffer.from(tokens.issue('subject', 60), 'base64url');
  const valid: number[] = [];
  for (let bit = 0; bit < bytes.length * 8; bit += 1) {
    const changed = Buffer.from(bytes);
    changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
    if (tokens.remaining(changed.toString('base64url'), 'subject') !== undefined) valid.push(bit);
  }
  assert.deepEqual(valid, []);
});

test('a token that is cut, lengthened or spelt differently is invalid', () => {
  const { tokens } = setUp();
  // One that has both letters in which base64 and base64url differ.
  const candidates = Array.from({ length: 2000 }, (_, index) => tokens.issue(`h${index}`, 60));
  const index = candidates.findIndex((candidate) => candidate.includes('-') && candidate.includes('_'));
  const [token, subject] = [candidates[index] ?? '', `h${index}`];
  assert.equal(tokens.remaining(token, subject), 60);
  const base64 = token.replaceAll('-', '+').replaceAll('_', '/');
  for (const other of [
    '',
    token.slice(0, -1),
    token.slice(1),
    `${token}A`,
    `${token}=`,
    `${token} `,
    ` ${token}`,
    `${token}\n`,
    `${token}.x`,
    `${token.slice(0, 10)} ${token.slice(10)}`,
    `${token.slice(0, 10)}=${token.slice(10)}`,
    base64,
    `${base64}=`,
    token + token,
    token.toLowerCase(),
    'x'.repeat(8000),
    'é',
    '\u0000',
  ]) {
    assert.equal(tokens.remaining(other, subject), undefined, JSON.stringify(other));
  }
});

test('the last letter, of which base64 ignores some bits, has one valid spelling', () => {
  const { tokens } = setUp();
  const token = tokens.issue('subject', 60);
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const valid = [...letters].filter(
    (letter) => tokens.remaining(token.slice(0, -1) + letter, 'subject') !== undefined,
  );
  assert.deepEqual(valid, [token.slice(-1)]);
});
