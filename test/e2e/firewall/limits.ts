import { strict as assert } from 'node:assert';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { HOST_ROLE } from '../host-identity.ts';
import { type Result, execute } from '../machine.ts';
import { ADMIN_PORT, PROXY_PORT } from '../ports.ts';
import { CABLE, IMDS4, SETUP } from './addresses.ts';
import { type Backend, IPTABLES } from './backends.ts';
import { type FirewallHost, STOPPED } from './firewall-host.ts';
import { NOTHING } from './probe.ts';
import { PROXIED, all, assertClosed } from './rules.ts';
import { until } from './until.ts';

/** The proxy on a loopback address: redirected requests reach it, and nothing else of the loopback network. */
export function loopbackProxy(lab: () => FirewallHost, backend: Backend): void {
  test('--proxy-ip 127.0.0.1: redirected requests arrive, direct ones do not', async () => {
    const host = lab();
    host.backend = backend;
    const options = ['--proxy-ip', '127.0.0.1'];
    await host.setup('remove');
    const { stderr } = await host.trySetup('install', ...options);
    assert.match(stderr, /containers on docker0 cannot reach --proxy-ip 127.0.0.1: sysctl net.ipv4.conf.docker0.route_localnet is 0/);
    assert.equal((await host.trySetup('status', ...options)).status, 1);
    await host.setup('remove');
    const routeLoopback = (value: number): Promise<string> => host.shell(`
      ip -oneline link show | sed 's/^[0-9]*: //; s/[:@].*//' | grep -e docker -e br- |
        while read -r name; do echo ${value} >/proc/sys/net/ipv4/conf/$name/route_localnet; done`);
    await routeLoopback(1);

    // A container that can send packets to 127.0.0.1 through its interface.
    const { container, probe } = host.client('team');
    const prepared = await inside(await container.networkNamespace(), `
      ip address flush dev lo
      for name in all eth0; do echo 1 >/proc/sys/net/ipv4/conf/$name/route_localnet; done
      ip route add 127.0.0.1/32 via $(ip route show default | cut -d ' ' -f 3)`);
    assert.equal(prepared.status, 0, prepared.stderr);
    await probe.call('ask', '127.0.0.1', ADMIN_PORT);
    assert.match(await probe.call('answer'), /^\d+$/, 'without rules, the operator\'s listener answers');
    await host.setup('install', ...options);
    await host.setup('status', ...options);
    for (const port of [ADMIN_PORT, PROXY_PORT]) {
      await host.sent.reset();
      await probe.call('ask', '127.0.0.1', port);
      await until(async () => (await host.sent.read('to_loopback')) > 0);
      await host.passSentinel();
      await probe.call('giveUp');
      assert.equal(await probe.call('answer'), NOTHING, `port ${port}`);
    }
    await host.startClients();
    assertClosed(await host.probeAll(all(PROXIED)), PROXIED);
    assert.equal(await host.askAsHost(0, host.proxyOnLoopback), 'demo-role');
    await routeLoopback(0);
    await host.setup('install');
  });
}

