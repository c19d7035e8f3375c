import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BadTarget } from '../../lib/http/canonical-path.ts';
import { Readings } from '../../lib/http/readings.ts';

test('a target that comes again has the same reading', () => {
  const readings = new Readings();
  const first = readings.of('/latest/meta-data/iam/security-credentials/app');
  assert.deepEqual(first, {
    path: '/latest/meta-data/iam/security-credentials/app',
    route: { kind: 'role-credentials', role: 'app', extended: false },
  });
  assert.equal(readings.of('/latest/meta-data/iam/security-credentials/app'), first);
});

test('targets that differ in one byte have readings of their own', () => {
  const readings = new Readings();
  assert.equal(readings.of('/latest/meta-data/x').route.kind, 'pass-through');
  assert.equal(readings.of('/latest/meta-data/%69am/x').route.kind, 'refused');
  assert.equal(readings.of('/latest/meta-data/x/..//iam/x').path, '/latest/meta-data/iam/x');
});

test('what has no one reading is refused each time', () => {
  const readings = new Readings();
  for (let times = 0; times < 2; times += 1) assert.throws(() => readings.of('/latest/%2569am'), BadTarget);
});

test('a flood of targets does not wear it out', () => {
  const readings = new Readings();
  for (let index = 0; index < 10_000; index += 1) assert.equal(readings.of(`/latest/${index}`).path, `/latest/${index}`);
  assert.equal(readings.of('/latest/0').path, '/latest/0');
});
