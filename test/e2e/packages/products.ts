// What `make deb rpm dist` makes, and how: the bytes, what is in them, and what the distributions' checkers say.
import { strict as assert } from 'node:assert';
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join, resolve as resolvePath } from 'node:path';
import { before, describe, test } from 'node:test';
import { execute } from '../machine.ts';

export const VERSION = (JSON.parse(readFileSync('package.json', 'utf8')) as { readonly version: string }).version;
export const DEB = `dist/metadataproxy_${VERSION}_all.deb`;
export const RPM = `dist/metadataproxy-${VERSION}-1.noarch.rpm`;
const TARBALL = `dist/metadataproxy-${VERSION}.tar.gz`;

/** The bound for each package, and for what it installs, without node. */
const MEGABYTE = 1_000_000;

/** A second source tree, elsewhere. */
const ELSEWHERE = resolvePath('build/e2e-elsewhere');

/** Runs a program to its end; a status other than 0 is an error. @returns what it printed, on both its outputs */
async function run(program: string, ...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await execute(program, args);
  assert.equal(status, 0, `${program} ${args.join(' ')} (${status}): ${stderr}${stdout}`);
  return stdout + stderr;
}

/** Makes the packages that the tests after this need. */
export async function makePackages(): Promise<void> {
  await run('make', '--no-print-directory', 'deb', 'rpm', 'dist');
}

