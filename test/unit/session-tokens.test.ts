import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SessionTokens } from '../../lib/http/session-tokens.ts';

function setUp(start = 1_700_000_000_500) {
  const time = { now: start };
  return { time, tokens: new SessionTokens(() => time.now) };
}

test('a token is good for its holder, for as long as was asked for, and tells how long that is still', () => {
  const { time, tokens } = setUp();
  const token = tokens.issue('holder', 60);
  assert.equal(tokens.remaining(token, 'holder'), 60);
  time.now += 15_000;
  assert.equal(tokens.remaining(token, 'holder'), 45);
  time.now += 44_000;
  assert.equal(tokens.remaining(token, 'holder'), 1);
  time.now += 1_000;
  assert.equal(tokens.remaining(token, 'holder'), undefined);
  time.now += 1e12;
  assert.equal(tokens.remaining(token, 'holder'), undefined);
});

test('the shortest token is good at once, the longest to its end', () => {
  for (const milliseconds of [0, 1, 500, 999]) {
    const { time, tokens } = setUp(1_700_000_000_000 + milliseconds);
    assert.equal(tokens.remaining(tokens.issue('h', 1), 'h'), 1);
    const longest = tokens.issue('h', 21_600);
    time.now += 21_599_000;
    assert.equal(tokens.remaining(longest, 'h'), 1);
  }
});

test('it begins as those of the real service do, and fits into a header', () => {
  const { tokens } = setUp();
  assert.match(tokens.issue('holder', 21_600), /^A[\w-]{40,}$/);
});

test("it is nobody else's", () => {
  const { tokens } = setUp();
  const token = tokens.issue('10.0.0.1', 60);
  for (const other of ['10.0.0.11', '10.0.0.', '10.0.0.2', '', ' 10.0.0.1', '10.0.0.1\u0000', 'x']) {
    assert.equal(tokens.remaining(token, other), undefined, other);
  }
  assert.equal(tokens.remaining(tokens.issue('', 60), '10.0.0.1'), undefined);
});

test("it is no other process's: after a restart SDKs get themselves a new one", () => {
  const [one, other] = [setUp(), setUp()];
  assert.equal(other.tokens.remaining(one.tokens.issue('h', 60), 'h'), undefined);
});

test('with any one bit changed it is no token', () => {
  const { tokens } = setUp();
  const bytes = Buffer.from(tokens.issue('holder', 60), 'base64url');
  const good: number[] = [];
  for (let bit = 0; bit < bytes.length * 8; bit += 1) {
    const changed = Buffer.from(bytes);
    changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
    if (tokens.remaining(changed.toString('base64url'), 'holder') !== undefined) good.push(bit);
  }
  assert.deepEqual(good, []);
});

test('cut, lengthened or spelt in another way it is no token', () => {
  const { tokens } = setUp();
  // One that has both letters in which base64 and base64url differ.
  const candidates = Array.from({ length: 2000 }, (_, index) => tokens.issue(`h${index}`, 60));
  const index = candidates.findIndex((candidate) => candidate.includes('-') && candidate.includes('_'));
  const [token, holder] = [candidates[index] ?? '', `h${index}`];
  assert.equal(tokens.remaining(token, holder), 60);
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
    assert.equal(tokens.remaining(other, holder), undefined, JSON.stringify(other));
  }
});

test('the last letter, of which base64 ignores some bits, has one spelling', () => {
  const { tokens } = setUp();
  const token = tokens.issue('holder', 60);
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const good = [...letters].filter(
    (letter) => tokens.remaining(token.slice(0, -1) + letter, 'holder') !== undefined,
  );
  assert.deepEqual(good, [token.slice(-1)]);
});
