import { readFileSync } from 'node:fs';

/** Where `metadataproxy-firewall verify` leaves its result. */
const STATE_FILE = '/run/metadataproxy-firewall/state';
/** metadataproxy-firewall-watch verifies every 30 s; four missed rounds mean that it does not run. */
const MAX_AGE_S = 120;
/** A firewall that another program removed has some 30 problems; the first ones say enough. */
const MAX_PROBLEMS = 3;

export interface FirewallState {
  readonly ok: boolean;
  readonly detail: string;
}

/**
 * Whether the firewall rules are in place. The proxy has no right to read the rules, so it reads what the firewall's own
 * watcher, which runs as root, has found: "ok EPOCH" or "failed EPOCH", then one problem a line.
 *
 * @param now in milliseconds since the epoch
 * @returns undefined where no watcher has ever run, as in a container without its directory
 */
export function firewallState(now: number, path = STATE_FILE): FirewallState | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' ? undefined : { ok: false, detail: `cannot read the firewall's state: ${message}` };
  }
  const [head = '', ...problems] = text.trimEnd().split('\n');
  const [, outcome, epoch] = /^(ok|failed) (\d{1,12})$/.exec(head) ?? [];
  if (epoch === undefined) return { ok: false, detail: `${path} is invalid: expected "ok EPOCH" or "failed EPOCH"` };
  if (outcome === 'failed') {
    const more = problems.length > MAX_PROBLEMS ? `; and ${problems.length - MAX_PROBLEMS} more` : '';
    return { ok: false, detail: `${problems.slice(0, MAX_PROBLEMS).join('; ')}${more}` };
  }
  const age = Math.floor(now / 1000 - Number(epoch));
  if (age > MAX_AGE_S) {
    return { ok: false, detail: `not verified for ${age} s: does metadataproxy-firewall-watch.service run?` };
  }
  return { ok: true, detail: 'the rules are in place' };
}
