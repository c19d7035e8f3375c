// A Debian host that boots, with our package, Docker and a firewall manager, and clients that poll the metadata service.
import { strict as assert } from 'node:assert';
import { DebianHost } from '../packages/debian-host.ts';
import { DEB } from '../packages/products.ts';
import { STS_FRONT_PORT } from '../ports.ts';
import type { SideProgram } from '../side-program.ts';
import type { Polled, PollerCalls } from './poller.ts';

export const ENV = '/etc/metadataproxy/metadataproxy.env';
const IMDS = '169.254.169.254';
const IMDS_V6 = 'fd00:ec2::254';

/** Docker names no bridge team0 of its own accord. */
export const OPTIONS = '--host-network --container-iface docker0 --container-iface br-+ --container-iface team0';
const SETTINGS = ['DEFAULT_ACCOUNT_ID=123456789012', `AWS_ENDPOINT_URL_STS=http://127.0.0.1:${STS_FRONT_PORT}`, 'HOST=::',
  'HOST_NETWORK=true', 'MAX_REQUESTS_PER_SECOND=0', `FIREWALL_OPTIONS="${OPTIONS}"`];

/** An unprivileged process on the host. */
const USER = 1000;
/** The containers together ask 750 times a second: more would take the processors from what they watch. */
const CONTAINER_MS = 4;
/** For each request the proxy looks for the process in all of /proc. */
const HOST_MS = 20;
/** So many answers in a row count as healed. */
const HEALED = 30;

export interface Manager {
  readonly name: string;
  readonly packages: readonly string[];
  /** A line of shell that configures and starts it. */
  readonly configure: string;
  /** What is done to it: in words, and as a line of shell. */
  readonly events: readonly (readonly [string, string])[];
}

interface Client {
  readonly name: string;
  readonly poller: SideProgram<PollerCalls>;
}

/** What the clients met in an event, in the order of `CLIENTS`. */
export interface Outcome {
  readonly leaked: number;
  readonly foreign: number;
  /** Requests that found no redirect: a routing rule refused them. */
  readonly refused: number;
  /** For each client, milliseconds from the beginning of the event to the last request without an answer. */
  readonly healed: readonly number[];
  readonly sent: number;
}

export const CLIENTS = ['bridge', 'custom bridge', 'IPv6', 'host network'] as const;

export class ManagedHost {
  readonly host: DebianHost;
  #clients: Client[] = [];

  private constructor(host: DebianHost) {
    this.host = host;
  }

  /** The manager first, then our package, then Docker, whose first start makes some managers flush. */
  static async create(manager: Manager): Promise<ManagedHost> {
    const host = await DebianHost.create(`firewall-${manager.name.replaceAll(/\W+/g, '-')}`);
    const managed = new ManagedHost(host);
    await host.addMetadataV6('../firewall-managers/imds-v6');
    await host.boot();
    if (manager.packages.length > 0) await managed.apt(...manager.packages);
    await host.shell(manager.configure);
    await managed.apt(host.give(DEB));
    await host.shell(`cat >>${ENV} <<'END'\n${SETTINGS.join('\n')}\nEND
      install -D -m 644 -t /etc/systemd/system/metadataproxy.service.d /usr/share/doc/metadataproxy/examples/host-network.conf
      mkdir -p /etc/docker; echo '{"live-restore": true}' >/etc/docker/daemon.json
      systemctl daemon-reload
      systemctl restart metadataproxy.socket metadataproxy-firewall`);
    await managed.apt('docker.io', 'iptables');
    await host.makeImage();
    await host.shell(`docker network create --opt com.docker.network.bridge.name=team0 team
      docker network create --ipv6 --subnet fd00:d0c::/64 six`);
    await host.ready();
    await host.startContainer('web', 'web');
    await host.startContainer('team', 'team', '--network=team');
    await host.startContainer('six', 'six', '--network=six');
    // Docker has brought iptables: the rules that need it are made now, not only when the watcher looks next.
    await host.run('systemctl', 'reload', 'metadataproxy-firewall');
    await managed.healed();
    return managed;
  }

  async startClients(): Promise<void> {
    const places = [['web', IMDS, CONTAINER_MS, 0], ['team', IMDS, CONTAINER_MS, 0], ['six', IMDS_V6, CONTAINER_MS, 0],
      [undefined, IMDS, HOST_MS, USER]] as const;
    this.#clients = await Promise.all(places.map(async ([container, address, interval, user], n) => {
      const poller = await this.host.startProgram<PollerCalls>('../firewall-managers/poller', container);
      await poller.call('start', address, container ?? '', interval, user);
      return { name: CLIENTS[n] ?? '', poller };
    }));
    await this.#answered();
  }

  stopClients(): void {
    for (const { poller } of this.#clients) poller.end();
    this.#clients = [];
  }

  /** Runs a line of shell while all clients poll; resolves once all is in place and each is answered again. */
  async during(event: string): Promise<Outcome> {
    await Promise.all(this.#clients.map(({ poller }) => poller.call('reset')));
    await this.host.shell(event);
    await this.healed();
    await this.#answered();
    const polled = await this.counts();
    const sum = (of: (one: Polled) => number): number => polled.reduce((total, one) => total + of(one), 0);
    return {
      leaked: sum(({ leaked }) => leaked),
      foreign: sum(({ foreign }) => foreign),
      refused: sum(({ refused }) => refused),
      healed: polled.map(({ lastFailure }) => Math.round(lastFailure)),
      sent: sum(({ sent }) => sent),
    };
  }

  counts(): Promise<Polled[]> {
    return Promise.all(this.#clients.map(({ poller }) => poller.call('counts')));
  }

  reset(): Promise<unknown> {
    return Promise.all(this.#clients.map(({ poller }) => poller.call('reset')));
  }

  /** Resolves when the script finds all of its rules in place. */
  async healed(): Promise<void> {
    // A look takes a part of a second of one processor, which the repair needs, too.
    await this.host.run('timeout', '120', '/bin/sh', '-c', `. ${ENV}
      until metadataproxy-firewall status --proxy-port "\${PORT:-18000}" $FIREWALL_OPTIONS >/dev/null 2>&1; do sleep 0.5; done`);
  }

  apt(...packages: string[]): Promise<string> {
    return this.host.run('apt-get', '--yes', '-qq', '-o', 'Dpkg::Use-Pty=0', '--no-install-recommends', 'install', ...packages);
  }

  async active(...units: string[]): Promise<void> {
    for (const unit of units) assert.equal(await this.host.property(unit, 'ActiveState'), 'active', unit);
  }

  remove(): Promise<void> {
    this.stopClients();
    return this.host.remove();
  }

  async #answered(): Promise<void> {
    const limit = new Promise<never>((_, reject) => {
      setTimeout(() => {
        void this.counts().then((polled) => reject(new Error(`not every client is answered: ${JSON.stringify(polled)}`)));
      }, 120_000).unref();
    });
    await Promise.race([Promise.all(this.#clients.map(({ poller }) => poller.call('answers', HEALED))), limit]);
  }
}
