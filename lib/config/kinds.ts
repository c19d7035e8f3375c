/**
 * The kinds of values that settings take. A kind parses a value and describes what it accepts, so that a bound is
 * written once and the error always names it.
 */

import { parseGoDuration } from '../util/go-duration.ts';

export interface Kind<T> {
  /** Completes the sentence "expected …". */
  readonly expects: string;
  /** The default of every setting of this kind, as a user would write it. */
  readonly default?: string;
  /** @returns undefined for an invalid value; or throws an Error with the reason */
  readonly parse: (text: string) => T | undefined;
}

type KindWithDefault<T> = Kind<T> & { readonly default: string };

/** A kind with a parser of its own. */
export function kind<T>(expects: string, parse: (text: string) => T | undefined): Kind<T> {
  return { expects, parse };
}

/** Any text, or one that the program checks later, such as the path of a file. */
export function text(expects = 'any text'): Kind<string> {
  return kind(expects, (value) => value);
}

/** Text that matches a whole pattern. */
export function matching(expects: string, pattern: RegExp): Kind<string> {
  return kind(expects, (value) => (pattern.test(value) ? value : undefined));
}

const TRUE = new Set(['1', 'true', 'yes', 'on']);
const FALSE = new Set(['0', 'false', 'no', 'off']);

function parseBoolean(value: string): boolean | undefined {
  const word = value.toLowerCase();
  return TRUE.has(word) ? true : FALSE.has(word) ? false : undefined;
}

export function boolean(byDefault: boolean): KindWithDefault<boolean> {
  return { expects: '"true" or "false"', default: String(byDefault), parse: parseBoolean };
}

/** OpenTelemetry's variables accept only these two words. Source: OpenTelemetry specification, "Boolean value". */
export function trueOrFalse(byDefault: boolean): KindWithDefault<boolean> {
  const parse = (value: string): boolean | undefined => {
    const word = value.toLowerCase();
    return word === 'true' ? true : word === 'false' ? false : undefined;
  };
  return { expects: '"true" or "false"', default: String(byDefault), parse };
}

/** @param zero what 0 means, where that is not a number of something */
export function integer(min: number, max: number, { unit, zero }: { unit?: string; zero?: string } = {}): Kind<number> {
  const what = unit === undefined ? 'a whole number' : `a whole number of ${unit}`;
  return kind(`${what} from ${min} to ${max}${zero === undefined ? '' : ` (0: ${zero})`}`, (value) => {
    const number = /^\d{1,9}$/.test(value) ? Number(value) : NaN;
    return number >= min && number <= max ? number : undefined;
  });
}

/** A duration as Go writes it, in milliseconds. */
export function duration(): Kind<number>;
export function duration(min: string, max: string): Kind<number>;
export function duration(min?: string, max?: string): Kind<number> {
  if (min === undefined || max === undefined) return kind('a duration such as "15m" or "5m30s"', parseGoDuration);
  const [least = NaN, greatest = NaN] = [parseGoDuration(min), parseGoDuration(max)];
  return kind(`a duration from ${min} to ${max}`, (value) => {
    const milliseconds = parseGoDuration(value) ?? NaN;
    return milliseconds >= least && milliseconds <= greatest ? milliseconds : undefined;
  });
}

/** @param aliases other words for some of them, which the error does not mention */
export function oneOf<T extends string>(words: readonly T[], aliases: Readonly<Record<string, NoInfer<T>>> = {}): Kind<T> {
  const quoted = words.map((word) => `"${word}"`);
  return kind([quoted.slice(0, -1).join(', '), ...quoted.slice(-1)].filter(Boolean).join(' or '), (value) => {
    const word = value.toLowerCase();
    return words.find((candidate) => candidate === word) ?? aliases[word];
  });
}

/**
 * A URL with one of the schemes.
 *
 * @param origin whether a path, a query and a fragment are refused
 * @param userInfo whether a user name and a password are accepted; anyone who can read the setting can read them
 */
