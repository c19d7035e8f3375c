import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BadTarget, canonicalPath } from '../../lib/http/canonical-path.ts';
import { SeededRandom } from '../support/seeded-random.ts';
import { randomTarget } from './helpers/targets.ts';

const READINGS: readonly (readonly [target: string, path: string, why: string])[] = [
  ['/', '/', 'the root'],
  ['/latest/meta-data', '/latest/meta-data', 'an ordinary path'],
  ['/latest/meta-data/', '/latest/meta-data/', 'a trailing slash is kept'],
  ["/a-b._~:@!$&'()*+,=c", "/a-b._~:@!$&'()*+,=c", 'every character that needs no encoding'],
  ['/0e:49:61:0f:c3:11/', '/0e:49:61:0f:c3:11/', 'a MAC address'],
  ['//latest///meta-data//', '/latest/meta-data/', 'slashes are collapsed'],
  ['/latest/./meta-data/.', '/latest/meta-data/', 'a dot is nothing'],
  ['/latest/x/../meta-data', '/latest/meta-data', 'two dots go up'],
  ['/latest/meta-data/..', '/latest/', 'to a directory'],
  ['/../../latest', '/latest', 'but not above the root'],
  ['/..', '/', 'of which there is one'],
  ['/.', '/', 'however it is written'],
  ['//', '/', 'with how many slashes'],
  ['/a/../..//./', '/', 'and detours'],
  ['/...', '/...', 'three dots are a name'],
  ['/.a/..b/c..', '/.a/..b/c..', 'dots in a name are nothing special'],
  ['/latest/meta%2Ddata', '/latest/meta-data', 'encoded characters are decoded'],
  ['/%6c%61test/%4d', '/latest/M', 'in either case of the digits, and keep their own case'],
  ['/latest%2fmeta-data%2Fiam', '/latest/meta-data/iam', 'an encoded slash is a slash'],
  ['/latest/x/%2e%2E/meta-data', '/latest/meta-data', 'encoded dots are dots'],
  ['/latest/x/.%2e/meta-data', '/latest/meta-data', 'half encoded ones too'],
  ['/latest/x%2f..%2fmeta-data', '/latest/meta-data', 'and both together'],
  ['/latest?x=1', '/latest', 'the query is cut off'],
  ['/latest/?', '/latest/', 'also an empty one'],
  ['/latest?/../x%zz\u0000;', '/latest', 'whatever it has'],
  ['/?/latest', '/', 'at the first question mark'],
];

for (const [target, path, why] of READINGS) {
  test(`${JSON.stringify(target)} has the canonical path ${path}: ${why}`, () => {
    assert.equal(canonicalPath(target), path);
  });
}

const REFUSED: readonly (readonly [target: string, why: string])[] = [
  ['', 'nothing'],
  ['*', 'the asterisk form'],
  ['latest', 'a relative path'],
  ['?x', 'a query alone'],
  ['http://169.254.169.254/latest', 'the absolute form'],
  ['HTTP://x/latest', 'in capitals too'],
  ['169.254.169.254:80', 'the authority form'],
  ['%2flatest', 'an encoded slash at the beginning'],
  ['\\latest', 'a backslash at the beginning'],
  ['/latest%', 'an invalid percent-encoding'],
  ['/latest%6', 'half an octet'],
  ['/latest%zz', 'no hexadecimal digits'],
  ['/latest%u0069am', 'a notation of old servers'],
  ['/%2569am', 'a second encoding'],
  ['/%25', 'an encoded "%"'],
  ['/latest\\meta-data', 'a backslash'],
  ['/latest%5cmeta-data', 'an encoded backslash'],
  ['/latest;a=b/meta-data', 'path parameters'],
  ['/latest%3b/meta-data', 'encoded ones'],
  ['/latest%3fx', 'an encoded question mark'],
  ['/latest#x', 'a fragment'],
  ['/latest%23x', 'an encoded one'],
  ['/latest%00', 'NUL'],
  ['/latest\u0000', 'NUL as it is'],
  ['/latest%0d%0aX-Header:%20x', 'a line break'],
  ['/latest\t', 'a control byte'],
  ['/latest%7f', 'DEL'],
  ['/latest%20', 'a space'],
  ['/latest x', 'a space as it is'],
  ['/%c0%af', 'an overlong slash'],
  ['/%c0%ae%c0%ae/iam', 'overlong dots'],
  ['/\u0131am', 'a letter beyond ASCII'],
  ['/%c4%b1am', 'such a letter encoded'],
  ['/\uff0flatest', 'a full-width slash'],
  ['/latest/"', 'a quote'],
  ['/latest/<', 'an angle bracket'],
  ['/[::1]', 'square brackets'],
  ['/{a}', 'braces'],
  ['/a|b^c`d', 'what RFC 3986 has in no path'],
  [`/${'a'.repeat(1024)}`, 'more than 1024 characters'],
  [`/a?${'b'.repeat(1024)}`, 'of which the query has most'],
];

