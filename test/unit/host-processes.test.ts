import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { systemClock, type Clock } from '../../lib/util/clock.ts';
import { HostProcesses, type HostConnection, type SocketProcess } from '../../lib/callers/host/processes.ts';
import { CallerUndetermined } from '../../lib/caller.ts';

const A = 'a1'.repeat(32);
const B = 'b2'.repeat(32);
const OWN_PIDS = 'pid:[4026531836]';
const IMDS = 'FEA9FEA9:0050';
const MAPPED_IMDS = '0000000000000000FFFF0000FEA9FEA9:0050';
/** 10.0.0.10:40404 */
const PEER = '0A00000A:9DD4';
const PROXY = '0100007F:4650';
const asRoot = { skip: process.getuid?.() === 0 ? false : 'it takes root to lose rights' };
const CONNECTION: HostConnection = {
  peer: { address: '10.0.0.10', port: 40_404 },
  local: { address: '127.0.0.1', port: 18_000 },
};

interface Process {
  /** By file number, what each is. */
  files?: Readonly<Record<string, string>>;
  cgroup?: string;
  pids?: string;
}

/** A made /proc, with processes in it and rows in its tables of sockets. */
function made(
  t: TestContext,
  processes: Readonly<Record<string, Process>>,
  rows: readonly string[],
  rows6: readonly string[] = [],
) {
  const proc = mkdtempSync(join(tmpdir(), 'proc-'));
  t.after(() => rmSync(proc, { recursive: true }));
  for (const directory of ['net', 'self/ns', 'sys']) mkdirSync(join(proc, directory), { recursive: true });
  writeFileSync(join(proc, 'net/tcp'), rows.join('\n'));
  writeFileSync(join(proc, 'net/tcp6'), rows6.join('\n'));
  symlinkSync(OWN_PIDS, join(proc, 'self/ns/pid'));
  for (const [pid, { files = {}, cgroup = '/', pids = OWN_PIDS }] of Object.entries(processes)) {
    mkdirSync(join(proc, pid, 'fd'), { recursive: true });
    mkdirSync(join(proc, pid, 'ns'));
    for (const [fd, target] of Object.entries(files)) symlinkSync(target, join(proc, pid, 'fd', fd));
    symlinkSync(pids, join(proc, pid, 'ns/pid'));
    writeFileSync(join(proc, pid, 'cgroup'), `0::${cgroup}\n`);
  }
  const processesOf = (exempt: number[] = [], clock: Clock = systemClock): HostProcesses => {
    const redirected = [{ address: '169.254.169.254', port: 80 }];
    return new HostProcesses({ clock, redirected, exempt: new Set(exempt), proc });
  };
  return { proc, processesOf, find: (exempt?: number[]) => processesOf(exempt).processesOf(CONNECTION) };
}

function row(local: string, remote: string, inode = '4711', uid = 1000): string {
  return `  1: ${local} ${remote} 01 00000000:00000000 00:00000000 00000000 ${uid} 0 ${inode} 1 0 20 4 30 10 -1`;
}

const container = (id: string): Process => ({ files: { 7: 'socket:[4711]' }, cgroup: `/docker/${id}` });
const inContainer = (id: string): SocketProcess => ({
  cgroup: { kind: 'container', id, groups: [`:/docker/${id}`] },
  ownPids: true,
});
const unavailable = (why: RegExp) => (error: Error): boolean =>
  error instanceof CallerUndetermined && why.test(error.message);

test('the process is the one that holds the socket at the other end', async (t) => {
  const processes = {
    1: { files: { 0: '/dev/null', 3: 'socket:[4712]', 4: 'socket:[47]' }, cgroup: `/docker/${B}` },
    20: { ...container(A), files: { 0: '/dev/null', 7: 'socket:[4711]', 8: 'socket:[4711]' } },
    300: { files: { 1: 'pipe:[4711]', 2: 'anon_inode:[eventpoll]' } },
  };
  for (const rows of [
    [row(PEER, IMDS)],
    [row(PEER, PROXY)],
    [row(PROXY, PEER, '9'), row(PEER, IMDS), row(PEER, '08080808:0050', '8')],
  ]) {
    assert.deepEqual(await made(t, processes, rows).find(), [inContainer(A)]);
  }
  const mapped = row('0000000000000000FFFF00000A00000A:9DD4', MAPPED_IMDS);
  assert.deepEqual(await made(t, processes, [], [mapped]).find(), [inContainer(A)], 'a socket of both families');
});

test('every process that holds the socket is found, with its PID namespace', async (t) => {
  const processes = { 5: container(A), 6: { ...container(B), pids: 'pid:[1]' }, 7: { files: { 3: 'socket:[4711]' } } };
  assert.deepEqual(await made(t, processes, [row(PEER, IMDS)]).find(), [
    inContainer(A), { ...inContainer(B), ownPids: false }, { cgroup: { kind: 'host' }, ownPids: true },
  ]);
});

