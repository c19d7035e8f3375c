// The package beside the programs that manage a host's firewall, each on a Debian that boots. While one of them reloads,
// restarts or flushes, clients ask for the host's credentials about a thousand times a second.
//
// E2E_FULL=1 tries every event with every manager, and prints the table (`make e2e-firewall`).
import { strict as assert } from 'node:assert';
import { after, before, describe, test, type TestContext } from 'node:test';
import { CLIENTS, ENV, ManagedHost, OPTIONS, type Manager, type Outcome } from './firewall-managers/managed-host.ts';
import { makePackages } from './packages/products.ts';

const FULL = process.env['E2E_FULL'] === '1';

const ofUnit = (unit: string): Manager['events'] => [
  ['restart', `systemctl restart ${unit}`],
  ['stop, start', `systemctl stop ${unit}; systemctl start ${unit}`],
];

const FIREWALLD_EVENTS: Manager['events'] = [['firewall-cmd --reload', 'firewall-cmd --reload'], ...ofUnit('firewalld')];
/** An operator's rules: nothing but answers comes in. */
const DENY = '*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n';

const MANAGERS: Readonly<Record<string, Manager>> = {
  none: { name: 'no manager', packages: [], configure: ':', events: [] },
  nftables: {
    name: 'nftables.service',
    packages: ['nftables'],
    configure: 'systemctl enable --now nftables',
    events: [['reload', 'systemctl reload nftables'], ['start', 'systemctl stop nftables; systemctl start nftables'],
      ['restart', 'systemctl restart nftables']],
  },
  firewalld: {
    name: 'firewalld, nftables',
    packages: ['firewalld', 'dbus', 'netbase'],
    configure: 'systemctl enable --now firewalld',
    events: FIREWALLD_EVENTS,
  },
  firewalldIptables: {
    name: 'firewalld, iptables',
    packages: ['firewalld', 'dbus', 'netbase', 'iptables'],
    configure: "sed -i 's/^FirewallBackend=.*/FirewallBackend=iptables/' /etc/firewalld/firewalld.conf; systemctl enable firewalld; systemctl restart firewalld",
    events: FIREWALLD_EVENTS,
  },
  ufw: {
    name: 'ufw',
    packages: ['ufw', 'nftables'],
    configure: 'ufw default deny incoming; ufw --force enable',
    events: [['ufw reload', 'ufw reload'], ...ofUnit('ufw')],
  },
  // Without nftables: by the iptables backend.
  persistent: {
    name: 'netfilter-persistent, no nft',
    packages: ['iptables-persistent', 'netfilter-persistent'],
    configure: `printf '${DENY.replaceAll('\n', '\\n')}' | tee /etc/iptables/rules.v4 >/etc/iptables/rules.v6; systemctl enable --now netfilter-persistent; netfilter-persistent reload`,
    events: [['netfilter-persistent reload', 'netfilter-persistent reload'], ...ofUnit('netfilter-persistent')],
  },
};

const EVENTS: Manager['events'] = [
  ['iptables -F', 'for table in filter nat mangle raw; do iptables -w -t $table -F; ip6tables -w -t $table -F; done'],
  ['Docker restart', 'systemctl restart docker'],
  ['docker network create', 'docker network create --ipv6 --subnet fd00:d0d::/64 more; docker network rm more'],
  ['our unit restarts', 'systemctl restart metadataproxy-firewall'],
  ['our unit reloads', 'systemctl reload metadataproxy-firewall'],
  // The last one: firewalld does not get over it before a restart.
  ['nft flush ruleset', '! command -v nft || nft flush ruleset'],
];

const results: string[] = [];

/** Nobody but the proxy answered; when it answered again is a figure. */
function assertClosed(t: TestContext, outcome: Outcome): void {
  t.diagnostic(`${outcome.sent} requests; healed after ms: ${CLIENTS.map((name, n) => `${name} ${outcome.healed[n]}`).join(', ')}`);
  assert.equal(outcome.leaked, 0, 'the metadata service answered a client');
  assert.equal(outcome.foreign, 0, 'somebody else answered a client');
}

/** Boots a host with a manager for the tests in `body`. */
function withManager(manager: Manager, body: (managed: () => ManagedHost) => void): void {
  describe(`with ${manager.name}`, () => {
    let managed: ManagedHost | undefined;
    const get = (): ManagedHost => {
      if (managed === undefined) throw new Error('the host has not booted');
      return managed;
    };
    before(async () => {
      managed = await ManagedHost.create(manager);
      await managed.startClients();
    });
    after(() => managed?.remove());
    body(get);
    if (!FULL) return;
    for (const [what, command] of [...manager.events, ...EVENTS, ...manager.events.filter(([name]) => name === 'restart')]) {
      test(`${what}: nobody but the proxy answers, and it answers again`, async (t) => {
        const outcome = await get().during(command);
        results.push(`| ${[manager.name, what, outcome.leaked, ...outcome.healed].join(' | ')} |`);
        assertClosed(t, outcome);
      });
    }
    test('after a power cut everything is in place again', async () => {
      get().stopClients();
      await get().host.powerOff();
      await get().host.boot();
      await get().healed();
      await get().active('metadataproxy.service', 'metadataproxy.socket', 'metadataproxy-firewall.service',
        'metadataproxy-firewall-watch.service', 'docker.service');
    });
  });
}

