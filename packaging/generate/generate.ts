// Generates the packages' documentation from the settings, the command line and the firewall script's --help, so that
// packaging/ repeats none of it. `make build/packaging` runs this.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { latestRelease, rpmChangelog } from './changelog.ts';
import { bundledPackages, copyrightFile } from './copyright.ts';
import { bashCompletion, zshCompletion } from './completion.ts';
import { environmentFile } from './environment-file.ts';
import { parseHelp } from './firewall-help.ts';
import { firewallPage, metadataproxyPage } from './man-pages.ts';

/** Set by the build. */
declare const METADATAPROXY_VERSION: string;

const [output = '', metafile = ''] = process.argv.slice(2);
const source = (path: string): string => readFileSync(join('packaging', path), 'utf8');

// The script shows the name of the shell that sources it. This is its installed name.
const help = execFileSync('sh', ['-c', '. iptables/setup', 'metadataproxy-firewall', '--help'], { encoding: 'utf8' });
const firewall = parseHelp(help);
const changelog = source('changelog');
const release = latestRelease(changelog);
if (release.version !== METADATAPROXY_VERSION) {
  throw new Error(`package.json is at ${METADATAPROXY_VERSION}, packaging/changelog at ${release.version}`);
}
const bundled = bundledPackages(readFileSync(metafile, 'utf8'));
const apache = bundled.find(({ spdx, text }) => spdx === 'Apache-2.0' && text !== undefined);

const files = {
  'metadataproxy.env': environmentFile(),
  'metadataproxy.8': metadataproxyPage(source('man/metadataproxy.8'), release),
  'metadataproxy-firewall.8': firewallPage(firewall, release),
  'completion.bash': bashCompletion(firewall),
  'completion.zsh': zshCompletion(firewall),
  'changelog.rpm': rpmChangelog(changelog),
  copyright: copyrightFile(readFileSync('LICENSE', 'utf8'), bundled),
  'LICENSE.Apache-2.0': apache?.text ?? '',
};
mkdirSync(output, { recursive: true });
for (const [name, text] of Object.entries(files)) writeFileSync(join(output, name), text);