for (const [what, rows, why] of [
  ['no socket at that port', [row('0A00000A:9DD5', IMDS)], /not among the sockets/],
  ['a socket at that port of another address', [row('0B00000A:9DD4', IMDS)], /not among the sockets/],
  ['a socket that is connected elsewhere', [row(PEER, '08080808:01BB'), row(PEER, 'FEA9FEA9:0051')], /not among/],
  ['two sockets that might be it', [row(PEER, IMDS), row(PEER, PROXY, '4712')], /several sockets/],
  ['a socket that nobody has', [row(PEER, IMDS, '9')], /no visible process/],
] as const) {
  test(`undetermined: ${what}`, async (t) => {
    await assert.rejects(made(t, { 5: container(A) }, rows).find(), unavailable(why));
  });
}

test('a user whom the firewall does not redirect cannot have come by the redirect, but directly', async (t) => {
  const processes = { 5: container(A) };
  await assert.rejects(made(t, processes, [row(PEER, IMDS, '4711', 0)]).find([0, 5]), unavailable(/does not redirect/));
  assert.equal((await made(t, processes, [row(PEER, IMDS, '4711', 1)]).find([0, 5])).length, 1);
  assert.equal((await made(t, processes, [row(PEER, PROXY, '4711', 0)]).find([0, 5])).length, 1);
});

test('one process that cannot be inspected makes every caller undetermined', asRoot, async (t) => {
  const { proc, processesOf, find } = made(t, { 5: container(A), 6: container(A) }, [row(PEER, IMDS)]);
  chmodSync(join(proc, '6/fd'), 0o000);
  chmodSync(proc, 0o755);
  assert.equal((await find()).length, 2, 'root may look');
  process.seteuid?.(64_018);
  try {
    await assert.rejects(find(), unavailable(/CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH/));
    await assert.rejects(processesOf().survey(), unavailable(/CAP_SYS_PTRACE/));
  } finally {
    process.seteuid?.(0);
  }
});

test('a process whose cgroups cannot be read is not skipped', async (t) => {
  const { proc, find } = made(t, { 5: container(A), 6: container(B) }, [row(PEER, IMDS)]);
  rmSync(join(proc, '6/cgroup'));
  mkdirSync(join(proc, '6/cgroup'));
  await assert.rejects(find(), CallerUndetermined);
});

test('a process that has ended since the scan does not count', async (t) => {
  const { proc, find } = made(t, { 5: container(A), 6: container(B) }, [row(PEER, IMDS)]);
  rmSync(join(proc, '6/cgroup'));
  assert.deepEqual(await find(), [inContainer(A)]);
  rmSync(join(proc, '5/cgroup'));
  await assert.rejects(find(), unavailable(/no visible process/));
});

test('concurrent lookups share a scan, and a pause follows each scan', async (t) => {
  const rests: { milliseconds: number; end: () => void }[] = [];
  const clock: Clock = {
    ...systemClock,
    after: (milliseconds, end) => {
      // All the others are of how long the caller waits.
      if (milliseconds !== 5_000) rests.push({ milliseconds, end });
      return () => {};
    },
  };
  const { proc, processesOf } = made(t, { 5: container(A) }, [row(PEER, IMDS)]);
  const processes = processesOf([], clock);
  const first = processes.processesOf(CONNECTION);
  const others = Array.from({ length: 50 }, () => processes.processesOf(CONNECTION));
  assert.deepEqual(await first, [inContainer(A)]);
  // What they ask is answered by what is there after they asked.
  writeFileSync(join(proc, '5/cgroup'), `0::/docker/${B}\n`);
  await until(() => rests.length === 1);
  assert.ok((rests[0]?.milliseconds ?? 0) > 0);
  let answered = false;
  void others[0]?.then(() => (answered = true));
  for (let looks = 0; looks < 50; looks += 1) await processes.survey();
  assert.equal(answered, false, 'it rests');
  rests[0]?.end();
  for (const holders of await Promise.all(others)) assert.deepEqual(holders, [inContainer(B)]);
  await until(() => rests.length === 2);
  rests[1]?.end();
});

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setImmediate(resolve));
}

test('a host without IPv6 has no tcp6 table', async (t) => {
  const { proc, find } = made(t, { 5: container(A) }, [row(PEER, IMDS)]);
  rmSync(join(proc, 'net/tcp6'));
  assert.deepEqual(await find(), [inContainer(A)]);
  rmSync(join(proc, 'net/tcp'));
  await assert.rejects(find(), CallerUndetermined);
});

test('survey counts all processes, and cgroupOf finds one by its PID', async (t) => {
  const processes = made(t, { 5: container(A), 6: {} }, []).processesOf();
  assert.equal(await processes.survey(), 2);
  assert.deepEqual(await processes.cgroupOf(5), inContainer(A).cgroup);
  assert.equal(await processes.cgroupOf(7), undefined);
});
