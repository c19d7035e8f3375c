import { strict as assert } from 'node:assert';
import type { ChildProcess } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { after, before, test, type TestContext } from 'node:test';
import { HOST_ROLE } from '../host-identity.ts';
import { HOST_CLIENTS, PROXY_USER } from './addresses.ts';
import type { Backend } from './backends.ts';
import type { FirewallHost } from './firewall-host.ts';
import { PROXIED, all } from './rules.ts';
import { until } from './until.ts';

/** Something that takes rules away, or may. */
interface Disturbance {
  readonly name: string;
  happen(host: FirewallHost): Promise<unknown>;
  /** Whether it can happen beside a backend; always, unless given. */
  applies?(backend: Backend, host: FirewallHost): boolean;
}

const hasIptables: Disturbance['applies'] = (_, { variant }) => variant !== 'none';
const hasTable: Disturbance['applies'] = ({ filter }) => filter === 'nft';
const IPTABLES_TABLES = ['nat', 'mangle', 'filter', 'raw'];

const DISTURBANCES: readonly Disturbance[] = [
  // First, because Docker misses its chains once they are flushed.
  {
    name: 'docker network create',
    happen: (host) => host.docker.docker('network', 'create', `another-${(networks += 1)}`),
  },
  {
    name: 'a restart of Docker',
    async happen(host) {
      await host.restartDocker();
      await host.startClients();
    },
    // It takes seconds: once for each host.
    applies: (backend, host) => backend.filter === (host.variant === 'legacy' ? 'iptables' : 'nft'),
  },
  ...IPTABLES_TABLES.map((table): Disturbance => ({
    name: `iptables --table ${table} --flush`,
    happen: (host) => host.iptables('--table', table, '--flush'),
    applies: hasIptables,
  })),
  {
    name: 'every iptables table flushed, chains deleted, policies ACCEPT',
    async happen(host) {
      for (const table of IPTABLES_TABLES) {
        await host.iptables('--table', table, '--flush');
        await host.iptables('--table', table, '--delete-chain');
      }
      for (const chain of ['INPUT', 'FORWARD', 'OUTPUT']) await host.iptables('--policy', chain, 'ACCEPT');
    },
    applies: hasIptables,
  },
  ...['delete table inet metadataproxy', 'flush table inet metadataproxy', 'flush chain inet metadataproxy to_proxy',
    'flush chain inet metadataproxy forward', 'flush chain inet metadataproxy output'].map((command): Disturbance => ({
    name: `nft ${command}`, happen: (host) => host.shell(`nft ${command}`), applies: hasTable,
  })),
  { name: 'nft flush ruleset', happen: (host) => host.shell('nft flush ruleset') },
  {
    name: 'ip rule flush',
    happen: (host) => host.shell(`
      for family in 4 6; do
        ip -$family rule flush
        ip -$family rule add priority 32766 lookup main
      done`),
  },
];

const OPTIONS = ['--host-network', '--proxy-user', String(PROXY_USER)];
const ALL_PROXIED = { ...all(PROXIED), ...Object.fromEntries(HOST_CLIENTS.map(({ name }) => [name, '404'])) };

/** How long the repairs took, in milliseconds, on all hosts. */
const healed = { verify: [] as number[], watch: [] as number[] };
let networks = 0;

/**
 * Whatever is taken away, no container and no unprivileged process of the host's network reaches the host's credentials;
 * and a repair brings the proxy back.
 */
export function matrix(lab: () => FirewallHost, backend: Backend, { watches }: { readonly watches: boolean }): void {
  let host: FirewallHost;

  before(() => {
    host = lab();
  });

  test('install, with clients on the host\'s network', async () => {
    host.backend = backend;
    await host.restoreDockerRules();
    await host.setup('install', ...OPTIONS);
    await host.startHostClients();
    assert.deepEqual(await host.probeAll(ALL_PROXIED), { answers: ALL_PROXIED, leaked: 0 });
  });

  after(() => host.stopHostClients());

  for (const { name, happen, applies } of DISTURBANCES) {
    test(`${name}: closed, and verify repairs it`, async (t) => {
      if (applies?.(backend, host) === false) return t.skip('not on this host');
      await happen(host);
      const { answers, leaked } = await host.probeAll();
      assert.equal(leaked, 0);
      assert.ok(!Object.values(answers).includes(HOST_ROLE), JSON.stringify(answers));
      const started = performance.now();
      await host.setup('verify', ...OPTIONS);
      record(t, 'verify', performance.now() - started);
      assert.deepEqual(await host.probeAll(ALL_PROXIED), { answers: ALL_PROXIED, leaked: 0 });
    });
  }

  if (!watches) return;
  let watcher: ChildProcess | undefined;
  test('watch verifies when it starts', async () => {
    const started = Date.now();
    watcher = await host.watch(...OPTIONS);
    await newState(host, started);
  });

  after(async () => {
    if (watcher !== undefined) await host.endWatch(watcher);
  });

  for (const { name, happen, applies } of DISTURBANCES) {
    // Docker takes none of our rules away.
    if (/docker/i.test(name)) continue;
    test(`${name}: watch repairs it`, async (t) => {
      if (applies?.(backend, host) === false) return t.skip('not on this host');
      const started = Date.now();
      const leaked = await host.leakedDuring(async () => {
        await happen(host);
        await until(async () => (await host.trySetup('status', ...OPTIONS)).status === 0);
      });
      assert.equal(leaked, 0);
      // A version that is not newer means that nothing of ours was gone.
      const verified = await stateTime(host);
      if (verified > started) record(t, 'watch', verified - started);
      assert.deepEqual(await host.probeAll(ALL_PROXIED), { answers: ALL_PROXIED, leaked: 0 });
    });
  }
}

/** Prints how long repairs took. */
export function healingTimes(t: TestContext): void {
  for (const [how, times] of Object.entries(healed)) {
    const sorted = times.sort((a, b) => a - b).map(Math.round);
    const median = sorted[Math.floor(sorted.length / 2)];
    t.diagnostic(`${how}: ${sorted.length} repairs, min ${sorted[0]} ms, median ${median} ms, max ${sorted.at(-1)} ms`);
  }
}

/** Resolves when the state file says "ok" in a version newer than a moment. */
function newState(host: FirewallHost, moment: number): Promise<void> {
  return until(async () => (await stateTime(host)) > moment && (await host.state()).startsWith('ok '));
}

async function stateTime(host: FirewallHost): Promise<number> {
  return (await stat(host.machine.path('/run/metadataproxy-firewall/state')).catch(() => undefined))?.mtimeMs ?? 0;
}

function record(t: TestContext, how: keyof typeof healed, ms: number): void {
  healed[how].push(ms);
  t.diagnostic(`${how} took ${ms.toFixed(0)} ms`);
}
