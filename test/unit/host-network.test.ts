import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCgroups } from '../../lib/callers/host/cgroup.ts';
import { HostNetwork, hostCaller, type Connection, type HostNetworkOptions } from '../../lib/callers/host/network.ts';
import type { SocketProcess, HostConnection } from '../../lib/callers/host/processes.ts';
import { DirectoryUnavailable, UnknownCaller, type Container } from '../../lib/docker/container.ts';
import { parseRoleReference } from '../../lib/roles/role-reference.ts';
import { aContainer } from './helpers/fixtures.ts';
import { ManualClock } from './helpers/manual-clock.ts';

const [A, B, C] = ['a1', 'b2', 'c3'].map((digits) => digits.repeat(32)) as [string, string, string];
const HOST = hostCaller(parseRoleReference('host-role@123456789012'));
const ADDRESS = '10.0.0.10';

const at = (path: string): SocketProcess => ({ cgroup: parseCgroups(`0::${path}\n`), ownPids: true });
const connection = (): Connection => ({ remotePort: 40_404, localAddress: '::ffff:127.0.0.1', localPort: 18_000 });

function made(holders: readonly SocketProcess[] | Error, more: Partial<HostNetworkOptions> = {}) {
  const containers: Container[] = [
    aContainer({ id: A, name: 'a', network: 'host' }),
    aContainer({ id: B, name: 'b', network: 'own' }),
    aContainer({ id: C, name: 'c', network: { sharedWith: A } }),
  ];
  const asked: HostConnection[] = [];
  const firsts: string[] = [];
  const troubles: string[] = [];
  const answer = { holders };
  const clock = new ManualClock();
  const network = new HostNetwork({
    processes: {
      processesOf: async (wanted) => {
        asked.push(wanted);
        if (answer.holders instanceof Error) throw answer.holders;
        return answer.holders;
      },
      cgroupOf: async (pid) => parseCgroups(`0::/docker/${[A, B, C][pid - 1]}\n`),
    },
    containerById: async (id) => containers.find((container) => container.id === id),
    firstProcessOf: async (id) => {
      firsts.push(id);
      return [A, B, C].indexOf(id) + 1;
    },
    host: HOST,
    clock,
    onError: (reason) => troubles.push(reason),
    hostAddresses: () => [ADDRESS],
    ...more,
  });
  const find = (from = connection()): Promise<Container> => network.resolve(ADDRESS, from);
  return { network, asked, firsts, troubles, answer, clock, find };
}

test('a process in a container on the host\'s network is that container', async () => {
  assert.equal((await made([at(`/docker/${A}`), at(`/docker/${A}/inside`)]).find()).name, 'a');
});

test('it may be in fewer groups than the first process, but in none that it is not in', async () => {
  const lines = (...all: string[]): SocketProcess => ({
    cgroup: parseCgroups(all.map((line) => `1:${line}\n`).join('')),
    ownPids: true,
  });
  const first = lines(`memory:/docker/${A}`, `pids:/docker/${A}`, 'cpu:/').cgroup;
  const cgroupOf = { processes: { processesOf: async () => [], cgroupOf: async () => first } };
  const find = (...holders: SocketProcess[]): Promise<Container> =>
    made([], { processes: { ...cgroupOf.processes, processesOf: async () => holders } }).find();
  assert.equal((await find(lines(`memory:/docker/${A}/x`, 'pids:/', 'cpu:/'))).name, 'a');
  assert.equal((await find(lines(`memory:/docker/${A}`), lines(`pids:/docker/${A}`))).name, 'a');
  for (const holders of [
    [lines(`memory:/docker/${A}`, `cpu:/docker/${A}`)],
    [lines(`memory:/docker/${A}`), lines(`pids:/x/docker/${A}`)],
    [lines(`pids:/x/docker/${A}`), lines(`memory:/docker/${A}`)],
  ]) {
    await assert.rejects(find(...holders), DirectoryUnavailable);
  }
});

test('so is one in a container that shares the network of one', async () => {
  assert.equal((await made([at(`/docker/${C}`)]).find()).name, 'c');
});

test('a process in no container is the host', async () => {
  const { find, asked } = made([at('/system.slice/agent.service'), at('/init.scope')]);
  assert.equal(await find(), HOST);
  assert.deepEqual(asked, [
    { peer: { address: ADDRESS, port: 40_404 }, local: { address: '127.0.0.1', port: 18_000 } },
  ]);
});

const IN_A = at(`/docker/${A}`);
const OTHER_PIDS = { ...at('/'), ownPids: false };
const away = async (): Promise<never> => {
  throw new DirectoryUnavailable('away');
};

interface Case {
  readonly what: string;
  readonly holders: readonly SocketProcess[];
  readonly more?: Partial<HostNetworkOptions>;
  readonly why: RegExp;
}

