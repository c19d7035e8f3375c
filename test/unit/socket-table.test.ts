import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { endianness } from 'node:os';
import { test } from 'node:test';
import { parseRow, socketsAtPort } from '../../lib/callers/host/socket-table.ts';

const HEAD = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode';
const row = (local: string, remote: string, state = '01', uid = '1000', inode = '4711'): string =>
  `   3: ${local} ${remote} ${state} 00000000:00000000 00:00000000 00000000  ${uid}        0 ${inode} 1 0 20 4`;
const IMDS = 'FEA9FEA9:0050';

const little = { skip: endianness() !== 'LE' && 'these rows are those of a little-endian machine' };

test('an address is read in its normal form, whichever family its socket has', little, () => {
  for (const [text, address] of [
    ['0100007F', '127.0.0.1'],
    ['0A00000A', '10.0.0.10'],
    ['FEA9FEA9', '169.254.169.254'],
    ['0000000000000000FFFF0000FEA9FEA9', '169.254.169.254'],
    ['0000000000000000FFFF00000100007F', '127.0.0.1'],
    ['00000000000000000000000001000000', '::1'],
    ['C20E00FD000000000000000054020000', 'fd00:ec2::254'],
    ['B80D0120000000000000000001000000', '2001:db8::1'],
  ] as const) {
    const [local, remote] = [parseRow(row(`${text}:9DD4`, IMDS))?.local, parseRow(row(IMDS, `${text}:9DD4`))?.remote];
    assert.deepEqual(local, { address, port: 40_404 });
    assert.deepEqual(remote, local);
  }
});

test('a row has the remote address, the user and the inode', little, () => {
  assert.deepEqual(parseRow(row('0A00000A:9DD4', IMDS)), {
    local: { address: '10.0.0.10', port: 40_404 },
    remote: { address: '169.254.169.254', port: 80 },
    uid: 1000,
    inode: '4711',
  });
});

test('only established connections count', little, () => {
  const states = ['01', '02', '03', '04', '05', '06', '07', '08', '09', '0A', '0B', '0C'];
  const open = states.filter((state) => parseRow(row('0A00000A:9DD4', IMDS, state)) !== undefined);
  assert.deepEqual(open, ['01']);
  assert.equal(parseRow(row('0A00000A:9DD4', IMDS, '01', '1000', '0')), undefined, 'without a socket any more');
});

test('a malformed row is skipped', () => {
  for (const line of [
    '', HEAD, 'x', row('0A00000A', IMDS), row('0A00000A:9DD4', ''), row('0A0000:9DD4', IMDS),
    row('0a00000a:9dd4', IMDS),
    row('0A00000A:9DD40', IMDS), row('0A00000A:9DD4', IMDS, '01', '-1'), row('0A00000A:9DD4', IMDS, '01', '0', '-7'),
  ]) {
    assert.equal(parseRow(line), undefined, line);
  }
});

test('the rows with a local port are found on any line', little, () => {
  const table = [
    HEAD,
    row('0A00000A:9DD4', IMDS, '01', '0', '1'),
    row(IMDS, '0A00000A:9DD4', '01', '0', '2'),
    row('0100007F:9DD4', IMDS, '06', '0', '3'),
    row('0A00000A:9DD5', IMDS, '01', '0', '4'),
    row('0100007F:9DD4', '0100007F:4650', '01', '0', '5'),
  ];
  const found = (text: string): string[] => socketsAtPort(text, 40_404).map(({ inode }) => inode);
  assert.deepEqual(found(`${table.join('\n')}\n`), ['1', '5']);
  assert.deepEqual(found(table.join('\n')), ['1', '5'], 'without an end of the last line');
  assert.deepEqual(found(''), []);
  assert.deepEqual(socketsAtPort(row('0A00000A:0050', IMDS), 80).length, 1, 'a port of two digits, at both ends');
});

test('the kernel\'s own table has a connection of this process as Node reports it', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((listening) => server.once('listening', listening));
  const { port } = server.address() as AddressInfo;
  const socket = connect(port, '127.0.0.1');
  await new Promise((connected) => socket.once('connect', connected));
  t.after(() => {
    socket.destroy();
    server.close();
  });
  const rows = socketsAtPort(readFileSync('/proc/net/tcp', 'latin1'), socket.localPort ?? 0);
  assert.equal(rows.length, 1);
  assert.deepEqual(rows[0]?.remote, { address: '127.0.0.1', port });
  assert.equal(rows[0]?.uid, process.getuid?.());
});
