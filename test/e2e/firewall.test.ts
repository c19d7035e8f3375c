// iptables/setup on a host with a real Docker Engine: firewall/firewall-host.ts describes the host.
import { after, before, describe, test } from 'node:test';
import {
  type Backend, type IptablesVariant, IPTABLES, IPTABLES_LEGACY, NFT, missingVariant,
} from './firewall/backends.ts';
import { changes } from './firewall/changes.ts';
import { FirewallHost } from './firewall/firewall-host.ts';
import { loopbackProxy, notCovered, operatorsChain, withoutTables } from './firewall/limits.ts';
import { healingTimes, matrix } from './firewall/matrix.ts';
import { options } from './firewall/options.ts';
import { rules } from './firewall/rules.ts';

/** For each variant of iptables that Docker uses: our packet filters. */
const HOSTS: Readonly<Record<IptablesVariant, readonly Backend[]>> = {
  nft: [NFT, IPTABLES],
  legacy: [IPTABLES_LEGACY, NFT],
  none: [NFT],
};

describe('iptables/setup print', options);

for (const variant of ['nft', 'legacy', 'none'] as const) {
  const reason = await missingVariant(variant);
  const title = variant === 'none' ? 'a host without iptables' : `a host whose Docker uses iptables-${variant}`;
  describe(title, { skip: reason ?? false, timeout: 600_000 }, () => {
    let host: FirewallHost;
    const lab = (): FirewallHost => host;
    before(async () => {
      host = await FirewallHost.create(variant, HOSTS[variant][0] ?? NFT);
    });
    after(() => host.remove());

    test('install before Docker was ever started', async () => {
      await host.setup('install');
      await host.setup('status');
      // Docker's own rules come now, and find ours there.
      await host.startDocker();
      await host.startProxy();
      await host.startClients();
      await host.setup('status');
    });

    for (const backend of HOSTS[variant]) {
      // iptables-nft takes the same rules as iptables-legacy, and the table of our own is the same on each host.
      if (backend === (variant === 'nft' ? NFT : IPTABLES_LEGACY)) {
        describe(`${backend.name}: rules`, () => rules(lab, backend));
        describe(`${backend.name}: changes`, () => changes(lab, backend));
      }
      if (variant === 'nft') describe(`${backend.name}: a loopback proxy`, () => loopbackProxy(lab, backend));
      describe(`${backend.name}: disturbances`, () => matrix(lab, backend, { watches: variant === 'nft' }));
    }
    if (variant === 'nft') {
      describe('iptables chains: missing tables and other programs\' chains', () => withoutTables(lab));
    }
    if (variant === 'none') {
      describe('an operator\'s chain', () => operatorsChain(lab, NFT));
      describe('not covered', () => notCovered(lab, NFT));
    }
  });
}

test('time to heal', healingTimes);
