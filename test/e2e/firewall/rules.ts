import { strict as assert } from 'node:assert';
import { before, describe, test } from 'node:test';
import { HOST_ROLE } from '../host-identity.ts';
import { execute } from '../machine.ts';
import { PROXY_PORT } from '../ports.ts';
import {
  CUSTOM_BRIDGE, HOST4, HOST6, IMDS4, IMDS6, NAMED_NETWORKS, NETWORKS, PROXY_USER, ROLE_NAMES_PATH,
  UNPRIVILEGED_USER,
} from './addresses.ts';
import type { Backend } from './backends.ts';
import { type FirewallHost, type Outcome, STOPPED } from './firewall-host.ts';
import { NOTHING, OTHERS } from './probe.ts';
import { isOurs } from './rule-listing.ts';
import { until } from './until.ts';

/** The answer of the proxy to a container. */
export const PROXIED = 'app';

/** What the rules do. Each test goes on from where the one before left the host, which is with the default rules. */
export function rules(lab: () => FirewallHost, backend: Backend): void {
  let host: FirewallHost;

  before(() => {
    host = lab();
  });

  test('install: containers reach the proxy, the host reaches the metadata service', async () => {
    host.backend = backend;
    await host.setup('install');
    await host.setup('status');
    assertClosed(await host.probeAll(all(PROXIED)), PROXIED);
    await assertHostReachesImds(host);
  });

  test('a proxy that is down: containers are refused', async () => {
    await host.stopProxy();
    assertClosed(await host.probeAll(all('ECONNREFUSED')), 'ECONNREFUSED');
    await assertHostReachesImds(host);
    await host.startProxy();
  });

  test('install twice makes the same rules as once', async () => {
    const once = await host.rules();
    await host.setup('install');
    assert.deepEqual(await host.rules(), once);
  });

  test('a repeated install lets no request fail, and none past the proxy', async () => {
    const { probe } = host.client('team');
    let asking = true;
    let asked = 0;
    const leaked = await host.leakedDuring(async () => {
      const requests = (async () => {
        for (; asking; asked += 1) {
          await probe.call('ask', IMDS4, 80);
          assert.equal(await probe.call('answer'), PROXIED);
        }
      })();
      for (const options of [[], ['--ecs'], []]) await host.setup('install', ...options);
      asking = false;
      await requests;
    });
    assert.ok(asked >= 3, `only ${asked} requests`);
    assert.equal(leaked, 0);
  });

  test('containers reach the proxy\'s port on each address of the host, outsiders on none', async () => {
    for (const { network, host: address } of NAMED_NETWORKS) {
      const { probe } = host.client(network);
      await probe.call('ask', address, PROXY_PORT);
      assert.equal(await probe.call('answer'), PROXIED, network);
    }
    assert.equal(await host.askAsHost(0, host.proxyOnLoopback), 'demo-role', 'loopback');
    await host.sent.reset();
    for (const [n, address] of [HOST4, HOST6].entries()) {
      await host.outside.call('ask', address, PROXY_PORT);
      await until(async () => (await host.sent.read('outside')) > n);
      await host.passSentinel();
      await host.outside.call('giveUp');
      assert.equal(await host.outside.call('answer'), NOTHING, address);
    }
  });

  test('a host whose INPUT chain drops what no rule accepts: containers still reach the proxy', async (t) => {
    if (host.variant === 'none') return t.skip('there is no iptables: see the test of the rule that README gives');
    await host.iptables('--policy', 'INPUT', 'DROP');
    const expected = { ...all(PROXIED), IPv6: STOPPED };
    // The sentinel's own answer must come in.
    await host.iptables('--append', 'INPUT', '--in-interface', 'metadata', '--jump', 'ACCEPT');
    const outcome = await host.probeAll(expected).finally(async () => {
      await host.iptables('--policy', 'INPUT', 'ACCEPT');
      await host.iptables('--delete', 'INPUT', '--in-interface', 'metadata', '--jump', 'ACCEPT');
    });
    // IPv6 needs ICMP for its neighbours, which is not ours to accept.
    const { IPv6: _, ...ipv4 } = outcome.answers;
    const { IPv6: __, ...expected4 } = expected;
    assert.deepEqual({ ...ipv4, 'custom bridge': STOPPED }, expected4);
  });

  test('--anti-spoof: a container cannot pose as one on another network', async () => {
    const victim = await host.client('default').container.address();
    const { container, probe } = host.client('team');
    const inside = [`--net=${await container.networkNamespace()}`, '--', 'ip', 'address'];
    await execute('nsenter', [...inside, 'add', `${victim}/32`, 'dev', 'eth0']);
    /** How many of two forged requests arrive at the proxy's port: one by way of the metadata address, one directly. */
    const forge = async (): Promise<number> => {
      await host.sent.reset();
      await probe.call('ask', IMDS4, 80, victim);
      await until(async () => (await host.sent.read('sent')) === 1);
      await probe.call('ask', HOST4, PROXY_PORT, victim);
      await until(async () => (await host.sent.read('to_proxy')) === 1);
      await host.passSentinel();
      await probe.call('giveUp');
      return host.sent.read('delivered');
    };
    assert.equal(await forge(), 2);
    await host.setup('install', '--anti-spoof');
    assert.equal(await forge(), 0);
    await execute('nsenter', [...inside, 'delete', `${victim}/32`, 'dev', 'eth0']);
    assertClosed(await host.probeAll(all(PROXIED)), PROXIED);
    await host.setup('status', '--anti-spoof');
    await host.setup();
  });

  describe('--host-network', () => {
    const options = ['--host-network', '--proxy-user', String(PROXY_USER)];
    const urls = [`http://${IMDS4}${ROLE_NAMES_PATH}`, `http://[${IMDS6}]${ROLE_NAMES_PATH}`];

    test('a host process reaches the proxy instead, but root and the proxy\'s user do not', async () => {
      for (const url of urls) assert.equal(await host.askAsHost(UNPRIVILEGED_USER, url), HOST_ROLE);
      await host.setup('install', ...options);
      await host.setup('status', ...options);
      for (const url of urls) {
        assert.equal(await host.leakedDuring(async () => {
          assert.equal(await host.askAsHost(UNPRIVILEGED_USER, url), 'curl 22', 'the proxy answers 404');
        }), 0);
        for (const user of [0, PROXY_USER]) assert.equal(await host.askAsHost(user, url), HOST_ROLE);
      }
    });

    test('the same while the kernel checks source addresses strictly', async () => {
      const check = (value: number): Promise<string> => host.shell(
        `for name in all default metadata docker0; do echo ${value} >/proc/sys/net/ipv4/conf/$name/rp_filter; done`);
      await check(1);
      const told = await Promise.all([UNPRIVILEGED_USER, 0, PROXY_USER].map((user) => host.askAsHost(user, urls[0] ?? '')));
      await check(0);
      assert.deepEqual(told, ['curl 22', HOST_ROLE, HOST_ROLE]);
    });

    test('packets that are not redirected are dropped: to another port, and all without redirects', async () => {
      const others = [`http://${IMDS4}:8080/`, `http://[${IMDS6}]:8080/`];
      const attempt = async (tried: string[]): Promise<void> => {
        const leaked = await host.leakedDuring(async () => {
          const told = await Promise.all(tried.map((url) => host.askAsHost(UNPRIVILEGED_USER, url)));
          assert.deepEqual(told.filter((answer) => !/^curl (7|28)$/.test(answer)), []);
        });
        assert.equal(leaked, 0);
      };
      await attempt(others);
      if (backend.filter === 'nft') await host.shell('nft flush chain inet metadataproxy output_to_proxy');
      else await host.iptables('--table', 'nat', '--flush');
      await attempt([...others, ...urls]);
    });

    test('--host-network-root takes root\'s requests as well, but not the proxy\'s', async () => {
      await host.setup('install', '--host-network-root', ...options);
      for (const url of urls) {
        assert.equal(await host.askAsHost(0, url), 'curl 22');
        assert.equal(await host.askAsHost(PROXY_USER, url), HOST_ROLE);
      }
    });

    test('root has one barrier only with --host-network-root: without the packet filter it reaches IMDS', async () => {
      if (backend.filter === 'nft') await host.shell('nft delete table inet metadataproxy');
      else for (const table of ['nat', 'filter']) await host.iptables('--table', table, '--flush', 'METADATAPROXY-OUTPUT');
      const told = await Promise.all(urls.flatMap((url) => [0, UNPRIVILEGED_USER].map((user) => host.askAsHost(user, url))));
      assert.deepEqual(told.map((answer) => answer.replace(/^curl (7|28)$/, STOPPED)),
        [HOST_ROLE, STOPPED, HOST_ROLE, STOPPED]);
      await host.setup();
    });
  });

  test('a network that no --container-iface names is closed, unless --trusted-iface does', async () => {
    await host.setup('install', '--container-iface', 'docker0');
    const closed = { ...only(STOPPED), docker0: PROXIED };
    assert.deepEqual(await host.probeAll(closed), { answers: closed, leaked: 0 });
    await host.setup('install', '--container-iface', 'br-+', '--container-iface', CUSTOM_BRIDGE,
      '--trusted-iface', 'docker0');
    const trusting = { ...only(PROXIED), docker0: HOST_ROLE, docker_gwbridge: STOPPED };
    assert.deepEqual(await host.probeAll(trusting), { answers: trusting, leaked: OTHERS + 1 });
  });

  test('--proxy-ip and --ecs: the proxy answers at its own address, and for 169.254.170.2', async () => {
    await host.setup('install', '--proxy-ip', HOST4, '--proxy-ip', HOST6, '--ecs');
    assertClosed(await host.probeAll(all(PROXIED)), PROXIED);
    const { probe } = host.client('team');
    await probe.call('ask', '169.254.170.2', 80);
    assert.equal(await probe.call('answer'), PROXIED);
    await host.setup();
  });

  test('--dry-run prints what it would do, and does nothing', async () => {
    const before = await host.rules();
    assert.match(await host.setup('install', '--dry-run', '--ecs'),
      backend.filter === 'nft' ? /^# nft --file -\n.*\ndelete table/m : /^# \S+-restore --noflush\n[^]*-D FORWARD -j METADATAPROXY-FORWARD\n/m);
    assert.match(await host.setup('remove', '--dry-run'), /^ip -4 rule delete priority 102 to 169.254.169.254 prohibit/m);
    assert.deepEqual(await host.rules(), before);
  });

  test('remove leaves nothing, and containers then reach the host\'s credentials', async () => {
    await host.setup('remove', '--anti-spoof', '--ecs', '--host-network');
    assert.deepEqual((await host.rules()).filter(isOurs), []);
    assert.equal((await host.trySetup('status')).status, 1);
    const { answers, leaked } = await host.probeAll(only(HOST_ROLE));
    assert.deepEqual(answers, only(HOST_ROLE));
    assert.ok(leaked >= NETWORKS.length * (OTHERS + 1), `only ${leaked} packets reached the metadata service`);
    for (const address of [HOST4, HOST6]) {
      await host.outside.call('ask', address, PROXY_PORT);
      assert.equal(await host.outside.call('answer'), '404', 'the proxy can be reached from outside');
    }
  });

  test('a connection to the metadata service that was open before the rules is cut', async () => {
    for (const [network, address] of [['team', IMDS4], ['six', IMDS6]] as const) {
      const { probe } = host.client(network);
      await probe.call('ask', address, 80);
      assert.equal(await probe.call('answer'), HOST_ROLE);
      await host.setup('install');
      await Promise.all([host.sent.reset(), host.arrived.reset()]);
      await probe.call('askAgain');
      let answer: string | undefined;
      void probe.call('answer').then((told) => (answer = told));
      await until(async () => answer !== undefined || (await host.sent.read('segments')) > 0);
      await host.passSentinel();
      assert.equal(await host.arrived.read('segments'), 0);
      await probe.call('giveUp');
      await until(() => answer !== undefined);
      // A packet of a connection that the kernel did not track is redirected, and so reset.
      assert.ok([NOTHING, 'ECONNRESET', 'EHOSTUNREACH', 'EACCES'].includes(answer ?? ''), `${network}: ${answer}`);
      await host.setup('remove');
    }
  });

  test('install and remove leave the rules of others as they were', async () => {
    const bare = await host.rules();
    const options = ['--anti-spoof', '--ecs', '--host-network', '--proxy-user', String(PROXY_USER)];
    await host.setup('install', ...options);
    const theirs = (await host.rules()).filter((rule) => /^ip6?tables/.test(rule) && !isOurs(rule));
    assert.deepEqual(theirs, bare.filter((rule) => /^ip6?tables/.test(rule)));
    await host.setup('remove');
    assert.deepEqual(await host.rules(), bare);
  });

  test('what print prints makes the same rules as install', async () => {
    await host.setup('install');
    const installed = await host.rules();
    const printed = await host.setup('print');
    await host.setup('remove');
    // Each part begins with the program that takes it; `ip` commands are complete.
    const script = printed.replace(/^# ((?:nft|\S+-restore) .*)$/gm, 'END\n$1 <<END').replace(/^# ip -\d rule$/gm, 'END\n: <<END');
    const commands = printed.split('\n').filter((line) => line.startsWith('ip -'));
    await host.shell(`: <<END\n${script}\nEND\n${commands.join('\n')}`);
    assert.deepEqual(await host.rules(), installed);
    await host.setup('remove');
  });
}

/** Each named network's client gets the answer; the custom bridge is closed. */
export function all(answer: string): Record<string, string> {
  return { ...only(answer), 'custom bridge': STOPPED };
}

function only(answer: string): Record<string, string> {
  return Object.fromEntries(NETWORKS.map(({ name }) => [name, answer]));
}

/** Nothing reached the metadata service, and each named network's client got the same answer. */
export function assertClosed(outcome: Outcome, answer: string): void {
  assert.deepEqual(outcome, { answers: all(answer), leaked: 0 });
}

/** The rules stop nothing of the host's own. */
async function assertHostReachesImds(host: FirewallHost): Promise<void> {
  for (const address of [IMDS4, `[${IMDS6}]`]) {
    assert.equal(await host.askAsHost(0, `http://${address}/`), HOST_ROLE);
    assert.equal(await host.askAsHost(UNPRIVILEGED_USER, `http://${address}:8080/`), HOST_ROLE);
  }
}