const NOBODY: readonly Case[] = [
  { what: 'a process of the host without HOST_ROLE', holders: [at('/')], more: { host: undefined }, why: /HOST_ROLE/ },
  { what: 'a process in no container, with its own numbers', holders: [OTHER_PIDS], why: /engine does not know/ },
  { what: 'the host, and one with its own numbers', holders: [at('/'), OTHER_PIDS], why: /engine does not know/ },
  { what: 'a container unknown to the engine', holders: [at(`/docker/${'d4'.repeat(32)}`)], why: /no container d4d4/ },
  { what: 'a container on a bridge', holders: [at(`/docker/${B}`)], why: /not on the host's network/ },
  { what: 'different containers', holders: [IN_A, at(`/docker/${C}`)], why: /different containers/ },
  { what: 'a container and the host', holders: [IN_A, at('/')], why: /different containers/ },
  { what: 'the host and a container', holders: [at('/'), IN_A], why: /different containers/ },
];

const UNTOLD: readonly Case[] = [
  { what: 'a process that cannot be placed', holders: [at(`/../${A}`)], why: /--cgroupns=host/ },
  { what: 'one that can be placed and one that cannot', holders: [at('/'), at(`/../${A}`)], why: /--cgroupns=host/ },
  { what: 'a container\'s name elsewhere', holders: [at(`/user.slice/docker-${A}.scope`)], why: /its first process/ },
  { what: 'an ended container', holders: [IN_A], more: { firstProcessOf: async () => undefined }, why: /its first/ },
  { what: 'another one\'s first process', holders: [IN_A], more: { firstProcessOf: async () => 2 }, why: /its first/ },
  { what: 'an engine that is away', holders: [IN_A], more: { containerById: away }, why: /away/ },
];

for (const { what, holders, more, why } of NOBODY) {
  test(`nobody: ${what}`, async () => {
    const { find, troubles } = made(holders, more);
    await assert.rejects(find(), (error) => error instanceof UnknownCaller && why.test(error.message));
    assert.deepEqual(troubles, []);
  });
}

for (const { what, holders, more, why } of UNTOLD) {
  test(`it cannot be told: ${what}`, async () => {
    const { find, troubles } = made(holders, more);
    await assert.rejects(find(), (error) => error instanceof DirectoryUnavailable && why.test(error.message));
    assert.equal(troubles.length, 1);
  });
}

test('an engine that cannot tell the first process is passing trouble', async () => {
  const failing = async (): Promise<never> => {
    throw new Error('the engine is away');
  };
  await assert.rejects(made([at(`/docker/${A}`)], { firstProcessOf: failing }).find(), DirectoryUnavailable);
});

test('who is on a connection is found out once, and its container asked about once', async () => {
  const { network, find, asked, firsts } = made([at(`/docker/${A}`)]);
  const one = connection();
  assert.equal(network.peek(one), undefined);
  await Promise.all([find(one), find(one)]);
  assert.equal((await find(one)).name, 'a');
  assert.equal(network.peek(one)?.name, 'a');
  assert.equal(asked.length, 1);
  await find(connection());
  assert.deepEqual([asked.length, firsts.length], [2, 1]);
});

test('that somebody is nobody stands for the connection; that it cannot be told does not', async () => {
  const nobody = made([at('/')], { host: undefined });
  const one = connection();
  for (let times = 0; times < 3; times += 1) await assert.rejects(nobody.find(one), UnknownCaller);
  assert.equal(nobody.asked.length, 1);

  const failing = made(new DirectoryUnavailable('not now'));
  await assert.rejects(failing.find(one), DirectoryUnavailable);
  assert.equal(failing.network.peek(one), undefined);
  failing.answer.holders = [at(`/docker/${A}`)];
  assert.equal((await failing.find(one)).name, 'a');
  assert.deepEqual(failing.troubles, ['not now']);
});

test('a connection that has ended is nobody\'s', async () => {
  const { find, asked } = made([at('/')]);
  for (const ended of [{}, { ...connection(), remotePort: undefined }, { ...connection(), localAddress: undefined }]) {
    await assert.rejects(find(ended), DirectoryUnavailable);
  }
  assert.equal(asked.length, 0);
});

test('the host\'s own addresses are loopback and those of its interfaces, read anew after a second', async () => {
  const addresses = [ADDRESS];
  const { network, clock } = made([], { hostAddresses: () => addresses });
  const own = (): boolean[] => ['127.0.0.1', '127.8.8.8', '::1', ADDRESS, '10.0.0.11'].map((one) => network.isHostAddress(one));
  assert.deepEqual(own(), [true, true, true, true, false]);
  addresses.splice(0, 1, '10.0.0.11');
  await clock.advance(999);
  assert.deepEqual(own(), [true, true, true, true, false]);
  await clock.advance(1);
  assert.deepEqual(own(), [true, true, true, false, true]);
});
