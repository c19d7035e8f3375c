import type { CallerDescription } from '../caller.ts';
import { BadRoleRequest, quote } from './bad-request.ts';

/** The labels and environment variables that become session tags. */
export interface TagSources {
  readonly labels: readonly string[];
  readonly env: readonly string[];
}

/** Source: STS API reference, `Tag` (characters, lengths) and `AssumeRole` (number). */
const TAG_KEY = /^[\p{L}\p{Z}\p{N}_.:/=+\-@]{1,128}$/u;
const TAG_VALUE = /^[\p{L}\p{Z}\p{N}_.:/=+\-@]{0,256}$/u;
const MAX_TAGS = 50;

/**
 * Parses `Labels:team,stage`, `Env:X,Y`, or both separated by a space or a semicolon.
 *
 * @returns undefined if the text is invalid
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
 * The session tags of a caller. A label or variable that it lacks is no tag.
 *
 * @throws BadRoleRequest for a value that STS rejects: a sanitised one could match another policy
 */
export function sessionTags({ labels, env }: TagSources, caller: CallerDescription): ReadonlyMap<string, string> {
  const tags = new Map<string, string>();
  for (const [names, values] of [[labels, caller.labels], [env, caller.env]] as const) {
    for (const name of names) {
      const value = values.get(name);
      if (value === undefined) continue;
      if (!TAG_VALUE.test(value)) {
        const accepts = 'STS accepts up to 256 letters, digits, spaces and _.:/=+-@';
        throw new BadRoleRequest(`${quote(value)}, the value of ${quote(name)}, is not a valid session tag; ${accepts}`);
      }
      tags.set(name, value);
    }
  }
  return tags;
}
