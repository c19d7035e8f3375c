import type { SeededRandom } from './seeded-random.ts';

/**
 * A grammar of request targets that some server may read as the path of a host's credentials. It makes a path to them (or
 * to something harmless nearby), and then disguises it. Text is latin1.
 *
 *   target    = form(disguised(path)) [ending]
 *   path      = [detour] version / tree / subtree / leaf [tail]
 *   disguised = zero or more of the DISGUISES, on a segment or on a separator
 *   form      = origin | absolute | authority | without the first slash
 */
export function oddTarget(random: SeededRandom): string {
  const segments = path(random);
  const separators = segments.map(() => '/');
  // Most have one or two disguises: a target with many is refused because of the first.
  const count = random.pick([0, 1, 1, 1, 1, 2, 2, 2, 3, 4]);
  // Strict servers refuse most disguises immediately. Half of the targets use only those that pass the parser.
  const readable = random.chance(0.5);
  const disguises = readable ? READABLE : DISGUISES;
  for (let done = 0; done < count; done += 1) random.pick(disguises)(random, segments, separators);
  const text = segments.map((part, index) => (separators[index] ?? '/') + part).join('');
  return readable ? text + random.pick(READABLE_ENDINGS) : form(random, text + random.pick(ENDINGS));
}

/** A method, usually a supported one. */
export function oddMethod(random: SeededRandom): string {
  return random.chance(0.9) ? 'GET' : random.pick(['HEAD', 'POST', 'PUT', 'OPTIONS', 'DELETE', 'get', 'PROPFIND']);
}

const VERSIONS = [
  'latest', 'latest', 'latest', '1.0', '2009-04-04', '2011-01-01', '2012-01-12', '2021-07-15', '2024-04-11',
  'LATEST', 'Latest', 'latest.', '9999-99-99', '2012-1-12', '2012-01-12.', 'x', '',
];
const SUBTREES: readonly (readonly string[])[] = [
  ['iam'],
  ['iam', 'info'],
  ['iam', 'security-credentials'],
  ['iam', 'security-credentials', ''],
  ['iam', 'security-credentials', 'a-role'],
  ['iam', 'security-credentials', 'a-role', 'more'],
  ['iam', 'security-credentials-extended'],
  ['iam', 'security-credentials-extended', 'a-role'],
  ['iam', 'what-comes-next-year'],
  ['identity-credentials'],
  ['identity-credentials', 'ec2', 'info'],
  ['identity-credentials', 'ec2', 'security-credentials', 'ec2-instance'],
];
/** Harmless prefixes, which ".." then leaves. */
const HARMLESS: readonly (readonly string[])[] = [
  ['latest', 'user-data'], ['latest', 'meta-data', 'instance-id'], ['latest', 'dynamic', 'instance-identity'],
  ['v2', 'credentials'], ['creds'], ['latest', 'api', 'token'], ['healthcheck'], ['latest', 'meta-data', 'tags'],
  ['latest', 'meta-data', 'tags', 'instance', 'iam'], ['x'],
];
const ENDINGS = [
  '', '', '', '', '', '', '/', '/', '//', '/.', '/..', '/../', '%2f', '%00', '%00.txt', '%20', '.', '~', '?', '?x=1',
  '?/../../../user-data', '#', '#/../../user-data', ';', ';jsessionid=1', '%3f', '%23', '%0d%0aX:%20y', '%', '%2', '*',
  '\0', '\t', '\x7f', '\xa0', '\\', '%5c..', '/%2e%2e', '/..;/', '@', ':80', ',x', '=x', '!',
];

function path(random: SeededRandom): string[] {
  const segments = ['meta-data', ...random.pick(SUBTREES)];
  if (random.chance(0.97)) segments.unshift(random.pick(VERSIONS));
  if (random.chance(0.25)) {
    const detour = random.pick(HARMLESS);
    segments.unshift(...detour, ...detour.map(() => '..'));
  }
  if (random.chance(0.05)) segments.unshift(random.pick(['..', '.', '...', 'http:', '169.254.169.254', '~']));
  return segments;
}

