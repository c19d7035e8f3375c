import { strict as assert } from 'node:assert';
import { after, before, test, type TestContext } from 'node:test';
import { HOST_ROLE } from '../host-identity.ts';
import type { SideProgram } from '../side-program.ts';
import { IMDS4, PROXY_USER, UNPRIVILEGED_USER } from './addresses.ts';
import { type Backend, IPTABLES, NFT } from './backends.ts';
import { type FirewallHost, STOPPED } from './firewall-host.ts';
import type { ListenerCalls } from './listener.ts';
import type { ProbeCalls } from './probe.ts';
import { isOurs } from './rule-listing.ts';
import { PROXIED, all, assertClosed } from './rules.ts';
import { RULES_OF_0_1_0 } from './rules-of-0.1.0.ts';

const PORT = 18_010;
const HOST_NETWORK = ['--host-network', '--proxy-user', String(PROXY_USER)];
const OPTIONS = [...HOST_NETWORK, '--proxy-port', String(PORT)];
const OTHER_OPTIONS = [['--anti-spoof'], ['--ecs', '--no-ipv6'], ['--host-network-root', '--container-iface', 'br-+'], []];
const INVALID_OPTIONS = [
  ['--frobnicate'], ['--proxy-port', '0'], ['--host-network', '--proxy-user', 'nosuchuser'], ['--container-iface'],
];

/** A change of the rules has no moment in which a request reaches the metadata service or a wrong port. */
export function changes(lab: () => FirewallHost, backend: Backend): void {
  let host: FirewallHost;
  let listener: SideProgram<ListenerCalls>;
  let unprivileged: SideProgram<ProbeCalls>;

  before(async () => {
    host = lab();
    host.backend = backend;
    await host.setup('install');
    await host.stopProxy();
    [listener, unprivileged] = await Promise.all([host.listener(), host.probe()]);
    await listener.call('listen', PORT, 'proxy');
    // What any local user may do with the default port while the proxy has another one.
    await listener.call('listen', 18_000, 'wrong port');
    await unprivileged.call('becomeUser', UNPRIVILEGED_USER);
  });

  after(async () => {
    await listener.call('close');
    listener.end();
    unprivileged.end();
    await host.startProxy();
    host.backend = backend;
    await host.setup('install');
    assertClosed(await host.probeAll(all(PROXIED)), PROXIED);
  });

  /** Polls from a container and from an unprivileged host process; no request may arrive where it must not. */
  async function poll(t: TestContext, what: string, action: () => Promise<unknown>): Promise<void> {
    const clients = [host.client('team').probe, unprivileged];
    const started = performance.now();
    const leaked = await host.leakedDuring(async () => {
      for (const probe of clients) await probe.call('poll', IMDS4, 80);
      let told: Readonly<Record<string, number>>[] = [];
      try {
        await action();
      } finally {
        told = await Promise.all(clients.map((probe) => probe.call('polled')));
      }
      const seconds = (performance.now() - started) / 1000;
      for (const [n, answers] of told.entries()) {
        t.diagnostic(`${what}: ${n === 0 ? 'container' : 'host process'} in ${seconds.toFixed(1)} s: ${JSON.stringify(answers)}`);
        assert.equal(answers[HOST_ROLE], undefined);
        assert.equal(answers['wrong port'], undefined);
        assert.ok((answers['proxy'] ?? 0) > 20, 'the proxy answers');
      }
    });
    assert.equal(leaked, 0);
  }

  test('install with changing options', async (t) => {
    await host.setup('install', ...OPTIONS);
    await poll(t, 'changing options', async () => {
      for (const more of OTHER_OPTIONS) await host.setup('install', ...OPTIONS, ...more);
    });
  });

  test('invalid options, close, and a verification', async (t) => {
    await host.setup('install', ...OPTIONS);
    const installed = await host.rules();
    await poll(t, 'invalid options', async () => {
      for (const invalid of INVALID_OPTIONS) {
        for (const command of ['install', 'verify']) {
          assert.equal((await host.trySetup(command, ...OPTIONS, ...invalid)).status, 2);
        }
        await host.setup('close', ...OPTIONS, ...invalid);
        assert.deepEqual(await host.rules(), installed, invalid.join(' '));
      }
      assert.match(await host.state(), /^failed \d+\n/);
      await host.setup('verify', ...OPTIONS);
    });
    assert.match(await host.state(), /^ok \d+\n$/);
  });

  test('from one packet filter to the other, and back', async (t) => {
    if (host.variant === 'none') return t.skip('there is only one');
    await host.setup('install', ...OPTIONS);
    const installed = await host.rules();
    const other = backend === NFT ? { ...IPTABLES, name: 'the other' } : NFT;
    await poll(t, 'packet filters', async () => {
      host.backend = other;
      await host.setup('install', ...OPTIONS);
      assert.match((await host.rules()).join('\n'), backend === NFT ? /METADATAPROXY-REDIRECT/ : /chain to_proxy/);
      assert.doesNotMatch((await host.rules()).join('\n'), backend === NFT ? /chain to_proxy/ : /METADATAPROXY-REDIRECT/);
      host.backend = backend;
      await host.setup('install', ...OPTIONS);
    });
    assert.deepEqual(await host.rules(), installed);
  });

  test('close with no rules in place stops everything, and the next install replaces it', async () => {
    await host.setup('remove');
    await host.setup('close', '--frobnicate');
    const { leaked, answers } = await host.probeAll();
    assert.deepEqual({ leaked, answers }, { leaked: 0, answers: { ...all(STOPPED) } });
    const closed = await host.rules();
    await host.setup('close');
    assert.deepEqual(await host.rules(), closed, 'a second close changes nothing');
    assert.equal((await host.trySetup('status')).status, 1);
    await host.setup('install');
    await host.setup('status');
    assert.doesNotMatch((await host.rules()).join('\n'), /metadataproxy_closed/);
    await host.setup('remove');
    await host.setup('close', ...HOST_NETWORK);
    await host.setup('remove');
    assert.deepEqual((await host.rules()).filter(isOurs), []);
  });

  test('an upgrade from version 0.1.0 replaces its rules', async (t) => {
    if (host.variant === 'none') return t.skip('version 0.1.0 needed iptables');
    for (const [program, rules] of Object.entries(RULES_OF_0_1_0)) {
      await host.shell(`${program}-restore --noflush <<'END'\n${rules}END`);
    }
    const { probe } = host.client('team');
    const leaked = await host.leakedDuring(async () => {
      await probe.call('poll', IMDS4, 80);
      await host.setup('install');
      const answers = await probe.call('polled');
      t.diagnostic(`upgrade: ${JSON.stringify(answers)}`);
      // Version 0.1.0 redirects to the default port, which has another program here.
      assert.equal(answers[HOST_ROLE], undefined);
    });
    assert.equal(leaked, 0);
    await host.setup('status');
    const upgraded = await host.rules();
    assert.doesNotMatch(upgraded.join('\n'), /filter .*METADATAPROXY-FORWARD|DOCKER-USER -j METADATAPROXY/);
    await host.setup('remove');
    await host.setup('install');
    assert.deepEqual(await host.rules(), upgraded);
  });
}
