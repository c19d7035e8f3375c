import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Log, LOG_LEVELS, type LogFormat, type LogLevel } from '../../lib/log/log.ts';

const NOW = Date.parse('2026-01-02T03:04:05.006Z');

function setUp(format: LogFormat = 'text', level: LogLevel = 'debug', colour = false) {
  const written: string[] = [];
  const log = new Log({ level, format, colour, host: 'host', write: (lines) => written.push(lines), now: () => NOW });
  const text = (): string => {
    log.flush();
    return written.join('');
  };
  return { log, written, text };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('a line of text has the time, the level, what happened and what it is about', () => {
  const { log, text } = setUp();
  log.debug('one');
  log.info('two', { name: 'web', count: 3, ok: true, nothing: undefined });
  log.warning('three', { spaced: 'a b', empty: '', quoted: 'a"b' });
  log.error('four', { role_arn: 'arn:aws:iam::123456789012:role/a/b' });
  assert.deepEqual(text().split('\n'), [
    '2026-01-02T03:04:05.006Z DEBUG one',
    '2026-01-02T03:04:05.006Z INFO  two name=web count=3 ok=true',
    '2026-01-02T03:04:05.006Z WARN  three spaced="a b" empty="" quoted="a\\"b"',
    '2026-01-02T03:04:05.006Z ERROR four role_arn=arn:aws:iam::123456789012:role/a/b',
    '',
  ]);
});

test('a line of JSON is one object', () => {
  const { log, text } = setUp('json');
  log.warning('what happened', { name: 'a "b"\nc', count: 3, ok: false, nothing: undefined });
  assert.match(text(), /^\{.*\}\n$/);
  assert.deepEqual(JSON.parse(text()), {
    time: '2026-01-02T03:04:05.006Z',
    level: 'warning',
    msg: 'what happened',
    name: 'a "b"\nc',
    count: 3,
    ok: false,
  });
});

const USED_LEVELS = ['debug', 'info', 'warning', 'error'] as const;
for (const [index, level] of LOG_LEVELS.entries()) {
  test(`at the level ${level} nothing less is logged`, () => {
    const { log, text } = setUp('json', level);
    for (const one of USED_LEVELS) log[one](one);
    const levels = text()
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => (JSON.parse(line) as { level: string }).level);
    assert.deepEqual(levels, USED_LEVELS.slice(index));
    assert.equal(log.writes('debug'), level === 'debug');
  });
}

for (const format of ['text', 'json'] as const) {
  test(`nothing that a container is named or asks for makes a line of its own, as ${format}`, () => {
    const { log, text } = setUp(format);
    const forged = '2026-01-02T03:04:05.006Z ERROR forged';
    for (const value of [
      `\n${forged}`,
      `\r\n${forged}`,
      `a\r${forged}`,
      `\u001b[2K\u001b[1G${forged}`,
      `"\n${forged}`,
      '\u0000\u0007',
    ]) {
      log.info('request', { path: value });
    }
    assert.equal(text().split('\n').length, 6 + 1);
    assert.doesNotMatch(text(), /[\u0000-\u0009\u000b-\u001f]/);
    assert.doesNotMatch(text(), /^.{0,30}ERROR/m);
  });
}

test('nothing that a container is named makes a field of its own', () => {
  const { log, text } = setUp();
  log.info('request', { name: 'a status=200', other: 'b=c' });
  assert.match(text(), / name="a status=200" other="b=c"$/m);
});

test('a burst of events is one write', async () => {
  const { log, written } = setUp();
  for (let event = 0; event < 1000; event += 1) log.info('event', { event });
  assert.equal(written.length, 0);
  while (written.length < 1) await turn();
  assert.deepEqual(
    written.map((lines) => lines.split('\n').length),
    [1001],
  );
  log.info('later');
  while (written.length < 2) await turn();
  assert.equal(written.length, 2, 'and a later one another');
});

test('trouble is written in its own turn, and what was gathered before it as well', async () => {
  const { log, written } = setUp();
  log.info('first');
  await turn();
  log.info('gathered');
  await turn();
  log.error('trouble');
  await turn();
  assert.deepEqual(written.map((lines) => lines.match(/first|gathered|trouble/g)), [['first'], ['gathered', 'trouble']]);
});

test('what is left is written at the end, once', async () => {
  const { log, written } = setUp();
  log.info('last words');
  log.flush();
  assert.equal(written.length, 1);
  await turn();
  log.flush();
  assert.equal(written.length, 1);
});

test('times are those of toISOString, in any order', () => {
  const times = [0, 1, 999, 1000, NOW, NOW + 994, NOW + 1, NOW - 60_000, 4102444799999, NOW + 0.5, -1];
  const written: string[] = [];
  let now = 0;
  const log = new Log({ level: 'info', format: 'json', host: 'h', write: (line) => written.push(line), now: () => now });
  for (now of times) {
    log.info('x');
    log.flush();
  }
  assert.deepEqual(
    written.map((line) => (JSON.parse(line) as { time: string }).time),
    times.map((time) => new Date(Math.floor(time)).toISOString()),
  );
});

test('a line of JSON is what JSON.stringify makes of it', () => {
  const fields = {
    plain: 'a-b_c/d', empty: '', quote: 'a"b', slash: 'a\\b', unicode: 'é 日本 🙂', lone: '\ud800', none: NaN, much: Infinity,
    big: 1e21, small: 1.5e-7, zero: -0, yes: true, no: false, missing: undefined, tilde: '~ !#[]^',
  };
  const { log, text } = setUp('json');
  log.info('a "message"', fields);
  const expected = { time: '2026-01-02T03:04:05.006Z', level: 'info', msg: 'a "message"', ...fields };
  assert.equal(text(), `${JSON.stringify(expected)}\n`);
});

test('a value is cut after 4,096 characters', () => {
  for (const format of ['text', 'json', 'gelf'] as const) {
    const { log, text } = setUp(format);
    log.info('m', { name: 'a'.repeat(70_000_000) });
    assert.ok(text().length < 4_400, `${text().length}`);
    assert.ok(text().includes(`${'a'.repeat(4_096)}…`));
  }
});

test('on a terminal a line is coloured, and without the colours it is the same', () => {
  const [coloured, plain] = [setUp('text', 'info', true), setUp('text', 'info')];
  for (const { log } of [coloured, plain]) log.warning('what happened', { name: 'a b', count: 3, not: undefined });
  assert.match(coloured.text(), /\u001b\[33mWARN/);
  assert.equal(coloured.text().replace(/\u001b\[\d+m/g, ''), plain.text());
  assert.equal(setUp('json', 'info', true).text(), '');
});

test('debug is turned on and off again, and a line says so', () => {
  const { log, text } = setUp('json', 'warning');
  log.debug('before');
  log.toggleDebug();
  log.debug('between');
  assert.equal(log.level, 'debug');
  log.toggleDebug();
  assert.equal(log.level, 'warning');
  log.info('after');
  const lines = text().trimEnd().split('\n').map((line) => JSON.parse(line) as { msg: string; level: string });
  assert.deepEqual(
    lines.map(({ msg }) => msg),
    ['debug logging enabled', 'between', 'debug logging disabled'],
  );
});

test('where debug is the setting, it is turned off first', () => {
  const { log } = setUp('json', 'debug');
  log.toggleDebug();
  assert.equal(log.level, 'info');
  log.toggleDebug();
  assert.equal(log.level, 'debug');
});