function form(random: SeededRandom, text: string): string {
  if (random.chance(0.9)) return text;
  const scheme = random.pick(['http', 'HTTP', 'https', 'file', 'ws', 'x']);
  const authority = random.pick([
    '169.254.169.254', '169.254.169.254:80', 'user@169.254.169.254', 'x:y@[fd00:ec2::254]', 'localhost', '', '%31', '[',
  ]);
  return random.pick([
    `${scheme}://${authority}${text}`, `${scheme}:/${text}`, `${scheme}:${text}`, `//${authority}${text}`,
    `\\\\${authority}${text}`, `${authority}${text}`, text.slice(1), `*${text}`, `?${text}`, `#${text}`, `./${text}`,
    `@${text}`, `;${text}`, `%2f${text.slice(1)}`,
  ]);
}

type Disguise = (random: SeededRandom, segments: string[], separators: string[]) => void;

const DISGUISES: readonly Disguise[] = [
  // Letters, in one or two encodings
  onLetters((random, code) => `%${hex(random, code)}`),
  onLetters((random, code) => `%${hex(random, code)}`),
  onLetters((random, code) => `%25${hex(random, code)}`),
  onLetters((random, code) => [...`%${hex(random, code)}`].map((letter) => `%${hexOf(letter)}`).join('')),
  onLetters((_, code) => `%u00${code.toString(16).padStart(2, '0')}`),
  // Letters in overlong UTF-8, raw and encoded
  onLetters((random, code) => raw(overlong(random, code))),
  onLetters((random, code) => encoded(overlong(random, code))),
  onLetters((random, code) => encoded(overlong(random, code)).replaceAll('%', '%25')),
  // Full-width forms, which a normalising decoder converts
  onLetters((_, code) => raw([...Buffer.from(String.fromCodePoint(code + 0xfee0))])),
  // Case
  onLetters((_, code) => String.fromCharCode(code).toUpperCase()),
  onSegment((_, part) => part.toUpperCase()),
  onSegment((_, part) => part.slice(0, 1).toUpperCase() + part.slice(1)),
  // Characters before, in or after a segment
  onSegment((random, part) => part + random.pick([';', ';x=1', ';a;b', '%3b', '%3Bx', ';..', ';/'])),
  onSegment((random, part) => part + random.pick(['.', '%2e', ' ', '%20', '+', '::$DATA', '~1', '%00', '%ff', '%7f'])),
  onSegment((random, part) => random.pick(['.', '%20', '%09', '%00', '%c2%ad', '%e2%80%8b', '\x01', '\0', '\x1f']) + part),
  onSegment((random, part) => {
    const at = random.int(0, part.length);
    const control = random.pick(['\0', '\x01', '\x0b', '\x0c', '\x1b', '\x7f', '%00', '%0a', '%0d', '%08', '\t']);
    return part.slice(0, at) + control + part.slice(at);
  }),
  onSegment((random, part) => part + random.pick(['?', '#', '%3f', '%23', '?/', '#/'])),
  // Very long
  onSegment((random, part) => part + random.pick(['a', '%41', '.', ';']).repeat(random.int(100, 1_500))),
  // Separators
  onSeparator((random) => '/'.repeat(random.int(2, 5))),
  onSeparator((random) => random.pick(['\\', '%5c', '%5C', '%255c', '/\\', '\\/', '\\\\'])),
  onSeparator((random) => random.pick(['%2f', '%2F', '%252f', '%252F', '%25%32%66', '%2f/', '/%2f', '%u002f'])),
  onSeparator((random) => random.pick([encoded, raw])(overlong(random, 0x2f))),
  onSeparator((random) => raw([...Buffer.from(random.pick(['／', '⁄', '∕', '＼']))])),
  // Dot segments
  onSeparator((random) => `/${random.pick(['.', '%2e', '.;', './.', '%252e', '. ', '%c0%ae'])}/`),
  onSeparator((random) => {
    const [down, up] = [random.pick(['x', 'instance-id', '%2e', 'iam', '...']), random.pick(UPS)];
    return `/${down}/${up}/`;
  }),
  onSeparator((random) => `/${random.pick(UPS)}/`),
  (random, segments) => void segments.unshift(...Array.from({ length: random.int(1, 40) }, () => random.pick(UPS))),
  // A long path
  (random, segments) => void segments.unshift(...Array.from({ length: random.int(50, 400) }, () => '.')),
];