// A boot that hangs must not hold up the run for ever.
describe('firewall managers', { timeout: FULL ? 3_600_000 : 600_000 }, () => {
  before(makePackages);
  after(() => {
    if (results.length === 0) return;
    console.log([`| manager | event | leaked | ${CLIENTS.map((name) => `${name}: healed after ms`).join(' | ')} |`,
      `|${' --- |'.repeat(3 + CLIENTS.length)}`, ...results].join('\n'));
  });

  const of = (name: keyof typeof MANAGERS): Manager => {
    const manager = MANAGERS[name];
    if (manager === undefined) throw new Error(`no manager ${name}`);
    return manager;
  };

  withManager(of('nftables'), (managed) => {
    test('a start of nftables.service opens no way, and what it flushes comes back', async (t) => {
      await managed().host.run('systemctl', 'stop', 'nftables');
      assertClosed(t, await managed().during('systemctl start nftables'));
    });

    test('nft flush ruleset and iptables -F of each table open no way', async (t) => {
      for (const [, command] of [EVENTS.slice(0, 1), EVENTS.slice(-1)].flat()) assertClosed(t, await managed().during(command));
    });

    test('a restart of the firewall unit opens no way for containers and unprivileged host processes', async (t) => {
      const outcome = await managed().during('systemctl restart metadataproxy-firewall');
      assertClosed(t, outcome);
      assert.equal(outcome.refused, 0, 'there was no moment without a redirect');
    });

    test('a mistyped option or an unknown user at run time fails the unit, and opens no way', async (t) => {
      const { host } = managed();
      const set = (options: string): string => `sed -i 's/^FIREWALL_OPTIONS=.*/FIREWALL_OPTIONS="${options}"/' ${ENV}`;
      for (const wrong of ['--nonsense', '--host-network --proxy-user nobody-at-all']) {
        await managed().reset();
        await host.shell(set(wrong));
        for (const action of ['reload', 'restart']) {
          assert.notEqual((await host.try('systemctl', action, 'metadataproxy-firewall')).status, 0);
          await host.until('grep -q ^failed /run/metadataproxy-firewall/state');
        }
        const outcome = await managed().during(`${set(OPTIONS)}; systemctl restart metadataproxy-firewall`);
        assertClosed(t, outcome);
        assert.equal(outcome.refused, 0, 'the redirects stayed');
      }
    });

    test('with another port, a restart of the firewall unit redirects nobody to port 18000', async (t) => {
      const { host } = managed();
      await host.shell(`echo PORT=18100 >>${ENV}; systemctl daemon-reload
        systemctl restart metadataproxy.socket metadataproxy-firewall`);
      await host.ready();
      await host.shell(`systemd-run --quiet --unit=squatter --uid=nobody /usr/bin/node -e '
        require("http").createServer((request, response) => response.end("foreign")).listen(18000)'`);
      await host.until('curl --silent --fail http://127.0.0.1:18000/ >/dev/null');
      const outcome = await managed().during('systemctl restart metadataproxy-firewall; systemctl reload metadataproxy-firewall');
      assertClosed(t, outcome);
      assert.equal(outcome.refused, 0);
      await host.shell(`systemctl stop squatter; sed -i '/^PORT=18100/d' ${ENV}; systemctl daemon-reload
        systemctl restart metadataproxy.socket metadataproxy-firewall`);
      await host.ready();
    });
  });

  withManager(of('firewalld'), (managed) => {
    test('firewalld and the package run beside each other, and Docker started last', async () => {
      await managed().active('firewalld.service', 'metadataproxy-firewall.service', 'metadataproxy-firewall-watch.service');
    });

    test('firewall-cmd --reload and Docker\'s start beside firewalld open no way, and the proxy answers again', async (t) => {
      for (const command of ['firewall-cmd --reload', 'systemctl restart docker']) {
        assertClosed(t, await managed().during(command));
      }
    });

    test('firewalld can be restarted while the package is installed', async (t) => {
      assertClosed(t, await managed().during('systemctl restart firewalld'));
      await managed().active('firewalld.service', 'metadataproxy-firewall.service', 'metadataproxy-firewall-watch.service');
    });
  });

  withManager(of('ufw'), (managed) => {
    test('where ufw denies what comes in, redirected requests arrive at the proxy, also after ufw reload', async (t) => {
      assert.match(await managed().host.run('ufw', 'status', 'verbose'), /deny \(incoming\)/);
      assertClosed(t, await managed().during('ufw reload'));
    });
  });

  if (!FULL) return;
  for (const name of ['none', 'firewalldIptables', 'persistent'] as const) withManager(of(name), () => undefined);
});
