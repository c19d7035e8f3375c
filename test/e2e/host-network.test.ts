// HOST_NETWORK and `iptables/setup --host-network-root` on a real Docker Engine: host-network containers and host
// processes, which all have the host's addresses.
import { after, describe } from 'node:test';
import { Lab } from './lab.ts';
import { hostNetwork } from './scenarios/host-network.ts';

const lab = await Lab.create();
await lab.makeRoles('app', 'worker', 'fallback', 'host-role');

// A hanging daemon must not block the run for ever.
const TEN_MINUTES = 600_000;

describe('on the network of a real Docker host', { timeout: TEN_MINUTES }, () => {
  after(() => lab.remove());

  hostNetwork(lab);
});
