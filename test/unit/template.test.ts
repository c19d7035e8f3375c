import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CallerDescription } from '../../lib/caller.ts';
import { BadRoleRequest } from '../../lib/roles/bad-request.ts';
import { parseTemplate } from '../../lib/roles/template.ts';

const WEB: CallerDescription = {
  id: 'abcdef012345'.padEnd(64, '0'),
  shortId: 'abcdef012345',
  name: 'web',
  image: 'shop/web:1',
  networks: [],
  env: new Map([
    ['STAGE', 'prod'],
    ['LABEL:x', '{host}'],
  ]),
  labels: new Map([
    ['team', 'shop'],
    ['com.example/a b', 'odd'],
    ['a:b', 'colon'],
  ]),
};

for (const [text, expected] of [
  ['{container.name}', 'web'],
  ['{container.id}', 'abcdef012345'],
  ['{image}', 'shop/web:1'],
  ['{host}', 'the-host'],
  ['{label:team}', 'shop'],
  ['{env:STAGE}', 'prod'],
  ['{label:missing}', ''],
  ['{env:missing}', ''],
  ['{label:STAGE}', ''],
  ['{env:team}', ''],
  ['{label:com.example/a b}', 'odd'],
  ['{label:a:b}', 'colon'],
  ['a{host}b{host}c', 'athe-hostbthe-hostc'],
  ['plain', 'plain'],
  ['', ''],
  // What is filled in is text, never a place.
  ['{env:LABEL:x}', '{host}'],
  ['$&{container.name}$1', '$&web$1'],
] as const) {
  test(`the template "${text}" is "${expected}" for web`, () =>
    assert.equal(parseTemplate(text).fill(WEB, 'the-host'), expected));
}

test('a template lists the labels and variables that it uses', () => {
  const { text, labels, env } = parseTemplate('{label:a}-{env:B}-{label:c:d}-{container.name}');
  assert.deepEqual(
    { text, labels, env },
    { text: '{label:a}-{env:B}-{label:c:d}-{container.name}', labels: ['a', 'c:d'], env: ['B'] },
  );
});

for (const [text, reason] of [
  [
    '{name}',
    '"{name}" has the unknown placeholder {name}; expected one of {container.name}, {container.id}, {image}, {host}, {label:X}, {env:X}',
  ],
  [
    '{}',
    '"{}" has the unknown placeholder {}; expected one of {container.name}, {container.id}, {image}, {host}, {label:X}, {env:X}',
  ],
  [
    '{label:}',
    '"{label:}" has the unknown placeholder {label:}; expected one of {container.name}, {container.id}, {image}, {host}, {label:X}, {env:X}',
  ],
  [
    '{Host}',
    '"{Host}" has the unknown placeholder {Host}; expected one of {container.name}, {container.id}, {image}, {host}, {label:X}, {env:X}',
  ],
  [
    '{container.nameX}',
    '"{container.nameX}" has the unknown placeholder {container.nameX}; expected one of {container.name}, {container.id}, {image}, {host}, {label:X}, {env:X}',
  ],
  ['{host', '"{host" has an unbalanced brace'],
  ['host}', '"host}" has an unbalanced brace'],
  ['{{host}}', '"{{host}}" has an unbalanced brace'],
] as const) {
  test(`the template "${text}" is refused`, () =>
    assert.throws(() => parseTemplate(text), new BadRoleRequest(reason)));
}