/** What other programs and kernels lack or add, with iptables chains. */
export function withoutTables(lab: () => FirewallHost): void {
  let host: FirewallHost;

  /** Runs setup where ip6tables lacks tables. */
  async function setupWithout(tables: string, ...args: string[]): Promise<Result> {
    const directory = '/run/lacking';
    const found = await host.shell('for part in "" -save -restore; do command -v ip6tables$part; done');
    const [plain, save, restore] = found.split('\n');
    const names = tables.split(' ');
    await host.shell(`mkdir -p ${directory}
      cat >${directory}/ip6tables <<'END'
#!/bin/sh
case " $* " in
  ${names.map((name) => `*" --table ${name} "*`).join(' | ')}) echo "can't initialize ip6tables table" >&2; exit 3 ;;
esac
exec ${plain} "$@"
END
      cat >${directory}/ip6tables-save <<'END'
#!/bin/sh
${save} "$@" | sed '${names.map((name) => `/^\\*${name}/,/^COMMIT/d`).join(';')}'
END
      ln -sf ${restore} ${directory}/ip6tables-restore
      chmod 755 ${directory}/ip6tables ${directory}/ip6tables-save`);
    return host.machine.tryRun(['env', `PATH=${directory}:${process.env['PATH']}`, resolve(SETUP), ...args,
      ...IPTABLES.options]);
  }

  test('ip6tables without a table nat: IPv6 requests are dropped, and status says what is missing', async () => {
    host = lab();
    host.backend = IPTABLES;
    await host.setup('remove');
    const { status, stderr } = await setupWithout('nat', 'install');
    assert.equal(status, 0, stderr);
    assert.match(stderr, /ip6tables has no table nat: IPv6 requests of containers are dropped, not redirected/);
    const told = await setupWithout('nat', 'status');
    assert.deepEqual([told.status, told.stdout], [1, 'ip6tables has no table nat\n']);
    assert.match(await host.state(), /^failed \d+\nip6tables has no table nat\n$/);
    // Without the routing rules, the drops alone.
    await host.shell('ip -6 rule flush; ip -6 rule add priority 32766 lookup main');
    const expected = { ...all(PROXIED), IPv6: STOPPED };
    assert.deepEqual(await host.probeAll(expected), { answers: expected, leaked: 0 });
    assert.equal((await setupWithout('nat', 'install', '--ipv6')).status, 1);
    await host.setup('remove');
    assert.equal((await setupWithout('nat', 'install', '--no-ipv6')).status, 0);
    assert.equal((await setupWithout('nat', 'status', '--no-ipv6')).status, 0);
  });

  test('ip6tables that can drop nothing, with IPv6 forwarding: install fails, and the routing rules hold', async () => {
    await host.setup('remove');
    const { status, stderr } = await setupWithout('mangle filter nat', 'install');
    assert.equal(status, 1);
    assert.match(stderr, /IPv6 forwarding is on, and ip6tables can drop nothing/);
    const expected = { ...all(PROXIED), IPv6: STOPPED };
    assert.deepEqual(await host.probeAll(expected), { answers: expected, leaked: 0 });
    await host.setup('install');
  });

  test('netavark\'s chain above the others in FORWARD, and nat and one barrier lost: closed', async () => {
    // As netavark's iptables driver makes it for each network.
    await host.shell(`iptables --new-chain NETAVARK_FORWARD
      iptables --append NETAVARK_FORWARD --source 172.16.0.0/12 --jump ACCEPT
      iptables --append NETAVARK_FORWARD --destination 172.16.0.0/12 --jump ACCEPT
      iptables --insert FORWARD 1 --jump NETAVARK_FORWARD`);
    for (const lost of ['iptables --table mangle --flush', 'ip rule flush; ip rule add priority 32766 lookup main']) {
      await host.shell(`iptables --table nat --flush; ${lost}`);
      const expected = { ...all(STOPPED), IPv6: PROXIED };
      assert.deepEqual(await host.probeAll(expected), { answers: expected, leaked: 0 }, lost);
      await host.setup('verify');
    }
    await host.restoreDockerRules();
    await host.setup('install');
  });
}

/** Where the rules do not reach: the sentences of iptables/README.md. */
export function notCovered(lab: () => FirewallHost, backend: Backend): void {
  test('a container on a macvlan network reaches the metadata service past the host', async () => {
    const host = lab();
    host.backend = backend;
    await host.setup('install');
    await host.docker.docker('network', 'create', '--driver', 'macvlan', '--opt', `parent=${CABLE}`,
      '--subnet', '169.254.169.0/24', '--ip-range', '169.254.169.64/26', 'beside');
    const container = await host.docker.startIdle('beside', {}, { network: 'beside' });
    const probe = await host.probe(await container.networkNamespace());
    await probe.call('ask', IMDS4, 80);
    assert.equal(await probe.call('answer'), HOST_ROLE);
    probe.end();
    await container.remove();
  });
}

/** A host whose operator filters with nftables and has no iptables. */
export function operatorsChain(lab: () => FirewallHost, backend: Backend): void {
  test('an operator\'s nftables chain that drops by policy needs the rule of README', async () => {
    const host = lab();
    host.backend = backend;
    await host.setup('install');
    const nft = (input: string): Promise<string> => host.shell(`nft --file - <<'END'\n${input}\nEND`);
    await nft(`
      table inet operator {
        chain input {
          type filter hook input priority 0; policy drop;
          ct state established,related accept
          iifname { "lo", "${CABLE}" } accept
          meta l4proto ipv6-icmp accept
        }
      }`);
    assertClosed(await host.probeAll(), STOPPED);
    const readme = await readFile('iptables/README.md', 'utf8');
    const rules = readme.match(/(?<=^nft )add rule inet .*$/gm) ?? [];
    assert.equal(rules.length, 2);
    await nft(rules.join('\n').replaceAll("'", '').replaceAll('inet filter', 'inet operator'));
    assertClosed(await host.probeAll(all(PROXIED)), PROXIED);
    await nft('delete table inet operator');
  });
}

function inside(network: string, script: string): Promise<Result> {
  return execute('nsenter', [`--net=${network}`, '--', '/bin/sh', '-ec', script]);
}