export function url(
  schemes: readonly ('http' | 'https')[],
  { origin = false, userInfo = false }: { origin?: boolean; userInfo?: boolean } = {},
): Kind<URL> {
  const expects = origin
    ? schemes.map((scheme) => `${scheme}://host or ${scheme}://host:port`).join(' or ')
    : `an ${schemes.map((scheme) => `${scheme}://`).join(' or ')} URL${userInfo ? '' : ' without a user name and password'}`;
  return kind(expects, (value) => {
    if (!URL.canParse(value)) return undefined;
    const parsed = new URL(value);
    if (!schemes.some((scheme) => parsed.protocol === `${scheme}:`)) return undefined;
    if (!userInfo && (parsed.username !== '' || parsed.password !== '')) return undefined;
    if (origin && (parsed.pathname !== '/' || parsed.search !== '' || parsed.hash !== '')) return undefined;
    return parsed;
  });
}

/**
 * A regular expression for text that a container chooses. JavaScript backtracks: nested repetition such as `(a+)+$` takes
 * exponential time, and the proxy answers nobody meanwhile. Bounding the text's length (1,024 characters of a path, 255
 * of a host name) limits polynomial expressions only, so the settings' help warns of the others.
 */
export function regex(flags = ''): Kind<RegExp> {
  return kind('a regular expression', (value) => new RegExp(value, flags));
}

export function parseNames(value: string): readonly string[] {
  return value.split(',').map((name) => name.trim()).filter((name) => name !== '');
}

export function names(): KindWithDefault<readonly string[]> {
  return { expects: 'names, separated by commas', default: '', parse: parseNames };
}

/** Some of a fixed set of names, in the set's order. */
export function someOf<T extends string>(known: readonly T[]): Kind<readonly T[]> {
  return kind(`some of ${known.join(', ')}, separated by commas`, (value) => {
    const given = new Set(parseNames(value));
    const found = known.filter((name) => given.has(name));
    return found.length === given.size ? found : undefined;
  });
}

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

const MAX_PORT = 65_535;

export function port(): Kind<number> {
  return integer(0, MAX_PORT, { zero: 'any free port' });
}

/** `host:port`, `[v6]:port`, `:port` */
export function parseListenAddress(value: string): ListenAddress | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d+)$/.exec(value);
  const number = port().parse(match?.[3] ?? '');
  return match && number !== undefined ? { host: match[1] ?? match[2] ?? '', port: number } : undefined;
}

/** The host processes whose connections the firewall redirects. */
export type HostNetworkReach = 'nobody' | 'users' | 'users and root';

export function hostNetworkReach(): Kind<HostNetworkReach> {
  return kind('"true", "false" or "root"', (value) => {
    if (value.toLowerCase() === 'root') return 'users and root';
    const enabled = parseBoolean(value);
    return enabled === undefined ? undefined : enabled ? 'users' : 'nobody';
  });
}

const KEY_VALUE_FORM = '"name=value,name=value", percent-encoded where necessary';

/** Percent-encoded pairs. Source: OpenTelemetry specification, "Environment variables", after W3C Baggage. */
function parseKeyValues(value: string): ReadonlyMap<string, string> | undefined {
  const pairs = new Map<string, string>();
  for (const pair of parseNames(value)) {
    const [, name, text] = /^([^=\s]+)\s*=\s*(.*)$/s.exec(pair) ?? [];
    if (name === undefined || text === undefined) return undefined;
    try {
      pairs.set(decodeURIComponent(name), decodeURIComponent(text));
    } catch {
      return undefined;
    }
  }
  return pairs;
}

export function keyValues(): Kind<ReadonlyMap<string, string>> {
  return kind(KEY_VALUE_FORM, parseKeyValues);
}

/** The exporter sets these itself. */
const RESERVED_HEADERS = /^(?:connection|content-(?:encoding|length|type)|expect|transfer-encoding|upgrade)$/i;

/** Key-value pairs that are valid HTTP header fields. */
export function headers(): Kind<ReadonlyMap<string, string>> {
  return kind(KEY_VALUE_FORM, (value) => {
    const fields = parseKeyValues(value);
    for (const [name, content] of fields ?? []) {
      const isField = /^[\w!#$%&'*+.^`|~-]+$/.test(name) && /^[\t\x20-\x7e]*$/.test(content);
      if (!isField || RESERVED_HEADERS.test(name)) return undefined;
    }
    return fields;
  });
}
