import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Container } from '../../lib/docker/container.ts';
import { BadRoleRequest } from '../../lib/roles/bad-request.ts';
import { parseTagSources, sessionTags } from '../../lib/roles/session-tags.ts';
import { aContainer } from './helpers/fixtures.ts';

const with_ = (labels: Record<string, string>, env: Record<string, string> = {}): Container => aContainer({
  name: 'web',
  image: 'nginx',
  labels: new Map(Object.entries(labels)),
  env: new Map(Object.entries(env)),
});

for (const [text, labels, env] of [
  ['Labels:team', ['team'], []],
  ['Labels:team,com.example/stage', ['team', 'com.example/stage'], []],
  ['Env:X,Y', [], ['X', 'Y']],
  ['Labels:a Env:X', ['a'], ['X']],
  ['Env:X; Labels:a,b', ['a', 'b'], ['X']],
  ['Labels:a Labels:b', ['a', 'b'], []],
  ['Labels:a:b', ['a:b'], []],
  ['Labels:a,,b,', ['a', 'b'], []],
] as const) {
  test(`SESSION_TAGS="${text}" names labels ${labels.join(', ') || '-'} and variables ${env.join(', ') || '-'}`, () => {
    assert.deepEqual(parseTagSources(text), { labels, env });
  });
}

const numbered = (count: number): string =>
  Array.from({ length: count }, (_, index) => `t${index}`).join(',');

for (const text of [
  '',
  'team',
  'Labels:',
  'Labels',
  'Env:,',
  'labels:a',
  'Labels:a b',
  'Labels:a{b',
  `Labels:${'x'.repeat(129)}`,
  `Labels:${numbered(51)}`,
  `Labels:${numbered(26)} Env:${numbered(25)}`,
]) {
  test(`SESSION_TAGS="${text.slice(0, 40)}" is invalid`, () =>
    assert.equal(parseTagSources(text), undefined));
}

test('STS accepts 50 session tags', () => {
  assert.equal(parseTagSources(`Labels:${numbered(50)}`)?.labels.length, 50);
  assert.deepEqual(parseTagSources(`Labels:${'x'.repeat(128)}`)?.labels, ['x'.repeat(128)]);
});

test("a container's session tags are the labels and variables that it has, empty ones too", () => {
  const sources = { labels: ['team', 'stage', 'missing'], env: ['X', 'Y'] };
  const tags = sessionTags(sources, with_({ team: 'shop', stage: '', other: 'z' }, { X: '1' }));
  assert.deepEqual(
    [...tags],
    [
      ['team', 'shop'],
      ['stage', ''],
      ['X', '1'],
    ],
  );
});

test('a session tag may have letters of any script, digits, spaces and _.:/=+-@, and 256 of them', () => {
  for (const value of ['Überweisung 支払い', 'a_b.c:d/e=f+g-h@i', 'x'.repeat(256)]) {
    assert.equal(sessionTags({ labels: ['a'], env: [] }, with_({ a: value })).get('a'), value);
  }
});

for (const value of ['x'.repeat(257), 'a{b', 'a\nb', 'a,b', 'a"b', 'a*', '\u0000']) {
  test(`${JSON.stringify(value.slice(0, 20))} is an invalid session tag, and is not sanitised`, () => {
    assert.throws(
      () => sessionTags({ labels: ['team'], env: [] }, with_({ team: value })),
      (error) => {
        assert.ok(error instanceof BadRoleRequest);
        assert.match(
          error.message,
          /, the value of "team", is not a valid session tag; STS accepts up to 256 letters, digits, spaces and _\.:\/=\+-@$/,
        );
        return true;
      },
    );
  });
}
