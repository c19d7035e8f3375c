import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Log } from '../../lib/log/log.ts';

const NOW = Date.parse('2026-01-02T03:04:05.006Z');

function lines(make: (log: Log) => void): Record<string, unknown>[] {
  let text = '';
  const log = new Log({
    level: 'debug',
    format: 'gelf',
    host: 'host-1',
    write: (more) => (text += more),
    now: () => NOW,
  });
  make(log);
  log.flush();
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

test('a line of GELF has version, host, short_message, timestamp in seconds, level and its fields behind a "_"', () => {
  const [line = {}] = lines((log) => log.warning('what happened', { name: 'web', count: 3 }));
  const { version, host, short_message, timestamp, level, _name, _count } = line;
  assert.deepEqual(
    { version, host, short_message, timestamp, level, _name, _count },
    {
      version: '1.1',
      host: 'host-1',
      short_message: 'what happened',
      timestamp: NOW / 1000,
      level: 4,
      _name: 'web',
      _count: 3,
    },
  );
});

test('the level of a GELF line is as syslog counts', () => {
  const levels = lines((log) => {
    for (const level of ['debug', 'info', 'warning', 'error'] as const) log[level]('x');
  }).map(({ level }) => level);
  assert.deepEqual(levels, [7, 6, 4, 3]);
});

test('a GELF line has the name of its level in _level_name', () => {
  const names = lines((log) => {
    for (const level of ['debug', 'info', 'warning', 'error'] as const) log[level]('x');
  }).map((line) => line['_level_name']);
  assert.deepEqual(names, ['debug', 'info', 'warning', 'error']);
});

test('a GELF field is a text or a number; one that is undefined is left out', () => {
  const [line = {}] = lines((log) =>
    log.info('x', { yes: true, no: false, nothing: undefined, number: 0, text: '' }),
  );
  assert.deepEqual([line['_yes'], line['_no'], line['_number'], line['_text']], ['true', 'false', 0, '']);
  assert.ok(!('_nothing' in line));
});

test('nothing that a container is named makes a line, or a field of GELF itself', () => {
  const made = lines((log) =>
    log.info('x', { name: 'a"\n{"version":"1.1","host":"forged"}', host: 'forged', version: '9' }),
  );
  assert.equal(made.length, 1);
  assert.deepEqual(
    [made[0]?.['host'], made[0]?.['version'], made[0]?.['_host']],
    ['host-1', '1.1', 'forged'],
  );
});
