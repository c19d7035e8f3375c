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
const UNITS = ['metadataproxy.socket', 'metadataproxy.service', 'metadataproxy-firewall.service',
  'metadataproxy-firewall-boot.service', 'metadataproxy-firewall-watch.service'];

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
    assert.equal((await host.try('sh', '-c', 'command -v node nft iptables docker')).stdout, '');
    await apt('install', host.give(DEB));
    await active(...UNITS);
    await host.run('metadataproxy-firewall', 'status');
    assertClosed(await rules());
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
    assert.deepEqual(await host.try('systemd-analyze', 'verify', ...UNITS), { status: 0, stdout: '', stderr: '' });
    const rated = await host.run('systemd-analyze', 'security', '--no-pager', '--offline=yes', '--threshold=20', 'metadataproxy.service');
    const [, exposure] = /Overall exposure level for metadataproxy\.service: ([\d.]+)/.exec(rated) ?? [];
    t.diagnostic(`exposure ${exposure}`);
    assert.ok(Number(exposure) <= 2);
  });

  test('the units make no ordering cycle with cloud-init, which runs before basic.target', async () => {
    const dependencies: Readonly<Record<string, string>> = {
      'cloud-init-local': 'Wants=network-pre.target\nBefore=network-pre.target sysinit.target',
      'cloud-init': 'Wants=systemd-networkd.service\nAfter=cloud-init-local.service systemd-networkd.service\nBefore=network-online.target sysinit.target',
    };
    for (const [name, lines] of Object.entries(dependencies)) {
      await host.shell(`printf '[Unit]\nDefaultDependencies=no\n${lines.replaceAll('\n', '\\n')}\n[Service]\nType=oneshot\nExecStart=/bin/true\n' \
        >/etc/systemd/system/${name}.service
        mkdir -p /etc/systemd/system/multi-user.target.wants; ln -s ../${name}.service /etc/systemd/system/multi-user.target.wants`);
    }
    await host.run('systemctl', 'daemon-reload');
    assert.deepEqual(await host.try('systemd-analyze', 'verify', 'default.target'), { status: 0, stdout: '', stderr: '' });
    await host.shell('rm /etc/systemd/system/cloud-init*.service /etc/systemd/system/multi-user.target.wants/cloud-init*; systemctl daemon-reload');
  });

  test('the generator gives the socket HOST and PORT, and orders the rules before quadlets', async () => {
    const was = await host.run('cat', ENV);
    await host.shell(`printf 'HOST=::\nPORT="18080"\n' >>${ENV}
      mkdir -p /etc/containers/systemd/more/users; cd /etc/containers/systemd
      touch app.container more/play.kube template@.container data.volume; echo ServiceName=named >other.container
      systemctl daemon-reload; systemctl restart metadataproxy.socket`);
    assert.equal(await host.property('metadataproxy.socket', 'Listen'), '[::]:18080 (Stream)');
    await host.until('curl --silent http://127.0.0.1:18080/ >/dev/null');
    const before = (await host.property('metadataproxy-firewall.service', 'Before')).split(' ');
    for (const unit of ['app.service', 'play.service', 'named.service', 'docker.service', 'podman-restart.service']) {
      assert.ok(before.includes(unit), `${unit} in ${before.join(' ')}`);
    }
    assert.ok(!before.some((unit) => /^(?:template|data-volume|other)/.test(unit)), before.join(' '));
    await host.shell(`rm -r /etc/containers; cat >${ENV} <<'END'\n${was}\nEND\nsystemctl daemon-reload; systemctl restart metadataproxy.socket`);
    assert.equal(await host.property('metadataproxy.socket', 'Listen'), '0.0.0.0:18000 (Stream)');
    await host.run('systemctl', 'restart', 'metadataproxy-firewall');
  });

  test('with Docker installed later, a container gets its role, and the rest is passed through', async () => {
    await host.shell(`cat >>${ENV} <<'END'\n${EDIT.join('\n')}\nEND\nsystemctl restart metadataproxy metadataproxy-firewall`);
    await apt('install', 'docker.io');
    await host.makeImage();
    await host.startContainer('web', 'web', '--restart=always');
    await answersAs('web', 'web');
    assert.equal((await host.ask('web', '/latest/meta-data/instance-id')).stdout, INSTANCE_ID);
  });

  test('once Docker has brought iptables, the firewall accepts containers\' requests there, too', async () => {
    await host.run('systemctl', 'reload', 'metadataproxy-firewall');
    assert.match(await host.run('iptables', '--list-rules'), /^-A INPUT -j METADATAPROXY-INPUT$/m);
    await host.run('metadataproxy-firewall', 'status', '--ecs');
  });

  test('while the service restarts, no request is lost, and no other user gets the port', async (t) => {
    await host.shell(`cat >/tmp/squat.js <<'END'
      let tries = 0;
      const squat = () => {
        const server = require('net').createServer();
        server.once('error', (error) => {
          if (error.code !== 'EADDRINUSE') { console.log(error.code); process.exit(1); }
          if (tries++ === 0) console.log('trying');
          setImmediate(squat);
        });
        server.listen(18000, '0.0.0.0', () => { console.log('got it'); process.exit(1); });
      };
      process.once('SIGTERM', () => { console.log('tried ' + tries); process.exit(0); });
      squat();\nEND
      systemd-run --quiet --unit=squatter --uid=nobody /usr/bin/node /tmp/squat.js`);
    await host.until('journalctl --unit squatter --output cat | grep -q trying');
    const asking = host.run('docker', 'exec', 'web', 'sh', '-c', `
      while [ ! -e /stop ]; do
        if [ "$(timeout 20 wget -q -O - http://169.254.169.254${ROLES})" = web ]; then echo good; else echo bad; fi
      done`);
    for (let n = 0; n < 5; n += 1) {
      await host.run('systemctl', 'restart', 'metadataproxy');
      await host.ready();
    }
    await host.shell('docker exec web sh -c ": >/stop"');
    const answers = (await asking).split('\n');
    await host.shell('systemctl stop squatter; docker exec web rm /stop 2>/dev/null || true');
    const tried = await host.journal('squatter');
    t.diagnostic(`${answers.length} requests, ${/tried \d+/.exec(tried)?.[0] ?? 'nothing tried'}`);
    assert.deepEqual(answers.filter((answer) => answer !== 'good'), []);
    assert.match(tried, /^tried \d+$/m);
    assert.doesNotMatch(tried, /got it/);
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
    assertOpen(await rules());
    await host.boot();
    await active(...UNITS, 'docker.service');
    const moment = async (unit: string, property: string): Promise<number> => Number(await host.property(unit, property));
    const ruled = await moment('metadataproxy-firewall.service', 'ExecMainExitTimestampMonotonic');
    const docker = await moment('docker.service', 'ExecMainStartTimestampMonotonic');
    assert.ok(ruled > 0 && ruled < docker, `rules at ${ruled}, Docker at ${docker}`);
    const closed = await moment('metadataproxy-firewall-boot.service', 'ExecMainExitTimestampMonotonic');
    const network = await moment('network-pre.target', 'ActiveEnterTimestampMonotonic');
    assert.ok(closed > 0 && closed < network && closed < ruled, `closed at ${closed}, network-pre.target at ${network}`);
    await host.until('docker exec web sleep 0 2>/dev/null');
    await answersAs('web', 'web');
    await host.run('metadataproxy-firewall', 'status', '--ecs');
    t.diagnostic(`memory: ${await host.property('metadataproxy.service', 'MemoryCurrent')} bytes`);
  });

  test('a mistake in the firewall\'s options, or a stopped service, opens no way to the host\'s credentials', async () => {
    const options = (value: string): Promise<string> => host.run('sed', '-i', `s/^FIREWALL_OPTIONS=.*/FIREWALL_OPTIONS="${value}"/`, ENV);
    await options('--nonsense');
    assert.notEqual((await host.try('systemctl', 'restart', 'metadataproxy-firewall')).status, 0);
    assert.match(await host.journal('metadataproxy-firewall'), /unknown command or option '--nonsense'/);
    assert.match(await host.run('cat', '/run/metadataproxy-firewall/state'), /^failed \d+\n./);
    assert.equal((await host.ask('web', ROLES)).stdout, 'web', 'the redirects stayed');
    await options('--ecs');
    await host.run('systemctl', 'restart', 'metadataproxy-firewall');
    await host.run('systemctl', 'stop', 'metadataproxy-firewall', 'metadataproxy.socket');
    assertClosed(await rules());
    const { status, stderr } = await host.ask('web', ROLES);
    assert.notEqual(status, 0);
    assert.match(stderr, /refused/);
    await host.run('systemctl', 'start', 'metadataproxy-firewall', 'metadataproxy');
    await active(...UNITS);
  });

  test('a reload takes new options, and the watcher takes them, too', async () => {
    await host.run('sed', '-i', 's/^FIREWALL_OPTIONS=.*/FIREWALL_OPTIONS="--ecs --anti-spoof"/', ENV);
    await host.run('systemctl', 'reload', 'metadataproxy-firewall');
    await host.run('metadataproxy-firewall', 'status', '--ecs', '--anti-spoof');
    await host.until(`tr '\\0' ' ' </proc/$(systemctl show --value --property MainPID metadataproxy-firewall-watch)/cmdline |
      grep -q -e '--ecs --anti-spoof'`);
    await host.run('sed', '-i', 's/^FIREWALL_OPTIONS=.*/FIREWALL_OPTIONS=--ecs/', ENV);
    await host.run('systemctl', 'reload', 'metadataproxy-firewall');
    await host.run('metadataproxy-firewall', 'status', '--ecs');
  });

  test('a mistake in the firewall\'s options at boot fails the unit, and closes the way all the same', async () => {
    await host.run('sed', '-i', 's/^FIREWALL_OPTIONS=.*/FIREWALL_OPTIONS="--ecs --host-network --proxy-user nobody-at-all"/', ENV);
    await host.powerOff();
    assertOpen(await rules());
    await host.boot();
    assert.equal(await host.property('metadataproxy-firewall.service', 'ActiveState'), 'failed');
    await active('docker.service', 'metadataproxy-firewall-watch.service');
    assertClosed(await rules());
    await host.until('docker exec web sleep 0 2>/dev/null');
    assert.notEqual((await host.ask('web', ROLES)).status, 0);
    await host.run('sed', '-i', 's/^FIREWALL_OPTIONS=.*/FIREWALL_OPTIONS=--ecs/', ENV);
    await host.run('systemctl', 'restart', 'metadataproxy-firewall');
    await answersAs('web', 'web');
    await host.run('metadataproxy-firewall', 'status', '--ecs');
  });

  test('wrong settings are in the journal, again and again, and the port stays the service\'s', async () => {
    await host.shell(`mkdir -p /run/systemd/system/metadataproxy.service.d
      printf '[Service]\\nEnvironment=\\nExecStart=\\nExecStart=/usr/bin/env PORT=many /usr/bin/metadataproxy\\n' \\
        >/run/systemd/system/metadataproxy.service.d/wrong.conf
      systemctl daemon-reload; systemctl restart metadataproxy || true`);
    await host.until('[ "$(systemctl show --value --property NRestarts metadataproxy)" -ge 2 ]');
    assert.match(await host.journal('metadataproxy'), /PORT.*many/);
    await active('metadataproxy.socket');
    await host.shell('rm -r /run/systemd/system/metadataproxy.service.d; systemctl daemon-reload; systemctl restart metadataproxy');
    await answersAs('web', 'web');
  });

  test('an upgrade keeps the edited settings, also where the package\'s own changed, and runs the new program', async () => {
    const before = await host.property('metadataproxy.service', 'MainPID');
    const edited = await host.run('cat', ENV);
    await apt('-o', 'Dpkg::Options::=--force-confdef', '-o', 'Dpkg::Options::=--force-confold', 'install', await nextVersion(host));
    assert.match(await host.run('dpkg-query', '--show', 'metadataproxy'), new RegExp(`${VERSION}\\+next$`));
    assert.equal(await host.run('cat', ENV), edited);
    await active(...UNITS);
    assert.notEqual(await host.property('metadataproxy.service', 'MainPID'), before);
    await answersAs('web', 'web');
  });

  test('an upgrade from a version without metadataproxy.socket hands the port over to it', async () => {
    await apt('purge', 'metadataproxy');
    await apt('install', await oldVersion(host));
    await host.shell(`printf '%s\\n' ${EDIT.join(' ')} >>${ENV}; systemctl restart metadataproxy`);
    await answersAs('web', 'web');
    assert.doesNotMatch(await host.run('ss', '-lntpH', 'sport', '=', '18000'), /systemd/);
    await apt('-o', 'Dpkg::Options::=--force-confold', 'install', host.give(DEB));
    await active(...UNITS);
    assert.match(await host.run('ss', '-lntpH', 'sport', '=', '18000'), /"systemd"/);
    await answersAs('web', 'web');
  });

  test('without systemd the init script starts, reloads and stops it, and its log is in a file', async () => {
    await host.run('systemctl', 'stop', 'metadataproxy.socket', 'metadataproxy-firewall');
    // Debian's own functions would hand it over to systemd, which runs here.
    const script = (action: string): string => `_SYSTEMCTL_SKIP_REDIRECT=1 SYSTEMCTL_SKIP_REDIRECT=1 /etc/init.d/metadataproxy ${action}`;
    await host.shell(script('start'));
    await host.ready();
    await host.shell(script('status'));
    const pid = await host.run('cat', '/run/metadataproxy.pid');
    assert.equal(await host.run('stat', '--format', '%U', `/proc/${pid}`), 'metadataproxy');
    await answersAs('web', 'web');
    const watcher = await host.run('cat', '/run/metadataproxy-firewall-watch.pid');
    await host.run('kill', '-0', watcher);
    await host.shell('nft delete table inet metadataproxy');
    await host.until('metadataproxy-firewall status --ecs >/dev/null');
    await host.shell(script('reload'));
    await host.until(`! kill -0 ${watcher} 2>/dev/null`);
    const next = await host.run('cat', '/run/metadataproxy-firewall-watch.pid');
    await host.run('kill', '-0', next);
    assert.match(await host.run('cat', '/var/log/metadataproxy.log'), /"msg":"listening"/);
    await host.shell(script('stop'));
    assert.equal((await host.try('kill', '-0', pid)).status, 1);
    assert.equal((await host.try('/bin/sh', '-c', script('status'))).status, 3);
    await host.until(`! kill -0 ${next} 2>/dev/null`);
    assert.equal((await host.try('pgrep', '-f', 'metadataproxy-firewall watch')).stdout, '', 'nothing of the watcher is left');
    assert.notEqual((await host.ask('web', ROLES)).status, 0);
    await host.run('systemctl', 'start', 'metadataproxy-firewall', 'metadataproxy');
  });

  test('when the package is removed the rules stay, and containers get nothing', async () => {
    await apt('remove', 'metadataproxy');
    assertClosed(await rules());
    assert.notEqual((await host.ask('web', ROLES)).status, 0);
    assert.match(await host.run('cat', ENV), /^DEFAULT_ACCOUNT_ID=/m);
  });

  test('a purge leaves no user, file, rule or chain', async () => {
    assert.notDeepEqual(await traces(), []);
    await apt('purge', 'metadataproxy');
    assert.deepEqual(await traces(), []);
    assertOpen(await rules());
    assert.equal((await host.try('systemctl', 'list-unit-files', '--no-legend', 'metadataproxy*')).stdout, '');
  });

  test('installed anew, after Docker, it works at once', async () => {
    await apt('install', host.give(DEB));
    await host.shell(`printf '%s\\n' ${EDIT.join(' ')} >>${ENV}; systemctl restart metadataproxy`);
    await answersAs('web', 'web');
    await host.run('metadataproxy-firewall', 'status');
  });
}

