// HOST_NETWORK with the processes that there really are: this one asks the proxy's port directly. What a firewall and a
// real engine add to it is tried in the lab. `unshare --pid --fork --mount-proc` makes a host of its own of it.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parseCgroups } from '../../lib/callers/host/cgroup.ts';
import { HostProcesses } from '../../lib/callers/host/processes.ts';
import { systemClock } from '../../lib/util/clock.ts';
import { runToEnd } from '../support/proxy.ts';
import { anotherProxy, host, INSTANCE_ID_PATH, SECURITY_CREDENTIALS, TOKEN, until } from './host.ts';

const HOST_ROLE = 'arn:aws:iam::123456789012:role/agent';

// In a container this process is not the host's; and where even root may not look at each process, nobody is told.
const processes = new HostProcesses({ clock: systemClock, redirected: [], exempt: new Set() });
const isHost = parseCgroups(readFileSync('/proc/self/cgroup', 'utf8')).kind === 'host';
const reason = await processes.survey().then(() => !isHost && 'this is a container', ({ message }: Error) => message);
const onHost = { skip: reason };
const asRoot = { skip: reason || (process.getuid?.() !== 0 && 'it takes root') };

test('with HOST_NETWORK and HOST_ROLE a process of the host has that role, from each address', onHost, async (t) => {
  const { roleGiven, proxy } = await host(t, { env: { HOST_NETWORK: 'true', HOST_ROLE } });
  for (const from of ['127.0.0.1', '127.0.0.2']) assert.equal(await roleGiven(from), HOST_ROLE);
  assert.match(JSON.stringify(await proxy.awaitLog('credentials served')), /"container":"?host|container=host/);
});

test('an address that the engine gave to a container is that container\'s, HOST_NETWORK or not', onHost, async (t) => {
  const { docker, roleGiven } = await host(t, { env: { HOST_NETWORK: 'true', HOST_ROLE } });
  const role = 'arn:aws:iam::123456789012:role/app';
  await docker.host.run({ address: '127.0.0.3', env: { IAM_ROLE: role } });
  // Until the event has come, the address is one of loopback as any other.
  await until(() => roleGiven('127.0.0.3'), (given) => given === role);
  for (let times = 0; times < 3; times += 1) assert.equal(await roleGiven('127.0.0.3'), role);
});

test('without HOST_ROLE it is 404 and passed through, and its session token is its own', onHost, async (t) => {
  const { ask, sessionToken } = await host(t, { env: { HOST_NETWORK: 'true', DEFAULT_ROLE: HOST_ROLE } });
  const token = await sessionToken('127.0.0.1');
  assert.equal((await ask('127.0.0.1', SECURITY_CREDENTIALS, { [TOKEN]: token })).status, 404);
  assert.equal((await ask('127.0.0.1', INSTANCE_ID_PATH, { [TOKEN]: token })).status, 200);
});

test('without HOST_NETWORK a process of the host is nobody, HOST_ROLE or not', async (t) => {
  const first = await host(t, { env: { HOST_ROLE } });
  assert.equal((await first.ask('127.0.0.1', SECURITY_CREDENTIALS)).status, 404);
  assert.match(JSON.stringify(await first.proxy.awaitLog('HOST_ROLE has no effect without HOST_NETWORK')), /warning/);
  const { ask } = await anotherProxy(t, first, { env: { HOST_NETWORK: 'false', HOST_ROLE } });
  assert.equal((await ask('127.0.0.1', SECURITY_CREDENTIALS)).status, 404);
});

test('HOST_ROLE is subject to ALLOWED_ROLES', onHost, async (t) => {
  const env = { HOST_NETWORK: 'true', HOST_ROLE, ALLOWED_ROLES: 'arn:aws:iam::123456789012:role/app-*' };
  const { ask } = await host(t, { env });
  assert.equal((await ask('127.0.0.1', `${SECURITY_CREDENTIALS}agent`)).status, 403);
});

test('metadataproxy check tells whether HOST_NETWORK can work', asRoot, async () => {
  const outcome = async (HOST_NETWORK: string): Promise<string | undefined> => {
    const args = ['check', '--json', '--mock', '--mock-credentials'];
    const { stdout } = await runToEnd({ args, env: { HOST_NETWORK } });
    const { checks } = JSON.parse(stdout) as { checks: { name: string; outcome: string; detail: string }[] };
    const found = checks.find(({ name }) => name === 'host network');
    return found && `${found.outcome}: ${found.detail}`;
  };
  assert.equal(await outcome('false'), undefined);
  assert.match((await outcome('true')) ?? '', /^ok: \d+ processes, and each can be looked at/);
  assert.match((await outcome('root')) ?? '', /^failed: HOST_NETWORK=root, and this is root/);
});
