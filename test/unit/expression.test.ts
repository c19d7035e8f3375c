import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseExpression } from '../../lib/util/expression.ts';

for (const source of ['(a+)+$', '^(/[a-z-]+)*/?([a-z/-]+)*$', '^/latest/(\\w+/?)*$', '^(([a-z])+.)+[A-Z]([a-z])+$', '(x|xx)+$', '(.*)*-$',
  '^/latest/(meta|meta-data|-data)*/$', '(\\d+)*$', '^(.*a){20}$']) {
  test(`an expression that takes for ever is refused: ${source}`, () => {
    for (const flags of ['', 'i']) assert.throws(() => parseExpression(source, flags, 50), /takes for ever/);
  });
}

for (const source of ['^.*$', '^/latest/(meta-data/(instance-id|placement/.*)|dynamic/)', 'user-data', '^([^.]+)\\.', '^(\\w+)-\\d+',
  '^/[^/]+/meta-data/network(/[^/]+)*$', '.*-([a-z]+)-.*']) {
  test(`any other is taken: ${source}`, () => {
    for (const flags of ['', 'i']) assert.equal(parseExpression(source, flags).source, new RegExp(source).source);
  });
}

test('what is no expression is refused with the reason', () => {
  assert.throws(() => parseExpression('('), /Unterminated group/);
});
