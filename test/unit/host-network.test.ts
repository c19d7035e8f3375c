import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCgroups } from '../../lib/callers/host/cgroup.ts';
import { CallerUndetermined, UnknownCaller, type Caller } from '../../lib/caller.ts';
import type { Connection } from '../../lib/callers/connection.ts';
import { HostAddresses } from '../../lib/callers/host/addresses.ts';
import { HostNetwork, hostProcess, type HostNetworkOptions } from '../../lib/callers/host/network.ts';
import type { SocketProcess, HostConnection } from '../../lib/callers/host/processes.ts';
import { DirectoryUnavailable, type Container } from '../../lib/docker/container.ts';
import { parseRoleReference } from '../../lib/roles/role-reference.ts';
import { aContainer } from './helpers/fixtures.ts';
import { ManualClock } from './helpers/manual-clock.ts';

const [A, B, C] = ['a1', 'b2', 'c3'].map((digits) => digits.repeat(32)) as [string, string, string];
const HOST = hostProcess(parseRoleReference('host-role@123456789012'));
const ADDRESS = '10.0.0.10';

const at = (path: string): SocketProcess => ({ cgroup: parseCgroups(`0::${path}\n`), ownPids: true });
const connection = (more: Partial<Connection> = {}): Connection => ({
  address: ADDRESS,
  remotePort: 40_404,
  localAddress: '::ffff:127.0.0.1',
  localPort: 18_000,
  ...more,
});

function made(found: readonly SocketProcess[] | Error, more: Partial<HostNetworkOptions> = {}) {
  const containers: Container[] = [
    aContainer({ id: A, name: 'a', network: 'host' }),
    aContainer({ id: B, name: 'b', network: 'own' }),
    aContainer({ id: C, name: 'c', network: { sharedWith: A } }),
  ];
  const asked: HostConnection[] = [];
  const firsts: string[] = [];
  const failures: string[] = [];
  const answer = { found };
  const network = new HostNetwork({
    processes: {
      processesOf: async (wanted) => {
        asked.push(wanted);
        if (answer.found instanceof Error) throw answer.found;
        return answer.found;
      },
      cgroupOf: async (pid) => parseCgroups(`0::/docker/${[A, B, C][pid - 1]}\n`),
    },
    containerById: async (id) => containers.find((container) => container.id === id),
    firstProcessOf: async (id) => {
      firsts.push(id);
      return [A, B, C].indexOf(id) + 1;
    },
    hostProcess: HOST,
    events: { hostNetworkFailed: (reason) => failures.push(reason) },
    ...more,
  });
  const resolve = (from = connection()): Promise<Caller> => network.resolve(from);
  return { network, asked, firsts, failures, answer, resolve };
}

test('a process in a host-network container is that container', async () => {
  assert.equal((await made([at(`/docker/${A}`), at(`/docker/${A}/inside`)]).resolve()).name, 'a');
});

test('a process may be in fewer groups than the first process, but in no other group', async () => {
  const lines = (...all: string[]): SocketProcess => ({
    cgroup: parseCgroups(all.map((line) => `1:${line}\n`).join('')),
    ownPids: true,
  });
  const first = lines(`memory:/docker/${A}`, `pids:/docker/${A}`, 'cpu:/').cgroup;
  const cgroupOf = { processes: { processesOf: async () => [], cgroupOf: async () => first } };
  const resolve = (...found: SocketProcess[]): Promise<Caller> =>
    made([], { processes: { ...cgroupOf.processes, processesOf: async () => found } }).resolve();
  assert.equal((await resolve(lines(`memory:/docker/${A}/x`, 'pids:/', 'cpu:/'))).name, 'a');
  assert.equal((await resolve(lines(`memory:/docker/${A}`), lines(`pids:/docker/${A}`))).name, 'a');
  for (const found of [
    [lines(`memory:/docker/${A}`, `cpu:/docker/${A}`)],
    [lines(`memory:/docker/${A}`), lines(`pids:/x/docker/${A}`)],
    [lines(`pids:/x/docker/${A}`), lines(`memory:/docker/${A}`)],
  ]) {
    await assert.rejects(resolve(...found), CallerUndetermined);
  }
});

test('a process in a network peer of a host-network container is that peer', async () => {
  assert.equal((await made([at(`/docker/${C}`)]).resolve()).name, 'c');
});

