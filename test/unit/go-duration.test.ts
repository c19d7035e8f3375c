import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseGoDuration } from '../../lib/util/go-duration.ts';

for (const [text, milliseconds] of [
  ['0', 0],
  ['0s', 0],
  ['15m', 900_000],
  ['5m30s', 330_000],
  ['1h15m30.5s', 4_530_500],
  ['1.5h', 5_400_000],
  ['100ms', 100],
  ['1s500ms', 1500],
  ['1500us', 1.5],
  ['1µs', 0.001],
  ['1000000ns', 1],
  ['30s5m', 330_000],
  ['1m1m', 120_000],
] as const) {
  test(`${text} is ${milliseconds} ms`, () => {
    const parsed = parseGoDuration(text);
    assert.ok(parsed !== undefined && Math.abs(parsed - milliseconds) < 1e-9, String(parsed));
  });
}

for (const text of [
  '',
  ' ',
  '15',
  '-15m',
  'm',
  '15 m',
  '15m ',
  ' 15m',
  '15M',
  '1d',
  '1h-5m',
  '1.5.5h',
  '15min',
  '00',
  '1e3s',
  'Infinitys',
  '5m30',
  `${'9'.repeat(400)}h`,
  '１m',
  '15m\n',
]) {
  test(`${JSON.stringify(text.slice(0, 20))} is not a duration`, () =>
    assert.equal(parseGoDuration(text), undefined));
}
