// HOST_NETWORK with real processes: this process sends requests to the proxy's port. The end-to-end tests add a firewall and
// a real engine. In a container, `unshare --pid --fork --mount-proc` makes this process look like a host process.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parseCgroups } from '../../lib/callers/host/cgroup.ts';
import { HostProcesses } from '../../lib/callers/host/processes.ts';
import { systemClock } from '../../lib/util/clock.ts';
import { runToEnd } from '../support/proxy.ts';
import { anotherProxy, host, INSTANCE_ID_PATH, SECURITY_CREDENTIALS, TOKEN, until } from './host.ts';

const HOST_ROLE = 'arn:aws:iam::123456789012:role/agent';

// Skipped in a container, where this is no host process, and where not even root may inspect every process.
const processes = new HostProcesses({ clock: systemClock, redirected: [], exempt: new Set() });
const isHost = parseCgroups(readFileSync('/proc/self/cgroup', 'utf8')).kind === 'host';
const reason = await processes.survey().then(() => !isHost && 'this is a container', ({ message }: Error) => message);
const onHost = { skip: reason };
const asRoot = { skip: reason || (process.getuid?.() !== 0 && 'needs root') };

test('with HOST_NETWORK and HOST_ROLE a host process has that role from each address', onHost, async (t) => {
  const { roleGiven, proxy } = await host(t, { env: { HOST_NETWORK: 'true', HOST_ROLE } });
  for (const from of ['127.0.0.1', '127.0.0.2']) assert.equal(await roleGiven(from), HOST_ROLE);
  assert.match(JSON.stringify(await proxy.awaitLog('credentials served')), /"container":"?host|container=host/);
});

test('with HOST_NETWORK a container\'s address still means that container', onHost, async (t) => {
  const { docker, roleGiven } = await host(t, { env: { HOST_NETWORK: 'true', HOST_ROLE } });
  const role = 'arn:aws:iam::123456789012:role/app';
  await docker.host.run({ address: '127.0.0.3', env: { IAM_ROLE: role } });
  // Before the event arrives, the address is just a loopback address.
  await until(() => roleGiven('127.0.0.3'), (given) => given === role);
  for (let times = 0; times < 3; times += 1) assert.equal(await roleGiven('127.0.0.3'), role);
});

test('without HOST_ROLE a host process gets 404 for credentials, metadata passes through, and its session token is valid', onHost, async (t) => {
  const { ask, sessionToken } = await host(t, { env: { HOST_NETWORK: 'true', DEFAULT_ROLE: HOST_ROLE } });
  const token = await sessionToken('127.0.0.1');
  assert.equal((await ask('127.0.0.1', SECURITY_CREDENTIALS, { [TOKEN]: token })).status, 404);
  assert.equal((await ask('127.0.0.1', INSTANCE_ID_PATH, { [TOKEN]: token })).status, 200);
});

test('without HOST_NETWORK a host process gets 404, even with HOST_ROLE', async (t) => {
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

test('metadataproxy check reports whether HOST_NETWORK can work', asRoot, async () => {
  const outcome = async (HOST_NETWORK: string): Promise<string | undefined> => {
    const args = ['check', '--json', '--mock', '--mock-credentials'];
    const { stdout } = await runToEnd({ args, env: { HOST_NETWORK } });
    const { checks } = JSON.parse(stdout) as { checks: { name: string; outcome: string; detail: string }[] };
    const found = checks.find(({ name }) => name === 'host network');
    return found && `${found.outcome}: ${found.detail}`;
  };
  assert.equal(await outcome('false'), undefined);
  assert.match((await outcome('true')) ?? '', /^ok: this user can inspect all \d+ processes/);
  assert.match((await outcome('root')) ?? '', /^failed: HOST_NETWORK=root, and the proxy runs as root/);
});
