import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { callerIdentity, credentials, get, refusal, ROLE_NAMES, roleName } from '../metadata-requests.ts';
import { IDLE } from '../container.ts';
import { BUSYBOX } from '../docker-engine.ts';
import { ACCOUNT, type Lab } from '../lab.ts';
import { STATIC_KEYS } from '../proxy.ts';

/** The ways to attach a container to a network, and the reuse of addresses. */
export function networks(lab: Lab): void {
  test('the AWS CLI in a container on a user-defined bridge gets the container\'s role', async () => {
    await lab.docker.docker('network', 'create', 'team');
    const spec = { name: 'on-team', network: 'team', env: { IAM_ROLE: 'worker' } };
    const caller = await callerIdentity(lab, spec);
    assert.equal(caller.arn, caller.sessionOf('worker', ACCOUNT));
    await lab.docker.docker('network', 'rm', 'team');
  });

  test('a container keeps its role at an address from `docker network connect`', async () => {
    await lab.docker.docker('network', 'create', 'later');
    const container = await lab.docker.startIdle('connected', { IAM_ROLE: 'worker' });
    assert.equal(await roleName(container), 'worker');
    await lab.docker.docker('network', 'connect', 'later', container.name);
    // Without its first network, the container can send requests only from the other network's address.
    await lab.docker.docker('network', 'disconnect', 'bridge', container.name);
    assert.equal(await roleName(container), 'worker');
    await container.remove();
    await lab.docker.docker('network', 'rm', 'later');
  });

  test('a network peer (`--network container:X`) has X\'s role', async () => {
    const owner = await lab.docker.startIdle('owner', { IAM_ROLE: 'worker' });
    const network = `container:${owner.id}`;
    const guest = await lab.docker.startIdle('guest', { IAM_ROLE: 'app' }, { network });
    assert.deepEqual([await roleName(guest), await roleName(owner)], ['worker', 'worker']);
    await guest.remove();
    assert.equal(await roleName(owner), 'worker', 'after the guest left');
    await owner.remove();
  });

  for (const [what, settings] of [['no role', {}], ['the default role', { DEFAULT_ROLE: 'fallback' }]] as const) {
    test(`the first instruction of a peer that joins a container with ${what} gets the peer's role`, async () => {
      await lab.startProxy({ ...STATIC_KEYS, ...settings });
      const owner = await lab.docker.startIdle('owner', {});
      for (let n = 1; n <= 10; n += 1) {
        const role = n % 2 === 0 ? 'app' : 'worker';
        const spec = { network: `container:${owner.name}`, env: { IAM_ROLE: role }, command: get(ROLE_NAMES) };
        const { stdout, stderr } = await (await lab.docker.create(spec)).run();
        assert.equal(stdout, role, `the ${n}th: ${stderr}`);
      }
      await owner.remove();
      await lab.startProxy();
    });
  }

  test('a reused address never keeps the previous container\'s role', async () => {
    // A /30 has two host addresses: the gateway's, and one for a container.
    await lab.docker.docker('network', 'create', '--subnet', '172.31.255.0/30', 'single');
    const addresses = new Set<string>();
    for (const IAM_ROLE of ['app', 'worker', '', 'app']) {
      const env = IAM_ROLE === '' ? {} : { IAM_ROLE };
      const container = await lab.docker.startIdle(`tenant-${IAM_ROLE}`, env, { network: 'single' });
      addresses.add(await container.address());
      if (IAM_ROLE === '') assert.equal(await refusal(container, ROLE_NAMES), '404');
      else assert.match((await credentials(container)).RoleArn, new RegExp(`:role/${IAM_ROLE}$`));
      await container.remove();
    }
    assert.equal(addresses.size, 1);
    await lab.docker.docker('network', 'rm', 'single');
  });

  test('the first instruction of a Swarm service on an overlay network gets its role', async () => {
    const replicas = 4;
    await lab.docker.docker('swarm', 'init', '--advertise-addr', '127.0.0.1');
    try {
      await lab.docker.docker('network', 'create', '--driver', 'overlay', 'mesh');
      await lab.docker.docker('service', 'create', '--quiet', '--detach=false',
        '--name', 'web', '--network', 'mesh', '--replicas', String(replicas), '--env', 'IAM_ROLE=app',
        BUSYBOX, '/bin/sh', '-c', `${get(ROLE_NAMES).join(' ')}; echo; ${IDLE[2]}`);
      const tasks = (await lab.docker.docker('ps', '--quiet', '--filter',
        'label=com.docker.swarm.service.name=web')).split('\n');
      const first = await Promise.all(tasks.map((task) => lab.docker.tryDocker('logs', task)));
      assert.deepEqual(first.map(({ stdout, stderr }) => stdout + stderr), Array(replicas).fill('app\n'));
      assert.equal(await lab.docker.docker('exec', tasks[0] ?? '', ...get(ROLE_NAMES)), 'app');
      await lab.docker.docker('service', 'rm', 'web');
    } finally {
      await lab.docker.docker('swarm', 'leave', '--force');
    }
  });
}
