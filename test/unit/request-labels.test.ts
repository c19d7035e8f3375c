import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PathLabels } from '../../lib/telemetry/metrics/request-labels.ts';

const ID_PATH = '/2021-07-15/meta-data/instance-id';

test('a path is the label other until the upstream IMDS answered a request for it with 2xx', () => {
  const labels = new PathLabels();
  assert.equal(labels.path(ID_PATH), 'other');
  for (const status of [101, 301, 404, 500]) labels.observe(ID_PATH, 'pass-through', status);
  assert.equal(labels.path(ID_PATH), 'other');
  labels.observe(ID_PATH, 'pass-through', 200);
  assert.equal(labels.path(ID_PATH), ID_PATH);
  assert.equal(labels.path(`${ID_PATH}/x`), 'other');
});

test('a path of which the caller chooses a part is never a label', () => {
  const labels = new PathLabels();
  for (const [path, kind] of [
    ['/v2/credentials/anything', 'container-credentials'],
    ['/latest/meta-data/iam/security-credentials/anything', 'role-credentials'],
    ['/anything', 'refused'],
    ['/anything', undefined],
  ] as const) {
    labels.observe(path, kind, 200);
    assert.equal(labels.path(path), 'other');
  }
  assert.equal(labels.version('/v2/credentials/anything'), '');
});

test('a version is a label once a request for it succeeded; latest always is', () => {
  const labels = new PathLabels();
  assert.equal(labels.version('/latest/meta-data/'), 'latest');
  assert.equal(labels.version('/latest'), 'latest');
  for (const path of ['/', '', ID_PATH, '/1.0', '/latestx/user-data']) assert.equal(labels.version(path), '');
  labels.observe(ID_PATH, 'pass-through', 200);
  labels.observe('/1.0', 'pass-through', 200);
  labels.observe('/2020-10-27/meta-data/iam/info', 'iam-info', 200);
  for (const version of ['2021-07-15', '1.0', '2020-10-27']) assert.equal(labels.version(`/${version}/x`), version);
  labels.observe('/', 'pass-through', 200);
  assert.equal(labels.version('/'), '');
});

test('a flood of paths and versions is bounded, and forgets the oldest ones', () => {
  const labels = new PathLabels();
  const path = (index: number): string => `/v${index}/x`;
  for (let index = 0; index < 1_000; index += 1) labels.observe(path(index), 'pass-through', 200);
  const all = Array.from({ length: 1_000 }, (_, index) => path(index));
  assert.equal(all.filter((one) => labels.path(one) !== 'other').length, 256);
  assert.equal(all.filter((one) => labels.version(one) !== '').length, 64);
  assert.equal(labels.path(path(999)), path(999));
  assert.equal(labels.version('/latest/'), 'latest');
});
