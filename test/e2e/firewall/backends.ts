// The packet filters that iptables/setup is tested with, and the one that Docker uses beside it.
import { mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { execute } from '../machine.ts';

/** What `iptables` on PATH is, for Docker and for iptables/setup; 'none': neither PATH nor Docker has it. */
export type IptablesVariant = 'nft' | 'legacy' | 'none';

export interface Backend {
  readonly name: string;
  /** Whether the rules are an nftables table of our own or iptables chains. */
  readonly filter: 'nft' | 'iptables';
  readonly options: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

export const NFT: Backend = { name: 'nftables table', filter: 'nft', options: [], environment: {} };
export const IPTABLES: Backend = {
  name: 'iptables chains', filter: 'iptables', options: ['--backend', 'iptables'], environment: {},
};
export const IPTABLES_LEGACY: Backend = {
  name: 'iptables-legacy chains', filter: 'iptables', options: [], environment: { IPTABLES: 'iptables-legacy' },
};

const PROGRAMS = ['iptables', 'ip6tables'] as const;
const PARTS = ['', '-save', '-restore'] as const;
const SYSTEM_DIRECTORIES = ['/usr/sbin', '/usr/bin'];

/** Returns a PATH on which `iptables` is of a variant. `directory` must not exist yet. */
export function searchPath(variant: IptablesVariant, directory: string): string {
  mkdirSync(directory);
  if (variant === 'none') {
    for (const system of SYSTEM_DIRECTORIES) {
      for (const program of readdirSync(system)) {
        if (!/^(ip6?tables|xtables|arptables|ebtables)/.test(program)) link(join(system, program), directory, program);
      }
    }
    return directory;
  }
  for (const program of PROGRAMS) {
    for (const part of PARTS) link(`/usr/sbin/${program}-${variant}${part}`, directory, `${program}${part}`);
  }
  return `${directory}:${SYSTEM_DIRECTORIES.join(':')}:/sbin:/bin`;
}

/** Why a variant does not work on this machine; undefined if it does. */
export async function missingVariant(variant: IptablesVariant): Promise<string | undefined> {
  const commands = variant === 'none' ? ['/usr/sbin/nft list ruleset']
    : PROGRAMS.map((program) => `/usr/sbin/${program}-${variant} --table nat --list-rules`);
  for (const command of commands) {
    // In a namespace of its own, because iptables-legacy makes a table when it lists it.
    const { status, stderr } = await execute('unshare', ['--net', ...command.split(' ')]);
    if (status !== 0) return `${command} fails here: ${stderr.trim()}`;
  }
  return undefined;
}

function link(target: string, directory: string, name: string): void {
  try {
    symlinkSync(target, join(directory, name));
  } catch (error) {
    // Both system directories may have a program of that name; the first one on PATH counts.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}
