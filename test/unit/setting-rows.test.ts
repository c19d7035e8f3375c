import assert from 'node:assert/strict';
import { test } from 'node:test';
import { settingRows } from '../../lib/admin/setting-rows.ts';
import { readConfig, type Config, type Environment, type FlagValues } from '../../lib/config/config.ts';
import { SETTINGS } from '../../lib/config/settings.ts';

function rowsOf(env: Environment, flags: FlagValues = {}, config: Config = readConfig(flags, env)) {
  return new Map(settingRows(config, config.logLevel).map((row) => [row.name, row]));
}

test('every setting is there, with its value and where it was given', () => {
  const rows = rowsOf({ PORT: '81', DOCKER_HOST: 'tcp://10.0.0.1:2375' }, { defaultRole: 'app@123456789012' });
  assert.equal(rows.size, Object.keys(SETTINGS).length);
  assert.deepEqual(rows.get('PORT'), { name: 'PORT', value: '81', source: 'PORT' });
  assert.deepEqual(rows.get('DOCKER_URL'), { name: 'DOCKER_URL', value: 'tcp://10.0.0.1:2375', source: 'DOCKER_HOST' });
  assert.equal(rows.get('DEFAULT_ROLE')?.source, '--default-iam-role');
  assert.deepEqual(rows.get('READ_TIMEOUT'), { name: 'READ_TIMEOUT', value: '5s', source: null });
  assert.deepEqual(rows.get('ROLE_RULES'), { name: 'ROLE_RULES', value: null, source: null });
});

test('what several settings decide is shown as it is in force', () => {
  const rows = rowsOf({ DEBUG: 'true', ROLE_EXPIRATION_THRESHOLD: '30' }, { server: ':8080' });
  assert.equal(rows.get('PORT')?.value, '8080');
  assert.equal(rows.get('LOG_LEVEL')?.value, 'debug');
  assert.equal(rows.get('ROLE_CACHE_OFFSET')?.value, '30m');
  assert.equal(rowsOf({ MOCK_CREDENTIALS: '1' }).get('DEFAULT_ROLE')?.value, 'arn:aws:iam::123456789012:role/demo-role');
});

test('a key, and a header that has one, is not shown', () => {
  const rows = rowsOf({ NEWRELIC_LICENSE: 'eu01xx0123456789012345678901234567890NRAL', OTEL_EXPORTER_OTLP_HEADERS: 'api-key=k' });
  for (const name of ['NEWRELIC_LICENSE', 'OTEL_EXPORTER_OTLP_METRICS_HEADERS'])
    assert.equal(rows.get(name)?.value, '(secret)', name);
});

test('what stands before the @ of a URL is not shown', () => {
  const given = new Map([['mesosUrl', { source: 'MESOS_STATE_URL', text: 'http://user:pass@mesos:5051/state' }]] as const);
  const rows = rowsOf({}, {}, { ...readConfig({}, {}), given });
  assert.equal(rows.get('MESOS_STATE_URL')?.value, 'http://(secret)@mesos:5051/state');
});
