import { wrap } from '../../lib/config/cli.ts';
import type { Setting } from '../../lib/config/settings.ts';
import { settingGroups } from './groups.ts';

const WIDTH = 100;

const HEAD = `# The settings of metadataproxy, one NAME=value a line. Each one is commented out and shows its default.
# After a change: systemctl restart metadataproxy metadataproxy-firewall
# Put values with spaces, quotes or $ in single quotes. See metadataproxy(8).

# --- Settings of the packages ---

# Additional options for the firewall script: see metadataproxy-firewall(8). It reads PORT from this file.
#FIREWALL_OPTIONS=

# Without these the service uses the instance's role. It cannot read home directories, so put an AWS configuration here,
# readable by the user metadataproxy (chgrp metadataproxy, chmod 640).
#AWS_CONFIG_FILE=/etc/metadataproxy/aws-config
#AWS_SHARED_CREDENTIALS_FILE=/etc/metadataproxy/aws-credentials
`;

/** The settings file that the packages install. systemd reads it as an EnvironmentFile; a shell can source it. */
export function environmentFile(): string {
  const parts = settingGroups().map(({ name, settings }) => {
    const entries = settings.filter(({ env }) => env.length > 0).map(entry);
    return entries.length === 0 ? '' : [`\n# --- ${name} ---\n`, ...entries].join('\n');
  });
  return HEAD + parts.join('');
}

function entry(setting: Setting<unknown>): string {
  const [name = '', ...others] = setting.env;
  const also = others.length > 0 ? ` Also: ${others.join(', ')}.` : '';
  const text = `${setting.help} Accepts ${setting.takes.expects}.${also}`;
  const comment = wrap(text, WIDTH - 2).map((line) => `# ${line}`);
  return `${[...comment, `#${name}=${quoted(setting.default ?? '')}`].join('\n')}\n`;
}

/** Quotes a value in a way that systemd and a shell both read. */
function quoted(value: string): string {
  return /^[\w:/.,@-]*$/.test(value) ? value : `'${value.replaceAll("'", "'\\''")}'`;
}
