import { wrap } from '../../lib/config/cli.ts';
import type { Setting } from '../../lib/config/settings.ts';
import { settingGroups } from './groups.ts';

const WIDTH = 100;

const HEAD = `# metadataproxy's settings: one NAME=value a line. Each setting stands here with its default, commented out.
# After a change: systemctl restart metadataproxy metadataproxy-firewall
# Values with blanks, quotes or $ stand in single quotes. metadataproxy(8) tells more.

# --- Of the packages ---

# More options for the firewall script: see metadataproxy-firewall(8). PORT reaches it by itself.
#FIREWALL_OPTIONS=

# The service cannot read home directories. An AWS configuration of its own (else: the instance's role) goes to
# files here, which the user metadataproxy can read (chgrp metadataproxy, chmod 640).
#AWS_CONFIG_FILE=/etc/metadataproxy/aws-config
#AWS_SHARED_CREDENTIALS_FILE=/etc/metadataproxy/aws-credentials
`;

/** The file of settings that the packages install: what systemd takes as an EnvironmentFile, and a shell can read. */
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
  const text = `${setting.help} Takes ${setting.expects}.${also}`;
  const comment = wrap(text, WIDTH - 2).map((line) => `# ${line}`);
  return `${[...comment, `#${name}=${quoted(setting.default ?? '')}`].join('\n')}\n`;
}

/** As both systemd and a shell read it. */
function quoted(value: string): string {
  return /^[\w:/.,@-]*$/.test(value) ? value : `'${value.replaceAll("'", "'\\''")}'`;
}
