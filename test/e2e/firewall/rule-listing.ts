// Lists the firewall and routing rules of a machine in a form that two listings can be compared in.
import type { Machine } from '../machine.ts';

const FAMILIES = ['iptables', 'ip6tables'] as const;

/**
 * Rules of iptables without counters, and without what has no effect: comments, and tables without rules or chains of
 * somebody's; nftables tables of ours; routing rules, and what --host-network adds to them.
 */
export async function listRules(machine: Machine, hasIptables: boolean): Promise<string[]> {
  const kept: string[] = [];
  for (const program of hasIptables ? FAMILIES : []) {
    let table = '';
    for (const line of (await machine.run([`${program}-save`])).split('\n')) {
      if (line.startsWith('*')) table = line.slice(1);
      const counts = /^[:-]/.test(line) && !/^:[A-Z]+ ACCEPT /.test(line);
      if (counts) kept.push(`${program} ${table} ${line.replace(/ \[\d+:\d+\]$/, '')}`);
    }
  }
  kept.sort((a, b) => order(a) - order(b));
  const others = await machine.run(['/bin/sh', '-c', `
    for table in metadataproxy metadataproxy_closed; do nft --stateless list table inet "$table"; done
    for family in 4 6; do
      ip -"$family" rule
      ip -"$family" route show table 16925
    done
    ip link show dev mdproxy0 >/dev/null 2>&1 && echo mdproxy0
    true
  `]);
  return [...kept, ...others.split('\n').filter((line) => line !== '')];
}

/** Whether a line of a listing is one of our rules. */
export function isOurs(line: string): boolean {
  return /METADATAPROXY|mdproxy|metadataproxy|^10[0-3]:/.test(line);
}

/** iptables-save prints tables in different orders; within one the order of the rules matters. */
function order(line: string): number {
  const [program = '', table = ''] = line.split(' ');
  return (program === 'iptables' ? 0 : 10) + ['raw', 'mangle', 'nat', 'filter'].indexOf(table);
}
