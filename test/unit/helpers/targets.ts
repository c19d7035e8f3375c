import type { SeededRandom } from '../../support/seeded-random.ts';

const WORDS = [
  'latest',
  '2012-01-12',
  '2011-01-01',
  '1.0',
  'meta-data',
  'iam',
  'info',
  'security-credentials',
  'security-credentials-extended',
  'identity-credentials',
  'ec2',
  'ec2-instance',
  'instance-id',
  'tags',
  'instance',
  'user-data',
  'dynamic',
  'a',
  '',
  '.',
  '..',
  '...',
  'v2',
  'credentials',
  'creds',
  'api',
  'token',
];
const BEGINNING = ['latest', 'meta-data', 'iam', 'security-credentials'];
const SEPARATORS = [
  '/',
  '/',
  '/',
  '/',
  '/',
  '//',
  '%2f',
  '%2F',
  '/./',
  '/x/../',
  '/.',
  '\\',
  '%5c',
  ';',
  '%3b',
  '%252f',
];
const LETTERS = "abzAZ09-._~:@!$&'()*+,=;/\\%?# \u0000\n\u007fé";

/**
 * A request target in the shape of a metadata path, bent in ways that some server somewhere reads as that
 * path.
 */
export function randomTarget(random: SeededRandom): string {
  let target = random.chance(0.97) ? '/' : random.pick(['', '//', 'http://169.254.169.254/', '*', '\\']);
  const begin = random.chance(0.6) ? BEGINNING.slice(0, random.int(1, BEGINNING.length)) : [];
  const words = [...begin, ...Array.from({ length: random.int(0, 4) }, () => random.pick(WORDS))];
  for (const [index, word] of words.entries()) {
    if (index > 0) target += random.chance(0.85) ? '/' : random.pick(SEPARATORS);
    target += bent(random, word);
  }
  if (random.chance(0.2)) target += random.string(LETTERS, 0, 4);
  if (random.chance(0.1))
    target += random.pick(['?', '?x=1', '?/../iam', '#', '%00', '%', '/..', '/.', '%2e%2e']);
  return target;
}

function bent(random: SeededRandom, word: string): string {
  if (random.chance(0.8)) return word;
  return [...word]
    .map((letter) => {
      const chance = random.int(0, 19);
      const code = letter.charCodeAt(0).toString(16).padStart(2, '0');
      if (chance < 3) return `%${random.chance(0.5) ? code : code.toUpperCase()}`;
      if (chance === 3) return letter.toUpperCase();
      if (chance === 4 && random.chance(0.2)) return `%25${code}`;
      if (chance === 5 && random.chance(0.2)) return letter + random.pick([';', '%00', '\\', '%c0%af', '\t']);
      return letter;
    })
    .join('');
}
