import assert from 'node:assert/strict';
import { test } from 'node:test';
import { boolean, duration, headers, integer, keyValues, matching, names, oneOf, regex, someOf, trueOrFalse, url, type Kind } from '../../lib/config/kinds.ts';

function check<T>({ parse }: Kind<T>, accepted: readonly (readonly [text: string, value: T])[], refused: readonly string[]): void {
  for (const [text, value] of accepted) assert.deepEqual(parse(text), value, text);
  for (const text of refused) assert.equal(parse(text), undefined, text);
}

test('an integer accepts its bounds, and its description names them', () => {
  check(integer(1, 20), [['1', 1], ['20', 20]], ['0', '21', '-1', '1.5', '0x2', '1e1', '', 'one']);
  assert.equal(integer(1, 20).expects, 'a whole number from 1 to 20');
  assert.equal(integer(0, 20, { unit: 'seconds', zero: 'no limit' }).expects, 'a whole number of seconds from 0 to 20 (0: no limit)');
});

test('a duration accepts its bounds, and its description names them', () => {
  check(duration('1s', '24h'), [['1s', 1_000], ['24h', 86_400_000]], ['999ms', '24h1ms', '0', '5', 'soon']);
  assert.equal(duration('1s', '24h').expects, 'a duration from 1s to 24h');
});

test('a duration without bounds accepts 0', () => {
  check(duration(), [['0', 0], ['1.5h', 5_400_000]], ['-1s', '5']);
});

test('a boolean has several spellings, and its default is part of the kind', () => {
  check(boolean(false), [['1', true], ['YES', true], ['on', true], ['true', true], ['0', false], ['Off', false], ['no', false]], ['maybe', '2', '']);
  assert.deepEqual([boolean(true).default, boolean(false).default], ['true', 'false']);
});

test('trueOrFalse accepts only the two words', () => {
  check(trueOrFalse(false), [['True', true], ['FALSE', false]], ['1', 'yes', 'on']);
});

test('one of several words is found in either case, and aliases are not in the description', () => {
  const level = oneOf(['debug', 'warning', 'error'], { warn: 'warning' });
  check(level, [['DEBUG', 'debug'], ['warn', 'warning'], ['error', 'error']], ['err', '', 'debug,error']);
  assert.equal(level.expects, '"debug", "warning" or "error"');
  assert.equal(oneOf(['a', 'b']).expects, '"a" or "b"');
  assert.equal(oneOf(['a']).expects, '"a"');
});

test('a URL must have one of the schemes, and no user name and password', () => {
  const either = url(['http', 'https']);
  check(either, [['https://h/path?q', new URL('https://h/path?q')]], ['ftp://h', 'h:80', 'http://u@h', 'http://:p@h', 'http://']);
  assert.equal(either.expects, 'an http:// or https:// URL without a user name and password');
  check(url(['http'], { userInfo: true }), [['http://u:p@h/', new URL('http://u:p@h/')]], ['https://h']);
});

test('a URL that is an origin has no path, query or fragment', () => {
  const origin = url(['http'], { origin: true });
  check(origin, [['http://h:8080', new URL('http://h:8080')], ['http://h/', new URL('http://h')]], ['http://h/p', 'http://h?q', 'http://h#f']);
  assert.equal(origin.expects, 'http://host or http://host:port');
});

test('an invalid regular expression is refused with the reason', () => {
  assert.deepEqual(regex('i').parse('^a'), /^a/i);
  assert.throws(() => regex().parse('('), /Unterminated group/);
});

test('names are separated by commas, and empty ones are dropped', () => {
  check(names(), [['a, b,,c ', ['a', 'b', 'c']], ['', []]], []);
});

test('some of a set keep the order of the set', () => {
  check(someOf(['a', 'b', 'c']), [['c, a', ['a', 'c']]], ['a,d']);
  assert.equal(someOf(['a', 'b']).expects, 'some of a, b, separated by commas');
});

test('matching text is kept as it is', () => {
  check(matching('digits', /^\d+$/), [['007', '007']], ['7a']);
});

test('key-value pairs are percent-encoded', () => {
  check(keyValues(), [[' a = b%20c ,d=e=f,', new Map([['a', 'b c'], ['d', 'e=f']])]], ['a', '=b', 'a b=c', 'a=%zz']);
});

test('headers must be valid fields that the exporter does not set itself', () => {
  check(headers(), [['api-key=k', new Map([['api-key', 'k']])]], ['a=%0d%0aX: y', 'Content-Length=1', 'k=%c3%a9', 'a(b=c']);
});
