import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeContainer, type RetainedFields } from '../../lib/docker/container.ts';
import { anEngineContainer } from './helpers/fixtures.ts';

const NOTHING: RetainedFields = { env: new Set(), labels: new Set() };

test('only the variables and labels that settings refer to are kept', () => {
  const found = anEngineContainer({
    env: new Map([['IAM_ROLE', 'a=b'], ['SECRET', 'x'], ['iam_role', 'no'], ['IAM_EXTERNAL_ID', '']]),
    labels: new Map([['team', 'web'], ['other', 'x']]),
  });
  const kept = { env: new Set(['IAM_ROLE', 'IAM_EXTERNAL_ID', 'MISSING']), labels: new Set(['team']) };
  const { env, labels } = describeContainer(found, kept);
  assert.deepEqual([...env], [['IAM_ROLE', 'a=b'], ['IAM_EXTERNAL_ID', '']]);
  assert.deepEqual([...labels], [['team', 'web']]);
  assert.deepEqual([...describeContainer(found, { ...NOTHING, labels: 'all' }).labels.keys()], ['team', 'other']);
});

test('a container has addresses of its own, none, or shares those of another container', () => {
  const networkOf = (networkMode: string) => describeContainer(anEngineContainer({ networkMode }), NOTHING).network;
  assert.deepEqual(['default', 'bridge', 'my-network', ''].map(networkOf), ['own', 'own', 'own', 'own']);
  assert.deepEqual(['host', 'none'].map(networkOf), ['host', 'none']);
  assert.deepEqual(networkOf('container:abc'), { sharedWith: 'abc' });
});

test("a short id is the 12 characters that Docker's own tools show", () => {
  assert.equal(describeContainer(anEngineContainer({ id: '0123456789abcdef'.repeat(4) }), NOTHING).shortId, '0123456789ab');
});

function claimed(label: string): string | undefined {
  return describeContainer(anEngineContainer({ labels: new Map([['io.rancher.container.ip', label]]) }), NOTHING).labelledAddress;
}

test("Rancher's label claims an address, with or without its prefix length", () => {
  assert.deepEqual(['10.42.1.2/16', '10.42.1.2', 'nonsense', ''].map(claimed), ['10.42.1.2', '10.42.1.2', undefined, undefined]);
});

test('a label of a million slashes is read as fast as any other', { timeout: 20_000 }, () => {
  assert.equal(claimed(`${'/'.repeat(1_000_000)}\n`), undefined);
});
