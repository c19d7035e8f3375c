import assert from 'node:assert/strict';
import { test } from 'node:test';
import { knownPath, knownVersion } from '../../lib/telemetry/metrics/metadata-paths.ts';

test('paths of the metadata service are told as they are', () => {
  for (const path of ['/', '/latest', '/latest/', '/latest/meta-data/', '/2021-07-15/meta-data/instance-id', '/latest/user-data']) {
    assert.equal(knownPath(path), path);
  }
});

test('any number of other paths is one value', () => {
  for (const path of ['/x', '/latest/x', '/latestx/user-data', '/2021-07-16/user-data', '/latest/meta-data/tags/instance/Name', '']) {
    assert.equal(knownPath(path), 'other');
  }
});

test('the version is one that there is, or none', () => {
  assert.equal(knownVersion('/latest/meta-data/'), 'latest');
  assert.equal(knownVersion('/1.0'), '1.0');
  for (const path of ['/', '', '/v2/credentials', '/2021-07-16/user-data']) assert.equal(knownVersion(path), '');
});
