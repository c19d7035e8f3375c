// HOST_NETWORK and `iptables/setup --host-network-root` on a real Docker Engine: containers on the host's network, and
// processes of the host, all of which have the host's own addresses.
import { after, describe } from 'node:test';
import { Lab } from './lab.ts';
import { hostNetwork } from './scenarios/host-network.ts';

const lab = await Lab.create();
await lab.makeRoles('app', 'worker', 'fallback', 'host-role');

// A daemon that hangs must not hold up the run for ever.
const TEN_MINUTES = 600_000;

describe('on the network of a real Docker host', { timeout: TEN_MINUTES }, () => {
  after(() => lab.remove());

  hostNetwork(lab);
});
