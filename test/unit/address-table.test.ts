import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AddressTable } from '../../lib/docker/address-table.ts';

const IP = '172.17.0.2';

/** A table of owners that are texts. */
function table(...assigned: readonly [owner: string, network: string, ...addresses: string[]][]): AddressTable<string> {
  const made = new AddressTable<string>();
  for (const [owner, network, ...addresses] of assigned) made.set(owner, network, addresses);
  return made;
}

test('an owner has its addresses on all its networks', () => {
  const addresses = table(['a', 'bridge', IP, 'fd00::2'], ['a', 'second', '10.1.0.2']);
  assert.deepEqual(addresses.addressesOf('a'), [IP, 'fd00::2', '10.1.0.2']);
  assert.deepEqual([IP, 'fd00::2', '10.1.0.2'].map((address) => addresses.soleOwner(address)), ['a', 'a', 'a']);
  assert.deepEqual([addresses.isOn('a', 'second'), addresses.isOn('a', 'third')], [true, false]);
});

test('new addresses on a network replace the ones there, and none elsewhere', () => {
  const addresses = table(['a', 'bridge', IP], ['a', 'second', '10.1.0.2'], ['a', 'bridge', '172.17.0.9']);
  assert.deepEqual([IP, '172.17.0.9', '10.1.0.2'].map((address) => addresses.soleOwner(address)), [undefined, 'a', 'a']);
});

test('an owner without addresses is not kept', () => {
  const addresses = table(['a', 'bridge', IP], ['a', 'bridge']);
  assert.deepEqual([addresses.hasAddresses('a'), addresses.addressesOf('a'), addresses.owners(IP)], [false, [], []]);
});

test('an address that an owner has on two networks is lost only with both', () => {
  const addresses = table(['a', 'one', IP], ['a', 'two', IP], ['a', 'one']);
  assert.equal(addresses.soleOwner(IP), 'a');
  addresses.set('a', 'two', []);
  assert.equal(addresses.soleOwner(IP), undefined);
});

test('on one network the newer owner replaces the older, whose late removal changes nothing', () => {
  const addresses = table(['a', 'bridge', IP], ['b', 'bridge', IP]);
  assert.equal(addresses.soleOwner(IP), 'b');
  addresses.remove('a');
  assert.equal(addresses.soleOwner(IP), 'b');
});

test('an address on different networks identifies no owner until only one has it', () => {
  const addresses = table(['a', 'bridge', IP], ['b', 'plugin', IP]);
  assert.deepEqual([addresses.owners(IP), addresses.soleOwner(IP)], [['a', 'b'], undefined]);
  addresses.remove('b');
  assert.equal(addresses.soleOwner(IP), 'a');
});

test('nobody can claim an address that has an owner', () => {
  const addresses = table(['a', 'bridge', IP]);
  assert.equal(addresses.claim('b', IP), false);
  assert.deepEqual([addresses.soleOwner(IP), addresses.hasAddresses('b')], ['a', false]);
});

test('an assigned address is no longer the owner\'s who claimed it', () => {
  const addresses = table();
  assert.equal(addresses.claim('a', IP), true);
  assert.deepEqual([addresses.soleOwner(IP), addresses.isClaim('a', IP)], ['a', true]);
  addresses.set('b', 'bridge', [IP]);
  assert.deepEqual([addresses.owners(IP), addresses.isClaim('b', IP)], [['b'], false]);
});

test('removing what was assigned leaves the claim, removing the owner does not', () => {
  const addresses = table(['a', 'bridge', IP]);
  addresses.claim('a', '10.42.0.2');
  addresses.removeAssigned('a');
  assert.deepEqual(addresses.addressesOf('a'), ['10.42.0.2']);
  addresses.remove('a');
  assert.deepEqual([addresses.addressesOf('a'), addresses.owners('10.42.0.2')], [[], []]);
});