test('a process in no container is the host process', async () => {
  const { resolve, asked } = made([at('/system.slice/agent.service'), at('/init.scope')]);
  assert.equal(await resolve(), HOST);
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
  readonly found: readonly SocketProcess[];
  readonly more?: Partial<HostNetworkOptions>;
  readonly why: RegExp;
}

const UNKNOWN: readonly Case[] = [
  { what: 'a process of the host without HOST_ROLE', found: [at('/')], more: { hostProcess: undefined }, why: /HOST_ROLE/ },
  { what: 'a process in no container, with its own numbers', found: [OTHER_PIDS], why: /engine does not know/ },
  { what: 'the host, and one with its own numbers', found: [at('/'), OTHER_PIDS], why: /engine does not know/ },
  { what: 'a container unknown to the engine', found: [at(`/docker/${'d4'.repeat(32)}`)], why: /no container d4d4/ },
  { what: 'a container on a bridge', found: [at(`/docker/${B}`)], why: /not on the host's network/ },
  { what: 'different containers', found: [IN_A, at(`/docker/${C}`)], why: /different containers/ },
  { what: 'a container and the host', found: [IN_A, at('/')], why: /different containers/ },
  { what: 'the host and a container', found: [at('/'), IN_A], why: /different containers/ },
];

const UNDETERMINED: readonly Case[] = [
  { what: 'a process whose container is unclear', found: [at(`/../${A}`)], why: /--cgroupns=host/ },
  { what: 'a process of the host and an unclear one', found: [at('/'), at(`/../${A}`)], why: /--cgroupns=host/ },
  { what: 'a container\'s name elsewhere', found: [at(`/user.slice/docker-${A}.scope`)], why: /its container's first process/ },
  { what: 'an ended container', found: [IN_A], more: { firstProcessOf: async () => undefined }, why: /container's first process/ },
  { what: 'another one\'s first process', found: [IN_A], more: { firstProcessOf: async () => 2 }, why: /container's first process/ },
  { what: 'an engine that is away', found: [IN_A], more: { containerById: away }, why: /away/ },
];

for (const { what, found, more, why } of UNKNOWN) {
  test(`unknown caller: ${what}`, async () => {
    const { resolve, failures } = made(found, more);
    await assert.rejects(resolve(), (error) => error instanceof UnknownCaller && why.test(error.message));
    assert.deepEqual(failures, []);
  });
}

for (const { what, found, more, why } of UNDETERMINED) {
  test(`undetermined: ${what}`, async () => {
    const { resolve, failures } = made(found, more);
    await assert.rejects(resolve(), (error) => error instanceof CallerUndetermined && why.test(error.message));
    assert.equal(failures.length, 1);
  });
}

test('an engine that does not tell the first process leaves the caller undetermined', async () => {
  const failing = async (): Promise<never> => {
    throw new Error('the engine is away');
  };
  await assert.rejects(made([at(`/docker/${A}`)], { firstProcessOf: failing }).resolve(), CallerUndetermined);
});

test('a caller is resolved once for a connection, and its container confirmed once', async () => {
  const { network, resolve, asked, firsts } = made([at(`/docker/${A}`)]);
  const one = connection();
  assert.equal(network.peek(one), undefined);
  await Promise.all([resolve(one), resolve(one)]);
  assert.equal((await resolve(one)).name, 'a');
  assert.equal(network.peek(one)?.name, 'a');
  assert.equal(asked.length, 1);
  await resolve(connection());
  assert.deepEqual([asked.length, firsts.length], [2, 1]);
});

test('an unknown caller stays unknown for the connection; an undetermined one is resolved again', async () => {
  const unknown = made([at('/')], { hostProcess: undefined });
  const one = connection();
  for (let times = 0; times < 3; times += 1) await assert.rejects(unknown.resolve(one), UnknownCaller);
  assert.equal(unknown.asked.length, 1);

  const failing = made(new CallerUndetermined('not now'));
  await assert.rejects(failing.resolve(one), CallerUndetermined);
  assert.equal(failing.network.peek(one), undefined);
  failing.answer.found = [at(`/docker/${A}`)];
  assert.equal((await failing.resolve(one)).name, 'a');
  assert.deepEqual(failing.failures, ['not now']);
});

test('the caller of a connection that has ended is undetermined', async () => {
  const { resolve, asked } = made([at('/')]);
  for (const ended of [connection({ remotePort: undefined, localAddress: undefined, localPort: undefined }), connection({ remotePort: undefined }), connection({ localAddress: undefined })]) {
    await assert.rejects(resolve(ended), CallerUndetermined);
  }
  assert.equal(asked.length, 0);
});

test('the host\'s own addresses are loopback and those of its interfaces, cached for a second', async () => {
  const addresses = [ADDRESS];
  const clock = new ManualClock();
  const host = new HostAddresses(clock, () => addresses);
  const own = (): boolean[] => ['127.0.0.1', '127.8.8.8', '::1', ADDRESS, '10.0.0.11'].map((one) => host.has(one));
  assert.deepEqual(own(), [true, true, true, true, false]);
  addresses.splice(0, 1, '10.0.0.11');
  await clock.advance(999);
  assert.deepEqual(own(), [true, true, true, true, false]);
  await clock.advance(1);
  assert.deepEqual(own(), [true, true, true, false, true]);
});

test('where the system does not tell its addresses, the caller is undetermined', () => {
  const host = new HostAddresses(new ManualClock(), () => {
    throw new Error('not permitted');
  });
  assert.throws(() => host.has(ADDRESS), new CallerUndetermined('not permitted'));
});
