import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { get, ROLE_NAMES, roleName } from '../asking.ts';
import { IDLE } from '../container.ts';
import { BUSYBOX } from '../docker-engine.ts';
import type { Lab } from '../lab.ts';

/** Fourteen addresses, of which either network gives the first ones. */
const SUBNET = '172.30.44.0/28';
const ON_BRIDGE = 6;
const ON_OVERLAY = 3;

/** An overlay network may have a bridge's subnet, and so two containers one address. */
export function sameAddress(lab: Lab): void {
  test('containers with the same addresses on an overlay network and on a bridge have their own roles', async (t) => {
    const { docker } = lab;
    await docker.docker('swarm', 'init', '--advertise-addr', '127.0.0.1');
    try {
      await docker.docker('network', 'create', '--subnet', SUBNET, 'twin-bridge');
      await docker.docker('network', 'create', '--driver', 'overlay', '--subnet', SUBNET, 'twin-mesh');
      const bridged = await Promise.all(Array.from({ length: ON_BRIDGE }, (_, n) =>
        docker.startIdle(`twin-${n}`, { IAM_ROLE: 'worker' }, { network: 'twin-bridge' })));
      await docker.docker('service', 'create', '--quiet', '--detach=false', '--name', 'twins', '--network', 'twin-mesh',
        '--replicas', String(ON_OVERLAY), '--env', 'IAM_ROLE=app', BUSYBOX, ...IDLE);
      const tasks = (await docker.docker('ps', '--quiet', '--filter', 'label=com.docker.swarm.service.name=twins'))
        .split('\n');
      const meshed = await Promise.all(tasks.map((task) => docker.docker('inspect', '--format',
        '{{(index .NetworkSettings.Networks "twin-mesh").IPAddress}}', task)));
      const addresses = await Promise.all(bridged.map((one) => one.address()));
      const twice = addresses.filter((address) => meshed.includes(address));
      t.diagnostic(`${twice.length} addresses on both networks`);
      assert.ok(twice.length > 0, `${addresses.join()} on the bridge, ${meshed.join()} on the overlay network`);

      const roles = async (): Promise<string[]> => Promise.all([
        ...bridged.map((one) => roleName(one)), ...tasks.map((task) => docker.docker('exec', task, ...get(ROLE_NAMES))),
      ]);
      const own = [...bridged.map(() => 'worker'), ...tasks.map(() => 'app')];
      assert.deepEqual(await roles(), own);
      // The same after everything was read anew, in whatever order the engine lists it.
      await lab.startProxy();
      assert.deepEqual(await roles(), own);
      await docker.docker('service', 'rm', 'twins');
      assert.deepEqual(await Promise.all(bridged.map((one) => roleName(one))), bridged.map(() => 'worker'));
      await Promise.all(bridged.map((one) => one.remove()));
      await docker.docker('network', 'rm', 'twin-bridge');
    } finally {
      await docker.docker('swarm', 'leave', '--force');
    }
  });
}