/** Disguises that every server accepts. */
const READABLE: readonly Disguise[] = [
  onLetters((random, code) => `%${hex(random, code)}`),
  onLetters((random, code) => (random.chance(0.5) ? `%${hex(random, code)}` : String.fromCharCode(code).toUpperCase())),
  onSegment((random, part) => [...part].map((letter) => (random.chance(0.3) ? letter.toUpperCase() : letter)).join('')),
  onSegment((random, part) => part + random.pick(['.', '~', '-', '=', '@', ':', '$', '!', '*', ',', '-v2', '-extended'])),
  onSegment((random, part) => random.pick(['.', '~', '-', '@', ':', '!', '*', ',', 'x']) + part),
  onSeparator((random) => random.pick(['//', '///', '%2f', '/%2F', '/./', '/%2e/', '/x/../', '/x/%2E./', '/iam/..%2f'])),
  (random, segments) => void segments.unshift(random.pick(['..', '.', '%2e%2e', 'x', 'latest', 'meta-data', 'v2', 'creds'])),
];
const READABLE_ENDINGS = ['', '', '', '/', '//', '/.', '/..', '/x/..', '?', '?x', '?/../..', '%2f', '%2e', '.', ':80', '~'];

const UPS = ['..', '..', '%2e%2e', '.%2e', '%2E.', '%252e%252e', '..;', '..;x', '%c0%ae%c0%ae', '...', '..\\', '..%00'];

function onSegment(disguise: (random: SeededRandom, part: string) => string): Disguise {
  return (random, segments) => {
    const at = random.int(0, segments.length - 1);
    segments[at] = disguise(random, segments[at] ?? '');
  };
}

/** One to three letters of a segment. */
function onLetters(disguise: (random: SeededRandom, code: number) => string): Disguise {
  return onSegment((random, part) => {
    const at = random.int(0, Math.max(part.length - 1, 0));
    const letters = [...part.slice(at, at + random.int(1, 3))];
    const disguised = letters.map((letter) => (/[a-z0-9-]/.test(letter) ? disguise(random, letter.charCodeAt(0)) : letter));
    return part.slice(0, at) + disguised.join('') + part.slice(at + letters.length);
  });
}

function onSeparator(disguise: (random: SeededRandom) => string): Disguise {
  return (random, segments, separators) => {
    separators[random.int(0, segments.length - 1)] = disguise(random);
  };
}

function hex(random: SeededRandom, code: number): string {
  const digits = code.toString(16).padStart(2, '0');
  return random.chance(0.5) ? digits : digits.toUpperCase();
}

function hexOf(letter: string): string {
  return letter.charCodeAt(0).toString(16).padStart(2, '0');
}

/** An ASCII character in two, three or four bytes of UTF-8 instead of one. */
function overlong(random: SeededRandom, code: number): number[] {
  const [high, low] = [code >> 6, 0x80 | (code & 0x3f)];
  return random.pick([[0xc0 | high, low], [0xe0, 0x80 | high, low], [0xf0, 0x80, 0x80 | high, low]]);
}

function raw(bytes: readonly number[]): string {
  return Buffer.from(bytes).toString('latin1');
}

function encoded(bytes: readonly number[]): string {
  return bytes.map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
}
