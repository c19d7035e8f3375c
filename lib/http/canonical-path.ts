/**
 * The one reading of a request target. Routing judges the canonical path, and the canonical path is what goes
 * upstream, so nothing can be judged as one thing and sent as another.
 *
 * The canonical form has only characters that need no encoding (RFC 3986 `pchar` without `;` and `%`), so encoding it
 * again changes nothing and no second decoder can read anything else into it. IMDS has no path outside this alphabet.
 */

export class BadTarget extends Error {}

/** Longer than any path of IMDS; a tag key of 128 characters is the longest part that AWS allows. */
const MAX_PATH_LENGTH = 1024;

const ALPHABET = "A-Za-z0-9\\-._~:@!$&'()*+,=";
/** Nothing to decode, to collapse or to resolve: nearly every request. */
const ALREADY_CANONICAL = new RegExp(`^/(?:(?!\\.{1,2}(?:/|$))[${ALPHABET}]+/)*(?!\\.{1,2}$)[${ALPHABET}]*$`);
const CANONICAL_SEGMENT = new RegExp(`^[${ALPHABET}]*$`);
const ENCODED_OCTET = /%([0-9A-Fa-f]{2})/g;

/**
 * @param target the request target exactly as it stood in the request line
 * @returns the absolute path: percent-decoded once, slashes collapsed, dot segments resolved, the query cut off
 *   (IMDS reads none); a trailing slash is kept
 * @throws BadTarget saying what is wrong with the target
 */
export function canonicalPath(target: string): string {
  if (target.length > MAX_PATH_LENGTH) throw new BadTarget(`the path is longer than ${MAX_PATH_LENGTH} characters`);
  if (ALREADY_CANONICAL.test(target)) return target;
  if (!target.startsWith('/')) throw new BadTarget('the request target must be a path that begins with "/"');

  const query = target.indexOf('?');
  const path = query === -1 ? target : target.slice(0, query);
  if (path.replace(ENCODED_OCTET, '').includes('%')) throw new BadTarget('the path has a "%" that encodes nothing');
  const decoded = path.replace(ENCODED_OCTET, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  return resolveSegments(decoded);
}

function resolveSegments(path: string): string {
  const segments = path.split('/');
  const resolved: string[] = [];
  for (const segment of segments) {
    if (!CANONICAL_SEGMENT.test(segment)) throw new BadTarget('the path has a character that no metadata path has');
    if (segment === '..') resolved.pop();
    else if (segment !== '' && segment !== '.') resolved.push(segment);
  }
  const last = segments.at(-1);
  const directory = resolved.length > 0 && (last === '' || last === '.' || last === '..');
  return `/${resolved.join('/')}${directory ? '/' : ''}`;
}
