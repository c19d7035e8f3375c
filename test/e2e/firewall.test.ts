// iptables/setup on a host with a real Docker Engine: firewall/firewall-host.ts says what stands around it.
import { strict as assert } from 'node:assert';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  type Exporter, FirewallHost, HOST4, HOST6, IMDS4, IMDS6, type Outcome, SEATS, until, whyNot,
} from './firewall/firewall-host.ts';
import { NOTHING, OTHERS } from './firewall/probe.ts';
import { HOST_ROLE } from './host-identity.ts';
import { execute } from './machine.ts';
import { PROXY_PORT } from './ports.ts';

const SETUP = 'iptables/setup';

/** What each guest is told when a cell of the matrix is as it should be. */
const PROXIED = 'app';
const REFUSED = 'ECONNREFUSED';

const USER_WITHOUT_PRIVILEGES = 65534;
/** Stands for the proxy's own user: Debian's `daemon`. */
const PROXY_USER = 1;

describe('iptables/setup print', () => {
  test('prints what can be given to iptables-restore and ip6tables-restore', async () => {
    const printed = await print();
    const heads = printed.match(/^(# ip\w+-restore --noflush|\*\w+|COMMIT)$/gm);
    const tables = ['*mangle', 'COMMIT', '*filter', 'COMMIT', '*nat', 'COMMIT'];
    const [first, second] = ['# iptables-restore --noflush', '# ip6tables-restore --noflush'];
    assert.deepEqual(heads, [first, ...tables, second, ...tables]);
    for (const address of [IMDS4, IMDS6]) {
      assert.ok(printed.includes(`-A METADATAPROXY-FORWARD -d ${address} -j DROP\n`));
      for (const name of ['docker0', 'br-+', 'docker_gwbridge']) {
        const rule = `-i ${name} -d ${address} -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 18000\n`;
        assert.ok(printed.includes(rule), rule);
      }
    }
  });

  test('takes the options of the older setup-firewall.sh', async () => {
    const older = ['--container-iface', 'docker0', '--proxy-port', '8000', '--metadata-ip', '169.254.1.1',
      '--metadata-port', '8080'];
    const rule = '-A METADATAPROXY-REDIRECT -i docker0 -d 169.254.1.1 -p tcp -m tcp --dport 8080';
    assert.deepEqual(redirects(await print('--no-ipv6', ...older)), [`${rule} -j REDIRECT --to-ports 8000`]);
    assert.deepEqual(redirects(await print('--no-ipv6', ...older, '--proxy-ip', '172.17.0.1')),
      [`${rule} -j DNAT --to-destination 172.17.0.1:8000`]);
    assert.equal(await print(...older), await print(...joined(older)), '--option=value is the same');
  });

  test('takes as many interfaces as there are, also ones that end in +', async () => {
    const printed = await print('--no-ipv6', '--container-iface', 'cni0', '--container-iface', 'team-+');
    assert.deepEqual(redirects(printed).map((rule) => / -i (\S+)/.exec(rule)?.[1]), ['cni0', 'team-+']);
  });

  test('takes the address of ECS task credentials with --ecs', async () => {
    assert.match(await print('--ecs'), /-A METADATAPROXY-FORWARD -d 169\.254\.170\.2 -j DROP\n/);
    assert.doesNotMatch(await print(), /170\.2/);
  });

  test('takes a proxy and a metadata address of each family', async () => {
    const printed = await print('--proxy-ip', '10.0.0.1', '--proxy-ip', 'fd00::1',
      '--metadata-ip', 'fd00:ec2::1', '--container-iface', 'docker0');
    const rule = '-A METADATAPROXY-REDIRECT -i docker0 -d';
    assert.deepEqual(redirects(printed), [
      `${rule} ${IMDS4} -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.1:18000`,
      `${rule} fd00:ec2::1 -p tcp -m tcp --dport 80 -j DNAT --to-destination [fd00::1]:18000`,
    ]);
  });

  test('never names anything but the metadata addresses and the proxy\'s port', async () => {
    const printed = await print('--anti-spoof', '--ecs', '--host-network', '--trusted-iface', 'virbr0');
    const rules = printed.split('\n').filter((line) => line.startsWith('-A '));
    const harmless = / -j RETURN$/;
    const narrow = / -d (169\.254\.169\.254|169\.254\.170\.2|fd00:ec2::254) | --dport 18000 /;
    assert.deepEqual(rules.filter((rule) => !harmless.test(rule) && !narrow.test(rule)), []);
    assert.ok(rules.length > 50);
  });

  for (const wrong of [
    ['--container-iface', '+'], ['--container-iface', 'eth0 -j ACCEPT'], ['--container-iface', 'a+b'],
    ['--container-iface', 'sixteen-letters-'], ['--container-iface'], ['--proxy-port', '0'],
    ['--proxy-port', '65536'], ['--proxy-port', '80;id'], ['--metadata-ip', '0.0.0.0/0'],
    ['--metadata-ip', 'metadata.internal'], ['--proxy-ip', ''], ['--proxy-user', '-x'], ['--frobnicate'],
    ['flush'], ['remove', 'install'], ['--host-network-root', '--proxy-user', 'root'],
  ]) {
    test(`refuses ${wrong.join(' ')}`, async () => {
      const { status, stdout, stderr } = await execute(SETUP, ['print', ...wrong]);
      assert.deepEqual({ status, stdout }, { status: 2, stdout: '' });
      assert.match(stderr, /^setup: .+\n$/);
    });
  }

  test('--help tells of each option and command that there is', async () => {
    const source = await readFile(SETUP, 'utf8');
    const options = new Set(source.match(/(?<=^    )--[a-z0-9-]+(?=\))/gm));
    const { stdout } = await execute(SETUP, ['--help']);
    const unexplained = [...options, 'install', 'remove', 'status', 'print', '--help'].filter(
      (word) => !new RegExp(`^  (--?\\w+, )?${word}\\b`, 'm').test(stdout) && !stdout.includes(`, ${word} `));
    assert.deepEqual(unexplained, []);
    assert.ok(options.size >= 14, `${options.size} options`);
  });
});

for (const backend of ['nft', 'legacy'] as const) {
  const reason = await whyNot(backend);
  describe(`with iptables-${backend}`, { skip: reason ?? false, timeout: 180_000 }, () => matrix(backend));
}

/** Each test goes on from where the one before left the host. */
function matrix(backend: Exporter): void {
  let host: FirewallHost;
  let bare: string[];
  before(async () => {
    host = await FirewallHost.create(backend);
  });
  after(() => host.remove());

  test('install before Docker was ever started', async () => {
    await host.setup('install');
    assert.equal((await host.trySetup('status')).status, 0);
    // Docker's own rules come now, and find ours there.
    await host.startDocker();
    await host.startProxy();
    await host.seatGuests();
    assertClosed(await host.probeAll(), PROXIED);
    await assertHostIsFree(host);
  });

  test('a proxy that is down: containers are refused', async () => {
    await host.stopProxy();
    assertClosed(await host.probeAll(), REFUSED);
    await assertHostIsFree(host);
  });

  test('Docker restarted after the rules', async () => {
    const proxy = await host.startProxy();
    const mark = proxy.log.length;
    await host.unseatGuests();
    await host.docker.stop();
    await host.docker.start();
    await proxy.knowsContainers(mark);
    await host.seatGuests();
    assertClosed(await host.probeAll(), PROXIED);
  });

  test('install once more, when Docker has its own chain DOCKER-USER', async () => {
    assert.equal((await host.trySetup('status')).status, 1);
    await host.setup();
    assert.equal((await host.trySetup('status')).status, 0);
    const rules = (await host.rules()).join('\n');
    assert.match(rules, /-A DOCKER-USER -j METADATAPROXY-FORWARD\n.* -A DOCKER-USER -j RETURN/);
    assertClosed(await host.probeAll(), PROXIED);
  });

  test('install twice makes the same rules as once', async () => {
    const once = await host.rules();
    await host.setup('install');
    assert.deepEqual(await host.rules(), once);
  });

  test('IPTABLES says which iptables is meant, when it is not the one on PATH', async () => {
    const path = 'PATH=/usr/sbin:/usr/bin:/sbin:/bin';
    await host.machine.run(['env', path, `IPTABLES=iptables-${backend}`, resolve(SETUP), 'status']);
    await host.machine.run(['env', path, `IPTABLES=/usr/sbin/iptables-${backend}`, resolve(SETUP), 'status']);
  });

  for (const [table, told] of [['nat', NOTHING], ['mangle', PROXIED], ['filter', PROXIED]] as const) {
    test(`${table} flushed: containers are told ${told}, and a re-run mends it`, async () => {
      const whole = await host.rules();
      await host.iptables('--table', table, '--flush');
      assertClosed(await host.probeAll(), told);
      await assertHostIsFree(host);
      assert.equal((await host.trySetup('status')).status, 1);
      await host.setup();
      assert.deepEqual(ours(await host.rules()), ours(whole));
      assertClosed(await host.probeAll(), PROXIED);
    });
  }

  test('nat and mangle flushed: filter alone keeps containers from the metadata service', async () => {
    await host.iptables('--table', 'nat', '--flush');
    await host.iptables('--table', 'mangle', '--flush');
    assertClosed(await host.probeAll(), NOTHING);
    await host.setup();
  });

  test('a re-run lets no request fail, and none past the proxy', async () => {
    const { probe } = host.guest('team');
    let asking = true;
    let asked = 0;
    const leaked = await host.leakedDuring(async () => {
      const client = (async () => {
        for (; asking; asked += 1) {
          await probe.call('ask', IMDS4, 80);
          assert.equal(await probe.call('answer'), PROXIED);
        }
      })();
      for (let runs = 0; runs < 3; runs += 1) await host.setup();
      asking = false;
      await client;
    });
    assert.ok(asked >= 3, `only ${asked} requests`);
    assert.equal(leaked, 0);
  });

  test('containers reach the proxy\'s port on each address of the host, outsiders on none', async () => {
    for (const { network, host: address } of SEATS) {
      const { probe } = host.guest(network);
      await probe.call('ask', address, PROXY_PORT);
      assert.equal(await probe.call('answer'), PROXIED, network);
    }
    assert.equal(await host.askAsHost(0, host.proxyOnLoopback), 'demo-role', 'loopback');
    for (const address of [HOST4, HOST6]) {
      const dropped = await host.matched('filter', 'METADATAPROXY-INPUT', 'DROP');
      await host.outside.call('ask', address, PROXY_PORT);
      await host.matchedMore('filter', 'METADATAPROXY-INPUT', 'DROP', dropped);
      await host.outside.call('giveUp');
      assert.equal(await host.outside.call('answer'), NOTHING, address);
    }
  });

  test('a host that lets nothing in but what it names is still asked by containers', async () => {
    await host.iptables('--policy', 'INPUT', 'DROP');
    const outcome = await host.probeAll().finally(() => host.iptables('--policy', 'INPUT', 'ACCEPT'));
    // IPv6 cannot do without ICMP, which is not ours to let in.
    const { IPv6: _, ...ipv4 } = outcome.answers;
    assert.deepEqual(new Set(Object.values(ipv4)), new Set([PROXIED]));
  });

  test('--anti-spoof: a container cannot pose as one on another network', async () => {
    const victim = await host.guest('default').container.address();
    const { container, probe } = host.guest('team');
    const inside = [`--net=${await container.networkNamespace()}`, '--', 'ip', 'address'];
    await execute('nsenter', [...inside, 'add', `${victim}/32`, 'dev', 'eth0']);
    const arrived = (): Promise<number> => host.matched('filter', 'METADATAPROXY-INPUT', 'ACCEPT');
    const pose = (address: string, port: number): Promise<void> => probe.call('ask', address, port, victim);
    const targets = [[IMDS4, 80], [HOST4, PROXY_PORT]] as const;

    for (const [address, port] of targets) {
      const mark = await arrived();
      await pose(address, port);
      await host.matchedMore('filter', 'METADATAPROXY-INPUT', 'ACCEPT', mark);
      await probe.call('giveUp');
    }
    await host.setup('install', '--anti-spoof');
    const before = await arrived();
    for (const [address, port] of targets) {
      const mark = await host.matched('raw', 'METADATAPROXY-SOURCE', 'DROP');
      await pose(address, port);
      await host.matchedMore('raw', 'METADATAPROXY-SOURCE', 'DROP', mark);
      await probe.call('giveUp');
    }
    assert.equal(await arrived(), before);

    await execute('nsenter', [...inside, 'delete', `${victim}/32`, 'dev', 'eth0']);
    assertClosed(await host.probeAll(), PROXIED);
    assert.equal((await host.trySetup('status', '--anti-spoof')).status, 0);
    await host.setup();
    assert.doesNotMatch((await host.rules()).join('\n'), /METADATAPROXY-SOURCE/, 'gone without the option');
  });

  describe('--host-network', () => {
    const options = ['--host-network', '--proxy-user', String(PROXY_USER)];
    const path = 'latest/meta-data/iam/security-credentials/';
    const urls = [`http://${IMDS4}/${path}`, `http://[${IMDS6}]/${path}`];

    test('a host process asks the proxy instead, but root and the proxy\'s user do not', async () => {
      for (const url of urls) assert.equal(await host.askAsHost(USER_WITHOUT_PRIVILEGES, url), HOST_ROLE);
      await host.setup('install', ...options);
      assert.equal((await host.trySetup('status', ...options)).status, 0);
      for (const url of urls) {
        assert.equal(await host.leakedDuring(async () => {
          assert.equal(await host.askAsHost(USER_WITHOUT_PRIVILEGES, url), 'curl 22', 'the proxy says 404');
        }), 0);
        for (const user of [0, PROXY_USER]) assert.equal(await host.askAsHost(user, url), HOST_ROLE);
      }
    });

    test('what was not redirected is dropped: another port, and all when nat is flushed', async () => {
      const others = [`http://${IMDS4}:8080/`, `http://[${IMDS6}]:8080/`];
      const timedOut = 'curl 28';
      const attempt = async (tried: string[]): Promise<void> => {
        const leaked = await host.leakedDuring(async () => {
          const told = await Promise.all(tried.map((url) => host.askAsHost(USER_WITHOUT_PRIVILEGES, url)));
          assert.deepEqual(told, tried.map(() => timedOut));
        });
        assert.equal(leaked, 0);
      };
      await attempt(others);
      await host.iptables('--table', 'nat', '--flush');
      await attempt([...others, ...urls]);
    });

    test('--host-network-root takes root\'s requests as well, but not the proxy\'s', async () => {
      await host.setup('install', '--host-network-root', ...options);
      for (const url of urls) {
        assert.equal(await host.askAsHost(0, url), 'curl 22');
        assert.equal(await host.askAsHost(PROXY_USER, url), HOST_ROLE);
      }
      await host.setup();
    });
  });

  test('a network that no --container-iface names is closed, unless --trusted-iface does', async () => {
    await host.setup('install', '--container-iface', 'docker0');
    const closed = await host.probeAll();
    assert.deepEqual(closed.answers, { ...allTold(NOTHING), docker0: PROXIED });
    assert.equal(closed.leaked, 0);
    await host.setup('install', '--container-iface', 'br-+', '--trusted-iface', 'docker0');
    const trusting = await host.probeAll();
    assert.deepEqual(trusting.answers, { ...allTold(PROXIED), docker0: HOST_ROLE, docker_gwbridge: NOTHING });
    assert.equal(trusting.leaked, OTHERS + 1);
  });

  test('--proxy-ip and --ecs: the proxy answers at its own address, and for 169.254.170.2', async () => {
    await host.setup('install', '--proxy-ip', HOST4, '--proxy-ip', HOST6, '--ecs');
    assertClosed(await host.probeAll(), PROXIED);
    const { probe } = host.guest('team');
    await probe.call('ask', '169.254.170.2', 80);
    assert.equal(await probe.call('answer'), PROXIED);
    await host.setup();
  });

  test('--dry-run prints what it would do, and does nothing', async () => {
    const rules = await host.rules();
    const install = await host.setup('install', '--dry-run', '--ecs');
    assert.match(install, /^# iptables-restore --noflush\n[^]*-D FORWARD -j METADATAPROXY-FORWARD\n/);
    assert.match(await host.setup('remove', '--dry-run'), /-X METADATAPROXY-REDIRECT\n/);
    assert.deepEqual(await host.rules(), rules);
  });

  test('remove leaves nothing, and then the host\'s credentials are there for the taking', async () => {
    await host.setup('remove', '--anti-spoof', '--ecs', '--host-network');
    bare = await host.rules();
    assert.deepEqual(ours(bare), []);
    assert.equal((await host.trySetup('status')).status, 1);
    const { answers, leaked, dropped } = await host.probeAll();
    assert.deepEqual(answers, allTold(HOST_ROLE));
    assert.equal(dropped, 0);
    assert.ok(leaked >= SEATS.length * (OTHERS + 1), `only ${leaked} packets reached the metadata service`);
    for (const address of [HOST4, HOST6]) {
      await host.outside.call('ask', address, PROXY_PORT);
      assert.equal(await host.outside.call('answer'), '404', 'the proxy can be asked from outside');
    }
  });

  test('a connection to the metadata service that was open before the rules is cut', async () => {
    for (const [network, address] of [['team', IMDS4], ['six', IMDS6]] as const) {
      const { probe } = host.guest(network);
      await probe.call('ask', address, 80);
      assert.equal(await probe.call('answer'), HOST_ROLE);
      await host.setup('install');
      const dropped = (): Promise<number> => host.matched('mangle', 'METADATAPROXY-FORWARD', 'DROP');
      const mark = await dropped();
      await probe.call('askAgain');
      // A packet of a connection that the kernel did not keep track of is redirected, and so refused.
      let told: string | undefined;
      void probe.call('answer').then((answer) => (told = answer));
      await until(async () => told !== undefined || (await dropped()) > mark);
      await probe.call('giveUp');
      await until(() => Promise.resolve(told !== undefined));
      assert.ok(told === NOTHING || told === 'ECONNRESET', `${network}: ${told}`);
      await host.setup('remove');
    }
  });

  test('install and remove leave the rules of others as they were', async () => {
    const options = ['--anti-spoof', '--ecs', '--host-network', '--proxy-user', String(PROXY_USER)];
    await host.setup('install', ...options);
    assert.deepEqual((await host.rules()).filter((rule) => !rule.includes('METADATAPROXY')), bare);
    await host.setup('remove');
    assert.deepEqual(await host.rules(), bare);
  });

  test('what print prints makes the same rules as install', async () => {
    await host.setup('install');
    const installed = await host.rules();
    await host.setup('remove');
    const [, ipv4 = '', ipv6 = ''] = (await print()).split(/^# ip6?tables-restore.*\n/m);
    await host.machine.run(['/bin/sh', '-ec', `printf %s "$1" | iptables-restore --noflush
      printf %s "$2" | ip6tables-restore --noflush`, 'sh', ipv4, ipv6]);
    const printable = installed.filter((rule) => !rule.includes('-A DOCKER-USER -j METADATAPROXY-'));
    assert.deepEqual(await host.rules(), printable);
    await host.setup('remove');
  });
}

/** Nothing came to the metadata service, and each guest was told the same. */
function assertClosed({ answers, leaked, dropped }: Outcome, told: string): void {
  assert.deepEqual({ answers, leaked }, { answers: allTold(told), leaked: 0 });
  const sent = SEATS.length * (OTHERS + (told === NOTHING ? 1 : 0));
  assert.ok(dropped >= sent, `${dropped} of ${sent} packets were dropped`);
}

/** The host itself is locked out of nothing. */
async function assertHostIsFree(host: FirewallHost): Promise<void> {
  for (const address of [IMDS4, `[${IMDS6}]`]) {
    assert.equal(await host.askAsHost(0, `http://${address}/`), HOST_ROLE);
    assert.equal(await host.askAsHost(USER_WITHOUT_PRIVILEGES, `http://${address}:8080/`), HOST_ROLE);
  }
}

function allTold(told: string): Record<string, string> {
  return Object.fromEntries(SEATS.map(({ name }) => [name, told]));
}

function ours(rules: readonly string[]): string[] {
  return rules.filter((rule) => rule.includes('METADATAPROXY'));
}

async function print(...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await execute(SETUP, ['print', ...args]);
  assert.deepEqual({ status, stderr }, { status: 0, stderr: '' });
  return stdout;
}

function redirects(printed: string): string[] {
  return printed.split('\n').filter((line) => line.startsWith('-A METADATAPROXY-REDIRECT '));
}

function joined(options: readonly string[]): string[] {
  return options.flatMap((option, n) => (n % 2 === 0 ? [`${option}=${options[n + 1] ?? ''}`] : []));
}