export function products(): void {
  before(makePackages);

  test('two builds in different directories, with different umasks and time zones, give the same bytes', async () => {
    rmSync(ELSEWHERE, { recursive: true, force: true });
    for (const name of (await run('git', 'ls-files', '--cached', '--others', '--exclude-standard')).trim().split('\n')) {
      cpSync(name, join(ELSEWHERE, name));
    }
    // Installed already; `make` would fetch it all again.
    cpSync('node_modules', join(ELSEWHERE, 'node_modules'), { recursive: true, verbatimSymlinks: true });
    // The copy has no history to take the time from.
    const epoch = (await run('make', '--no-print-directory', '--eval=epoch: ; @echo $(SOURCE_DATE_EPOCH)', 'epoch')).trim();
    assert.match(epoch, /^\d{10}$/);
    await run('env', `SOURCE_DATE_EPOCH=${epoch}`, 'TZ=Asia/Kolkata', 'sh', '-c',
      `umask 077; cd ${ELSEWHERE} && touch node_modules && exec make deb rpm dist`);
    for (const product of [DEB, RPM, TARBALL]) {
      assert.ok(readFileSync(product).equals(readFileSync(join(ELSEWHERE, product))), `${product} differs`);
    }
    rmSync(ELSEWHERE, { recursive: true });
  });

  test('each package, and what it installs, is less than a megabyte', async (t) => {
    const sizes = {
      deb: statSync(DEB).size,
      rpm: statSync(RPM).size,
      'installed by deb': 1024 * Number(await run('dpkg-deb', '--field', DEB, 'Installed-Size')),
      'installed by rpm': Number(await run('rpm', '--query', '--queryformat', '%{SIZE}', '--package', RPM)),
    };
    for (const [what, size] of Object.entries(sizes)) {
      t.diagnostic(`${what}: ${size} bytes`);
      assert.ok(size > 100_000 && size < MEGABYTE, `${what}: ${size}`);
    }
  });

  test('lintian and rpmlint find nothing that is not excused with a reason', async () => {
    const found = await run('lintian', '--allow-root', '--display-info', '--pedantic', '--fail-on', 'error,warning,info,pedantic',
      DEB);
    assert.doesNotMatch(found, /^[EWIP]:/m);
    const rpm = await run('rpmlint', '--config', 'packaging/rpm/rpmlint.toml', RPM, 'build/rpm/metadataproxy.spec');
    assert.match(rpm, /1 packages and 1 specfiles checked; 0 errors, 0 warnings/);
  });

  test('shellcheck finds nothing in any script', async () => {
    const found = await run('git', 'grep', '--untracked', '--extended-regexp', '--files-with-matches',
      '^#!(/usr)?/bin/(env )?(ba)?sh');
    const scripts = found.trim().split('\n').filter((path) => /^#!/.test(readFileSync(path, 'utf8')));
    assert.ok(scripts.includes('packaging/deb/postinst') && scripts.includes('iptables/setup'), scripts.join());
    await run('shellcheck', ...scripts);
    await run('shellcheck', '--shell=bash', 'build/packaging/completion.bash');
    const scriptlets = await run('sh', '-c', `rpm --query --package --queryformat '%{PREIN}\\n%{POSTIN}\\n%{PREUN}\\n%{POSTUN}\\n' ${RPM} |
      shellcheck --shell=sh --exclude=SC2086 -`);
    assert.equal(scriptlets, '');
  });

  test('zsh reads its completion, which gives each of the two programs a list of its own', async () => {
    const listed = (service: string): Promise<string> => run('zsh', '-fc',
      `service=${service}; _arguments() { print -l -- "$@" }; source build/packaging/completion.zsh`);
    assert.match(await listed('metadataproxy'), /^\*--verbose=-\[[^\]]+\]::value:\(true false\)$[^]+^1:command:\(\(check/m);
    assert.match(await listed('metadataproxy-firewall'), /^\*--ecs\[[^\]]+\]$[^]+^1:command:\(\(install/m);
  });

  test('the manual pages render without a warning', async () => {
    for (const page of ['metadataproxy.8', 'metadataproxy-firewall.8']) {
      const rendered = await run('env', 'LC_ALL=C.UTF-8', 'MANWIDTH=80', 'man', '--warnings', '--local-file',
        `build/packaging/${page}`);
      assert.match(rendered, /^NAME\n[^]+^SEE ALSO$/m);
      assert.doesNotMatch(rendered, /warning:|\\f|@[A-Z]+@/);
    }
  });

  test('no package has node_modules, and the program names the node that runs it', async () => {
    const files = await run('dpkg-deb', '--contents', DEB) + await run('rpm', '--query', '--list', '--package', RPM);
    assert.doesNotMatch(files, /node_modules/);
    for (const root of ['build/deb/root', 'build/rpm/root']) {
      assert.match(readFileSync(`${root}/usr/bin/metadataproxy`, 'utf8'), /^#!\/usr\/bin\/node\n/);
    }
  });

  test('the packages depend on what the program needs, and on no more', async () => {
    assert.equal((await run('dpkg-deb', '--field', DEB, 'Depends')).trim(), 'adduser, iproute2, nftables | iptables, nodejs (>= 20)');
    const needs = (await run('rpm', '--query', '--requires', '--package', RPM)).trim().split('\n');
    const wanted = ['(nftables or iptables)', '/bin/sh', '/usr/bin/node', 'config', 'iproute', 'nodejs(engine)', 'rpmlib', 'shadow-utils', 'systemd'];
    const names = needs.map((need) => need.replace(/ (?!.*\)$).*/, '').replace(/(?<=^(?:config|rpmlib))\(.*/, ''));
    assert.deepEqual([...new Set(names)].sort(), wanted);
    assert.ok(needs.includes('nodejs(engine) >= 20'));
  });

  test('the tarball unpacks to what its checksums say', async () => {
    const there = resolvePath('build/e2e-unpacked');
    rmSync(there, { recursive: true, force: true });
    mkdirSync(there, { recursive: true });
    await run('sh', '-ec', `cd dist && sha256sum --check --quiet ${TARBALL.slice(5)}.sha256
      tar -xzf ${TARBALL.slice(5)} -C ${there} --strip-components=1
      cd ${there} && sha256sum --check --quiet SHA256SUMS`);
    const listed = readFileSync(join(there, 'SHA256SUMS'), 'utf8').trim().split('\n').map((line) => line.slice(66));
    assert.deepEqual(listed.sort(), filesBelow(there).filter((name) => name !== 'SHA256SUMS'));
    assert.equal((await run(join(there, 'usr/local/bin/metadataproxy'), '--version')).trim(), VERSION);
  });

  describe('make install', () => {
    const destination = resolvePath('build/e2e-destination');
    const make = (target: string): Promise<string> =>
      run('make', '--no-print-directory', target, `DESTDIR=${destination}`, 'PREFIX=/opt/metadataproxy');
    before(() => rmSync(destination, { recursive: true, force: true }));

    test('puts everything below DESTDIR and PREFIX, and the paths in the units lead there', async () => {
      await make('install');
      const outside = filesBelow(destination).filter((name) => !name.startsWith('opt/metadataproxy/'));
      assert.deepEqual(outside, ['etc/metadataproxy/metadataproxy.env']);
      for (const unit of filesBelow(destination).filter((name) => name.endsWith('.service'))) {
        for (const [program] of readFileSync(join(destination, unit), 'utf8').matchAll(/(?<=^Exec\w+=)\S*metadataproxy\S*/gm)) {
          statSync(join(destination, program));
        }
      }
      assert.equal((await run(`${destination}/opt/metadataproxy/bin/metadataproxy`, '--version')).trim(), VERSION);
    });

    test('keeps settings that are there, and make uninstall leaves nothing else', async () => {
      const settings = join(destination, 'etc/metadataproxy/metadataproxy.env');
      await run('sh', '-c', `echo PORT=18002 >${settings}`);
      await make('install');
      assert.equal(readFileSync(settings, 'utf8'), 'PORT=18002\n');
      await make('uninstall');
      assert.deepEqual(filesBelow(destination), ['etc/metadataproxy/metadataproxy.env']);
    });
  });

  test('npm pack takes just what `npx metadataproxy` needs', async () => {
    const printed = await execute('npm', ['pack', '--dry-run', '--json', '--ignore-scripts']);
    const [pack] = JSON.parse(printed.stdout) as { readonly files: readonly { readonly path: string }[] }[];
    assert.deepEqual(pack?.files.map(({ path }) => path).sort(),
      ['LICENSE', 'README.md', 'bin/metadataproxy', 'iptables/README.md', 'iptables/setup', 'package.json']);
  });
}

function filesBelow(directory: string): string[] {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true });
  // A link counts as the file that it leads to.
  const files = entries.filter((entry) => !entry.isDirectory() && !entry.isSymbolicLink());
  return files.map(({ parentPath, name }) => join(parentPath, name).slice(directory.length + 1)).sort();
}