for (const [target, why] of REFUSED) {
  test(`${JSON.stringify(target.slice(0, 60))} is refused: ${why}`, () => {
    assert.throws(() => canonicalPath(target), BadTarget);
  });
}

test('a target of 1024 characters is accepted', () => {
  assert.equal(canonicalPath(`/${'a'.repeat(1023)}`).length, 1024);
});

test('a path of nothing but dots and slashes is parsed in linear time', () => {
  for (const unit of ['/.', '/..', '.', '..', '/', 'a.', '/a..']) {
    const target = `/${unit.repeat(1024)}`.slice(0, 1023);
    assert.doesNotThrow(() => canonicalPath(target));
    assert.throws(() => canonicalPath(`${target}\\`), BadTarget);
  }
});

const CASES = 20_000;

test('canonicalPath is idempotent', () => {
  forAnyReading((path) => assert.equal(canonicalPath(path), path));
});

test('a canonical path is absolute and has no "." or ".." segment; only its last segment may be empty', () => {
  forAnyReading((path) => {
    assert.ok(path.startsWith('/'));
    if (path !== '/') assert.doesNotMatch(path, /\/\/|\/\.\.?(?:\/|$)/);
  });
});

test('a canonical path needs no encoding, and no decoder changes it', () => {
  forAnyReading((path) => {
    assert.doesNotMatch(path, /[^\x21-\x7e]|[%;?#\\]/);
    assert.equal(decodeURIComponent(path), path);
    assert.equal(encodeURI(path), path);
    assert.equal(new URL(path, 'http://host').pathname, path, 'nor does a WHATWG URL');
  });
});

test('a canonical path that is partly percent-encoded has itself as canonical path', () => {
  const random = SeededRandom.fromEnvironment(process.env, 4);
  forAnyReading((path) => {
    const encoded = [...path.slice(1)].map((letter) => {
      if (!random.chance(0.3)) return letter;
      return `%${letter.charCodeAt(0).toString(16).padStart(2, '0')}`;
    });
    assert.equal(canonicalPath(`/${encoded.join('')}`), path);
  });
});

/** Checks the canonical paths of targets that are made to be misread. */
function forAnyReading(check: (path: string) => void): void {
  const random = SeededRandom.fromEnvironment(process.env, 3);
  let read = 0;
  for (let count = 0; count < CASES; count += 1) {
    const target = randomTarget(random);
    let path: string;
    try {
      path = canonicalPath(target);
    } catch (error) {
      assert.ok(
        error instanceof BadTarget,
        `seed ${random.seed}: ${JSON.stringify(target)} threw ${String(error)}`,
      );
      continue;
    }
    read += 1;
    try {
      check(path);
    } catch (error) {
      throw new Error(`seed ${random.seed}, case ${count}: ${JSON.stringify(target)} parsed as ${path}`, {
        cause: error,
      });
    }
  }
  assert.ok(read > CASES / 10, `only ${read} targets were accepted: nothing was tested`);
}
