import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Container } from '../../lib/docker/container.ts';
import { BadRoleRequest } from '../../lib/roles/bad-request.ts';
import { parseSessionNaming, sanitiseSessionName, sessionName } from '../../lib/roles/session-name.ts';
import { aContainer } from './helpers/fixtures.ts';

const ID = '69efa4'.padEnd(64, '0123456789abcdef');
const WEB = aContainer({
  id: ID,
  shortId: ID.slice(0, 12),
  name: 'web',
  image: 'nginx:1',
  labels: new Map([['team', 'shop']]),
});
const nameOf = (setting: string, container: Partial<Container> = {}, host = 'host-1'): string =>
  sessionName(parseSessionNaming(setting), { ...WEB, ...container }, host);

/** Source: STS API reference, `AssumeRole`, RoleSessionName. */
const VALID = /^[A-Za-z0-9_+=,.@-]{2,64}$/;

test('"container" is the name and the short id', () => {
  assert.equal(nameOf('container'), 'web-69efa4012345');
});

test('"container" never cuts the id', () => {
  assert.equal(nameOf('container', { name: 'n'.repeat(51) }), `${'n'.repeat(51)}-69efa4012345`);
  assert.equal(nameOf('container', { name: 'n'.repeat(200) }), `${'n'.repeat(51)}-69efa4012345`);
  assert.equal(nameOf('container', { name: 'a b/ä' }), 'a_b__-69efa4012345');
  assert.equal(nameOf('container', { name: '' }), '69efa4012345');
});

test('"container" is the name of a caller that is not a container', () => {
  assert.equal(nameOf('container', { name: '10.0.0.7', shortId: '' }), '10.0.0.7');
  assert.equal(nameOf('container', { name: 'fd00::7', shortId: '' }), 'fd00__7');
  assert.equal(nameOf('container', { name: 'n'.repeat(100), shortId: '' }), 'n'.repeat(64));
});

test('a caller that is not a container has a valid session name, even if its own has one character', () => {
  assert.match(nameOf('container', { name: 'x', shortId: '' }), VALID);
  assert.match(nameOf('container', { name: '', shortId: '' }), VALID);
});

test('"shared" is one name for the host', () => {
  assert.equal(nameOf('shared'), 'metadataproxy-host-1');
  assert.equal(nameOf('shared', { name: 'other', id: 'x' }), 'metadataproxy-host-1');
  assert.equal(nameOf('shared', {}, `ip 10/${'h'.repeat(100)}`), `metadataproxy-ip_10_${'h'.repeat(44)}`);
});

for (const [image, name, expected] of [
  ['docker-registry.host.com/container/path:tag', 'tender_colden', 'ner_path_tag-ender_colden-69efa4'],
  ['docker-registry.host.com/container/path:tag', 'nder_colden', 'iner_path_tag-nder_colden-69efa4'],
  ['image', 'container_name', 'image-container_name-69efa4'],
  ['', 'x'.repeat(40), `-${'x'.repeat(24)}-69efa4`],
  ['i'.repeat(40), '', `${'i'.repeat(24)}--69efa4`],
  ['i'.repeat(12), 'n'.repeat(12), `${'i'.repeat(12)}-${'n'.repeat(12)}-69efa4`],
  ['i'.repeat(13), 'n'.repeat(13), `${'i'.repeat(12)}-${'n'.repeat(12)}-69efa4`],
  ['i'.repeat(40), 'n', `${'i'.repeat(23)}-n-69efa4`],
] as const) {
  test(`"classic" of the image "${image}" and the name "${name}" is ${expected}`, () => {
    assert.equal(nameOf('classic', { image, name }), expected);
    assert.match(expected, VALID);
    assert.ok(expected.length <= 32);
  });
}

test('the result of a template is sanitised to a valid session name', () => {
  assert.equal(nameOf('{label:team}/{container.name}@{host}'), 'shop_web@host-1');
  assert.equal(nameOf('{container.name}', { name: 'n'.repeat(100) }), 'n'.repeat(64));
});

test('a template that leaves less than 2 characters gives the default name', () => {
  assert.equal(nameOf('{label:missing}'), 'web-69efa4012345');
  assert.equal(nameOf('{label:missing}x'), 'web-69efa4012345');
  assert.equal(nameOf('{label:missing}xy'), 'xy');
});

test('a name without a placeholder is not a session naming', () => {
  for (const text of ['fixed', 'Classic', 'container ']) {
    assert.throws(
      () => parseSessionNaming(text),
      (error) => {
        assert.ok(error instanceof BadRoleRequest);
        assert.equal(
          error.message,
          `"${text}" names every session alike; expected "shared", "classic" or a template with {…}`,
        );
        return true;
      },
    );
  }
});

for (const [text, expected] of [
  ['a b', 'a_b'],
  ['ä€', '__'],
  ['x'.repeat(65), 'x'.repeat(64)],
  ['xy', 'xy'],
  ['x', ''],
  ['', ''],
  ['a+=,.@-_Z9', 'a+=,.@-_Z9'],
  ['a\nb', 'a_b'],
  ['\'"$`', '____'],
] as const) {
  test(`the session name of ${JSON.stringify(text)} is "${expected}"`, () =>
    assert.equal(sanitiseSessionName(text), expected));
}
