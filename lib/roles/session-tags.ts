import type { CallerDescription } from '../caller.ts';
import { BadRoleRequest, quote } from './bad-request.ts';

/** Which labels and environment variables of a container become tags of its role session. */
export interface TagSources {
  readonly labels: readonly string[];
  readonly env: readonly string[];
}

/** Source: STS API reference, `Tag`; 50 tags at the most. */
const TAG_KEY = /^[\p{L}\p{Z}\p{N}_.:/=+\-@]{1,128}$/u;
const TAG_VALUE = /^[\p{L}\p{Z}\p{N}_.:/=+\-@]{0,256}$/u;
const MAX_TAGS = 50;

/**
 * Reads `Labels:team,stage`, `Env:X,Y`, or both with a space or a semicolon between them.
 *
 * @returns undefined for anything else
 */
export function parseTagSources(text: string): TagSources | undefined {
  const sources = { labels: [] as string[], env: [] as string[] };
  for (const part of text.split(/[;\s]+/).filter((candidate) => candidate !== '')) {
    const [kind, list = ''] = part.split(/:(.*)/s);
    const names = list.split(',').filter((name) => name !== '');
    if (names.length === 0 || !names.every((name) => TAG_KEY.test(name))) return undefined;
    if (kind === 'Labels') sources.labels.push(...names);
    else if (kind === 'Env') sources.env.push(...names);
    else return undefined;
  }
  const count = sources.labels.length + sources.env.length;
  return count > 0 && count <= MAX_TAGS ? sources : undefined;
}

/**
 * The tags of a container's session; what it does not have is no tag.
 *
 * @throws BadRoleRequest for a value that STS would not take: a changed one could mean something else in a policy
 */
export function sessionTags({ labels, env }: TagSources, caller: CallerDescription): ReadonlyMap<string, string> {
  const tags = new Map<string, string>();
  for (const [names, values] of [[labels, caller.labels], [env, caller.env]] as const) {
    for (const name of names) {
      const value = values.get(name);
      if (value === undefined) continue;
      if (!TAG_VALUE.test(value)) {
        const takes = 'STS takes up to 256 letters, digits, spaces and _.:/=+-@';
        throw new BadRoleRequest(`${quote(value)}, the value of ${quote(name)}, is no session tag; ${takes}`);
      }
      tags.set(name, value);
    }
  }
  return tags;
}
