// The Debian package on a whole Debian that runs it by systemd: each test goes on from where the one before left it.
import { strict as assert } from 'node:assert';
import { after, before, test } from 'node:test';
import { HOST_MARK, INSTANCE_ID } from '../host-identity.ts';
import { execute } from '../machine.ts';
import { STS_FRONT_PORT } from '../ports.ts';
import { DebianHost } from './debian-host.ts';
import { DEB, VERSION } from './products.ts';

const ENV = '/etc/metadataproxy/metadataproxy.env';
const ROLES = '/latest/meta-data/iam/security-credentials/';
/** What an operator writes: the account, and the lab's STS. */
const EDIT = ['DEFAULT_ACCOUNT_ID=123456789012', 'LOG_FORMAT=json', `AWS_ENDPOINT_URL_STS=http://127.0.0.1:${STS_FRONT_PORT}`,
  'FIREWALL_OPTIONS=--ecs'];

export function debian(): void {
  let host: DebianHost;
  before(async () => {
    host = await DebianHost.create('debian');
    await host.boot();
  });
  after(() => host.remove());

  const apt = (...args: string[]): Promise<string> =>
    host.run('apt-get', '--yes', '-qq', '-o', 'Dpkg::Use-Pty=0', '--no-install-recommends', ...args);
  const active = async (...units: string[]): Promise<void> => {
    for (const unit of units) assert.equal((await host.try('systemctl', 'is-active', unit)).stdout.trim(), 'active', unit);
  };
  const rules = (): Promise<string> => host.networkRules();
  /** Everything that bears the package's name, but for what apt, the journal and man keep of their own. */
  const traces = async (): Promise<string[]> => {
    const found = await host.shell(`
      find / -xdev \\( -path /proc -o -path /sys -o -path /srv -o -path /var/lib/docker -o -path /var/log/journal \\
        -o -path /var/cache/man -o -path /tmp \\) -prune -o -iname '*metadataproxy*' -print
      grep -o metadataproxy /etc/passwd /etc/group /etc/shadow /etc/gshadow || true
    `);
    return found.split('\n').filter((line) => line !== '');
  };
  const answersAs = async (container: string, role: string): Promise<void> => {
    await host.ready();
    assert.deepEqual(await host.ask(container, ROLES), { status: 0, stdout: role, stderr: '' });
    const { stdout } = await host.ask(container, `${ROLES}${role}`);
    assert.match(stdout, /"Code" ?: ?"Success"/);
    assert.doesNotMatch(stdout, new RegExp(HOST_MARK));
  };

  test('apt install pulls what it depends on; the rules are in place, and the service runs, without Docker', async () => {
    assert.equal((await host.try('sh', '-c', 'command -v node iptables docker')).stdout, '');
    await apt('install', host.give(DEB));
    await active('metadataproxy.service', 'metadataproxy-firewall.service');
    await host.run('metadataproxy-firewall', 'status');
    assert.match(await rules(), /METADATAPROXY-FORWARD -d 169\.254\.169\.254/);
    await host.run('metadataproxy', 'check', '--health');
  });

  test('it runs as a user of its own, in group docker, with no capability', async () => {
    const pid = await host.property('metadataproxy.service', 'MainPID');
    const status = await host.run('cat', `/proc/${pid}/status`);
    const user = await host.run('id', '--user', 'metadataproxy');
    assert.match(status, new RegExp(`^Uid:(\\t${user}){4}$`, 'm'));
    assert.match(status, /^CapBnd:\t0+$/m);
    const group = (await host.run('getent', 'group', 'docker')).split(':')[2];
    assert.match(status, new RegExp(`^Groups:.*\\b${group}\\b`, 'm'));
    assert.equal(await host.run('stat', '--format', '%U:%G %a', ENV), 'root:root 640');
  });

  test('systemd finds nothing wrong with the units, and rates the service\'s exposure 2.0 or lower', async (t) => {
    const units = ['metadataproxy', 'metadataproxy-firewall', 'metadataproxy-firewall-docker'].map((name) => `${name}.service`);
    assert.deepEqual(await host.try('systemd-analyze', 'verify', ...units), { status: 0, stdout: '', stderr: '' });
    const rated = await host.run('systemd-analyze', 'security', '--no-pager', '--offline=yes', '--threshold=20', 'metadataproxy.service');
    const [, exposure] = /Overall exposure level for metadataproxy\.service: ([\d.]+)/.exec(rated) ?? [];
    t.diagnostic(`exposure ${exposure}`);
    assert.ok(Number(exposure) <= 2);
  });

  test('with Docker installed later, a container gets its role, and the rest is passed through', async () => {
    await host.shell(`cat >>${ENV} <<'END'\n${EDIT.join('\n')}\nEND\nsystemctl restart metadataproxy metadataproxy-firewall`);
    await apt('install', 'docker.io');
    await host.makeImage();
    await host.startContainer('web', 'web', '--restart=always');
    await answersAs('web', 'web');
    assert.equal((await host.ask('web', '/latest/meta-data/instance-id')).stdout, INSTANCE_ID);
  });

  test('once Docker has made its chain, the rules are in that, too', async () => {
    assert.match(await rules(), /^-A DOCKER-USER -j METADATAPROXY-FORWARD$/m);
    await host.run('metadataproxy-firewall', 'status', '--ecs');
  });

  test('it comes back at once when it is killed, and systemctl reload does not end it', async () => {
    const pid = await host.property('metadataproxy.service', 'MainPID');
    await host.run('systemctl', 'kill', '--signal=KILL', 'metadataproxy.service');
    await host.until(`[ "$(systemctl show --value --property MainPID metadataproxy)" != ${pid} ] &&
      metadataproxy check --health >/dev/null`);
    const second = await host.property('metadataproxy.service', 'MainPID');
    await host.run('systemctl', 'reload', 'metadataproxy.service');
    await host.run('metadataproxy', 'check', '--health');
    assert.equal(await host.property('metadataproxy.service', 'MainPID'), second);
  });

  test('with host-network.conf a container on the host\'s network gets its own role', async () => {
    const [dropIn, was] = ['/etc/systemd/system/metadataproxy.service.d', await host.run('cat', ENV)];
    await host.shell(`install -D -m 644 -t ${dropIn} /usr/share/doc/metadataproxy/examples/host-network.conf
      sed -i 's/^FIREWALL_OPTIONS=.*/FIREWALL_OPTIONS="--ecs --host-network"/' ${ENV}; echo HOST_NETWORK=true >>${ENV}
      systemctl daemon-reload; systemctl restart metadataproxy metadataproxy-firewall`);
    await host.startContainer('near', 'near', '--network=host', '--user=1000');
    await answersAs('near', 'near');
    await host.run('docker', 'rm', '--force', 'near');
    await host.shell(`rm -r ${dropIn}; cat >${ENV} <<'END'\n${was}\nEND\nsystemctl daemon-reload
      systemctl restart metadataproxy metadataproxy-firewall`);
  });

  test('after a boot the rules are there before Docker, and containers that come back get their role', async (t) => {
    await host.powerOff();
    assert.doesNotMatch(await host.networkRules(), /METADATAPROXY/, 'no rule outlives the power');
    await host.boot();
    await active('metadataproxy.service', 'metadataproxy-firewall.service', 'docker.service');
    const moment = async (unit: string, property: string): Promise<number> => Number(await host.property(unit, property));
    const ruled = await moment('metadataproxy-firewall.service', 'ExecMainExitTimestampMonotonic');
    const docker = await moment('docker.service', 'ExecMainStartTimestampMonotonic');
    assert.ok(ruled > 0 && ruled < docker, `rules at ${ruled}, Docker at ${docker}`);
    await host.until('docker exec web sleep 0 2>/dev/null');
    await answersAs('web', 'web');
    await host.run('metadataproxy-firewall', 'status', '--ecs');
    t.diagnostic(`memory: ${await host.property('metadataproxy.service', 'MemoryCurrent')} bytes`);
  });

  test('a mistake in the firewall\'s options, or a stopped service, opens no way to the host\'s credentials', async () => {
    await host.run('sed', '-i', 's/^FIREWALL_OPTIONS=.*/FIREWALL_OPTIONS=--nonsense/', ENV);
    assert.notEqual((await host.try('systemctl', 'restart', 'metadataproxy-firewall')).status, 0);
    await host.run('systemctl', 'stop', 'metadataproxy');
    const { status, stderr } = await host.ask('web', ROLES);
    assert.notEqual(status, 0);
    assert.match(stderr, /refused/);
    await host.run('sed', '-i', 's/^FIREWALL_OPTIONS=.*/FIREWALL_OPTIONS=--ecs/', ENV);
    await host.run('systemctl', 'restart', 'metadataproxy-firewall');
    await host.run('systemctl', 'stop', 'metadataproxy-firewall');
    assert.notEqual((await host.ask('web', ROLES)).status, 0, 'a stop takes no rule away');
    await host.run('systemctl', 'start', 'metadataproxy-firewall', 'metadataproxy');
  });

  test('wrong settings end in a failed unit that says what is wrong', async () => {
    await host.shell(`mkdir -p /run/systemd/system/metadataproxy.service.d
      printf '[Service]\\nEnvironment=\\nExecStart=\\nExecStart=/usr/bin/env PORT=many /usr/bin/metadataproxy\\n' \\
        >/run/systemd/system/metadataproxy.service.d/wrong.conf
      systemctl daemon-reload; systemctl restart metadataproxy || true`);
    await host.until('systemctl is-failed --quiet metadataproxy');
    assert.match(await host.journal('metadataproxy'), /PORT.*many/);
    await host.shell('rm -r /run/systemd/system/metadataproxy.service.d; systemctl daemon-reload; systemctl restart metadataproxy');
    await answersAs('web', 'web');
  });

  test('an upgrade keeps the edited settings, also where the package\'s own changed, and runs the new program', async () => {
    const before = await host.property('metadataproxy.service', 'MainPID');
    const edited = await host.run('cat', ENV);
    await apt('-o', 'Dpkg::Options::=--force-confdef', '-o', 'Dpkg::Options::=--force-confold', 'install', await nextVersion(host));
    assert.match(await host.run('dpkg-query', '--show', 'metadataproxy'), new RegExp(`${VERSION}\\+next$`));
    assert.equal(await host.run('cat', ENV), edited);
    await active('metadataproxy.service', 'metadataproxy-firewall.service');
    assert.notEqual(await host.property('metadataproxy.service', 'MainPID'), before);
    await answersAs('web', 'web');
  });

  test('without systemd the init script starts, reloads and stops it, and its log is in a file', async () => {
    await host.run('systemctl', 'stop', 'metadataproxy');
    // Debian's own functions would hand it over to systemd, which runs here.
    const script = (action: string): string => `_SYSTEMCTL_SKIP_REDIRECT=1 SYSTEMCTL_SKIP_REDIRECT=1 /etc/init.d/metadataproxy ${action}`;
    await host.shell(script('start'));
    await host.ready();
    await host.shell(script('status'));
    const pid = await host.run('cat', '/run/metadataproxy.pid');
    assert.equal(await host.run('stat', '--format', '%U', `/proc/${pid}`), 'metadataproxy');
    await answersAs('web', 'web');
    await host.shell(script('reload'));
    assert.match(await host.run('cat', '/var/log/metadataproxy.log'), /"msg":"listening"/);
    await host.shell(script('stop'));
    assert.equal((await host.try('kill', '-0', pid)).status, 1);
    assert.equal((await host.try('/bin/sh', '-c', script('status'))).status, 3);
    assert.notEqual((await host.ask('web', ROLES)).status, 0);
    await host.run('systemctl', 'start', 'metadataproxy');
  });

  test('when the package is removed the rules stay, and containers get nothing', async () => {
    await apt('remove', 'metadataproxy');
    assert.match(await rules(), /METADATAPROXY-FORWARD -d 169\.254\.169\.254/);
    assert.notEqual((await host.ask('web', ROLES)).status, 0);
    assert.match(await host.run('cat', ENV), /^DEFAULT_ACCOUNT_ID=/m);
  });

  test('a purge leaves no user, file, rule or chain', async () => {
    assert.notDeepEqual(await traces(), []);
    await apt('purge', 'metadataproxy');
    assert.deepEqual(await traces(), []);
    assert.doesNotMatch(await rules(), /METADATAPROXY/);
    assert.equal((await host.try('systemctl', 'list-unit-files', '--no-legend', 'metadataproxy*')).stdout, '');
  });

  test('installed anew, after Docker, it works at once', async () => {
    await apt('install', host.give(DEB));
    await host.shell(`printf '%s\\n' ${EDIT.join(' ')} >>${ENV}; systemctl restart metadataproxy`);
    await answersAs('web', 'web');
    await host.run('metadataproxy-firewall', 'status');
  });
}

/** The same package as a newer one, whose settings file has changed as well. */
async function nextVersion(host: DebianHost): Promise<string> {
  const made = await execute('/bin/sh', ['-ec', `
    rm -rf build/next && dpkg-deb -R ${DEB} build/next
    sed -i 's/^Version: .*/&+next/' build/next/DEBIAN/control
    echo '# A setting that is new.' >>build/next/etc/metadataproxy/metadataproxy.env
    dpkg-deb --root-owner-group -b build/next build/metadataproxy-next.deb
  `]);
  assert.equal(made.status, 0, made.stderr);
  return host.give('build/metadataproxy-next.deb');
}
