// The rpm, installed by rpm's own program with its scripts run, on a host with systemd. There is no Fedora to be had
// here: the host is a Debian whose rpm database is empty but for a stand-in for what the package depends on.
import { strict as assert } from 'node:assert';
import { writeFileSync } from 'node:fs';
import { resolve as resolvePath } from 'node:path';
import { after, before, test } from 'node:test';
import { execute } from '../machine.ts';
import { DebianHost } from './debian-host.ts';
import { RPM } from './products.ts';

const ENV = '/etc/metadataproxy/metadataproxy.env';

export function rpm(): void {
  let host: DebianHost;
  before(async () => {
    host = await DebianHost.create('rpm');
    await host.boot();
    await host.run('apt-get', '--yes', '-qq', '--no-install-recommends', 'install', 'nodejs', 'nftables');
  });
  after(() => host.remove());

  test('rpm refuses it where what it depends on is missing', async () => {
    const { status, stderr } = await host.try('rpm', '--install', host.give(RPM));
    assert.notEqual(status, 0);
    assert.match(stderr, /nodejs\(engine\) >= 20 is needed by metadataproxy/);
  });

  test('rpm installs it: the user is there, the rules are in place, the service runs', async () => {
    await host.run('rpm', '--install', host.give(await standIn()));
    await host.run('rpm', '--install', host.give(RPM));
    assert.match(await host.run('id', 'metadataproxy'), /\(docker\)/);
    for (const unit of ['metadataproxy.socket', 'metadataproxy', 'metadataproxy-firewall', 'metadataproxy-firewall-watch']) {
      assert.equal((await host.try('systemctl', 'is-active', unit)).stdout.trim(), 'active', unit);
    }
    await host.run('metadataproxy-firewall', 'status');
    await host.until('metadataproxy check --health >/dev/null');
  });

  test('rpm --verify finds everything as it was packed', async () => {
    assert.deepEqual(await host.try('rpm', '--verify', 'metadataproxy'), { status: 0, stdout: '', stderr: '' });
  });

  test('an upgrade keeps the edited settings, and the rules', async () => {
    await host.shell(`echo DEFAULT_ROLE=edited >>${ENV}`);
    const pid = await host.property('metadataproxy', 'MainPID');
    await host.run('rpm', '--upgrade', '--force', host.give(RPM));
    assert.match(await host.run('cat', ENV), /^DEFAULT_ROLE=edited$/m);
    assert.notEqual(await host.property('metadataproxy', 'MainPID'), pid);
    await host.run('metadataproxy-firewall', 'status');
    await host.until('metadataproxy check --health >/dev/null');
  });

  test('erased it leaves no user, rule or chain, and no file but the settings that were edited', async () => {
    await host.run('rpm', '--erase', 'metadataproxy');
    assert.notEqual((await host.try('id', 'metadataproxy')).status, 0);
    assert.doesNotMatch(await host.networkRules(), /metadataproxy|^10[0-3]:/im);
    const left = await host.shell(`find / -xdev \\( -path /proc -o -path /sys -o -path /srv -o -path /var/log/journal \\) \\
      -prune -o -iname '*metadataproxy*' -print; grep -l metadataproxy /etc/passwd /etc/group || true`);
    assert.deepEqual(left.split('\n').sort(), ['/etc/metadataproxy', `${ENV}.rpmsave`]);
    assert.notEqual((await host.try('systemctl', 'is-active', 'metadataproxy')).status, 0);
  });
}

/** A package that only says that what Debian's packages have put there is there. */
async function standIn(): Promise<string> {
  const directory = resolvePath('build/stand-in');
  writeFileSync('build/stand-in.spec', `Name: stand-in
Version: 1
Release: 1
Summary: What Debian's packages have put there
License: MIT
BuildArch: noarch
Provides: /bin/sh, /usr/bin/node, nodejs(engine) = 20, nftables, iproute, systemd, shadow-utils
%description
As the summary says.
%files
`);
  const made = await execute('rpmbuild', ['--quiet', '-bb', 'build/stand-in.spec', '--define', `_topdir ${directory}`,
    '--define', '_rpmfilename stand-in.rpm']);
  assert.equal(made.status, 0, made.stderr);
  return `${directory}/RPMS/stand-in.rpm`;
}