/** Both barriers are there: the packet filter, and the routing rules. */
function assertClosed(rules: string): void {
  assert.match(rules, /table inet metadataproxy(?:_closed)? \{[^]*ip daddr 169\.254\.169\.254 counter packets/);
  assert.match(rules, /^102:.*169\.254\.169\.254 prohibit/m);
}

/** Nothing of ours is there. */
function assertOpen(rules: string): void {
  assert.doesNotMatch(rules, /metadataproxy|mdproxy0|^10[0-3]:/im);
}

/** The same package as one of before 0.2.0: without the units that are new, and with a proxy that binds its port. */
async function oldVersion(host: DebianHost): Promise<string> {
  const made = await execute('/bin/sh', ['-ec', `
    rm -rf build/old && dpkg-deb -R ${DEB} build/old
    sed -i 's/^Version: .*/Version: 0.1.0/' build/old/DEBIAN/control
    cd build/old
    rm lib/systemd/system/metadataproxy.socket lib/systemd/system/metadataproxy-firewall-*.service
    rm lib/systemd/system-generators/metadataproxy
    sed -i 's/ metadataproxy-firewall-[a-z]*\\.service//g; s/ *metadataproxy\\.socket//g; /is-active metadataproxy.socket/,/^ *fi$/d' DEBIAN/postinst
    sed -i '/^PartOf=/d; /^Wants=metadataproxy.socket/d; s/ metadataproxy.socket//' lib/systemd/system/metadataproxy.service
    sed -i '/metadataproxy.socket\\|metadataproxy-firewall-\\|system-generators/d' DEBIAN/md5sums
    dpkg-deb --root-owner-group -b . ../metadataproxy-old.deb
  `]);
  assert.equal(made.status, 0, made.stderr);
  return host.give('build/metadataproxy-old.deb');
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
