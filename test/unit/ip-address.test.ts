import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isLoopback, normalAddress } from '../../lib/util/ip-address.ts';

const SPELLINGS: Readonly<Record<string, readonly string[]>> = {
  '10.0.0.1': [
    '10.0.0.1',
    '::ffff:10.0.0.1',
    '::FFFF:10.0.0.1',
    '::ffff:a00:1',
    '0:0:0:0:0:ffff:10.0.0.1',
    '::ffff:10.0.0.1%eth0',
  ],
  '::1': ['::1', '0:0:0:0:0:0:0:1', '0000::0001'],
  '::': ['::', '0::0'],
  'fd00:ec2::254': ['fd00:ec2::254', 'FD00:EC2:0:0:0:0:0:254', 'fd00:0ec2::0254'],
  'fe80::1': ['fe80::1', 'fe80::1%eth0', 'FE80:0::1%7'],
};

for (const [normal, spellings] of Object.entries(SPELLINGS)) {
  test(`${spellings.join(', ')} have one normal form`, () => {
    assert.deepEqual(
      spellings.map(normalAddress),
      spellings.map(() => normal),
    );
  });
}

test('addresses that only look alike stay different', () => {
  assert.notEqual(normalAddress('::10.0.0.1'), '10.0.0.1');
  assert.notEqual(normalAddress('64:ff9b::10.0.0.1'), '10.0.0.1');
  assert.notEqual(normalAddress('::ffff:0:10.0.0.1'), '10.0.0.1');
});

for (const text of [
  '',
  ' ',
  '10.0.0',
  '10.0.0.256',
  '010.0.0.1',
  '10.0.0.1 ',
  '10.0.0.1%eth0',
  '10.0.0.1/16',
  '1',
  '0x7f.1',
  ':::',
  '[::1]',
  '::1/64',
  'fe80::1::2',
  '%eth0',
  'localhost',
  '12345::',
  '::ffff:10.0.0.256',
]) {
  test(`${JSON.stringify(text)} is not an address`, () => assert.equal(normalAddress(text), undefined));
}

test('loopback is all of 127.0.0.0/8 and ::1', () => {
  for (const address of ['127.0.0.1', '127.255.0.3', '::1']) assert.ok(isLoopback(address), address);
  for (const address of ['128.0.0.1', '10.127.0.1', '12.7.0.1', '1270.0.0.1', '::2', '::', ''])
    assert.ok(!isLoopback(address), address);
});
