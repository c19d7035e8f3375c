import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { firewallState } from '../../lib/firewall-state.ts';

const directory = mkdtempSync(join(tmpdir(), 'firewall-state-'));
after(() => rmSync(directory, { recursive: true }));
const path = join(directory, 'state');
const NOW_S = 1_800_000_000;

function stateAfter(text: string): ReturnType<typeof firewallState> {
  writeFileSync(path, text);
  return firewallState(NOW_S * 1000, path);
}

test('nothing is known where no watcher has run', () => {
  assert.equal(firewallState(NOW_S * 1000, join(directory, 'missing')), undefined);
});

test('rules that were just verified are in place', () => {
  assert.deepEqual(stateAfter(`ok ${NOW_S - 30}\n`), { ok: true, detail: 'the rules are in place' });
});

test('problems are named, the first three of them', () => {
  assert.deepEqual(stateAfter(`failed ${NOW_S}\nmissing a\n`), { ok: false, detail: 'missing a' });
  assert.deepEqual(stateAfter(`failed ${NOW_S}\na\nb\nc\nd\ne\n`), { ok: false, detail: 'a; b; c; and 2 more' });
});

test('a result that is older than two minutes is not ok', () => {
  assert.equal(stateAfter(`ok ${NOW_S - 120}\n`)?.ok, true);
  const old = stateAfter(`ok ${NOW_S - 121}\n`);
  assert.deepEqual(old, { ok: false, detail: 'not verified for 121 s: does metadataproxy-firewall-watch.service run?' });
});

for (const text of ['', 'ok', 'ok soon', 'fine 1800000000', 'ok 1800000000 x']) {
  test(`"${text}" is no state, and so not ok`, () => {
    assert.equal(stateAfter(text)?.ok, false);
    assert.match(stateAfter(text)?.detail ?? '', /expected "ok EPOCH" or "failed EPOCH"/);
  });
}

test('a file that cannot be read is not ok', () => {
  const state = firewallState(NOW_S * 1000, directory);
  assert.equal(state?.ok, false);
  assert.match(state?.detail ?? '', /cannot read the firewall's state/);
});
