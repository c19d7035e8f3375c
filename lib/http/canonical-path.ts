/**
 * The canonical path of a request target. The route table judges this path and the upstream IMDS gets this path, so the two
 * cannot differ.
 *
 * It has only characters that need no encoding (RFC 3986 `pchar` without `;` and `%`): encoding it again changes nothing,
 * and no second decoder can interpret it in another way. IMDS has no path outside this alphabet.
 */

export class BadTarget extends Error {}

/** Longer than any path of IMDS: the longest segment that AWS allows is a tag key of 128 characters. */
const MAX_PATH_LENGTH = 1024;

const ALPHABET = "A-Za-z0-9\\-._~:@!$&'()*+,=";
/** The fast path, for nearly every request: nothing to decode, collapse or resolve. */
const ALREADY_CANONICAL = new RegExp(`^/(?:(?!\\.{1,2}(?:/|$))[${ALPHABET}]+/)*(?!\\.{1,2}$)[${ALPHABET}]*$`);
const CANONICAL_SEGMENT = new RegExp(`^[${ALPHABET}]*$`);
const ENCODED_OCTET = /%([0-9A-Fa-f]{2})/g;

/**
 * @param target the request target exactly as the request line has it
 * @returns the absolute path: percent-decoded once, slashes collapsed, dot segments resolved, without the query (IMDS
 *   ignores it); a trailing slash is kept
 * @throws BadTarget with the reason
 */
export function canonicalPath(target: string): string {
  if (target.length > MAX_PATH_LENGTH) throw new BadTarget(`the path is longer than ${MAX_PATH_LENGTH} characters`);
  if (ALREADY_CANONICAL.test(target)) return target;
  if (!target.startsWith('/')) throw new BadTarget('the request target must be a path that starts with "/"');

  const query = target.indexOf('?');
  const path = query === -1 ? target : target.slice(0, query);
  if (path.replace(ENCODED_OCTET, '').includes('%')) throw new BadTarget('the path has an invalid percent-encoding');
  const decoded = path.replace(ENCODED_OCTET, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  return resolveSegments(decoded);
}

function resolveSegments(path: string): string {
  const segments = path.split('/');
  const resolved: string[] = [];
  for (const segment of segments) {
    if (!CANONICAL_SEGMENT.test(segment)) throw new BadTarget('the path has a character that no path of IMDS has');
    if (segment === '..') resolved.pop();
    else if (segment !== '' && segment !== '.') resolved.push(segment);
  }
  const last = segments.at(-1);
  const directory = resolved.length > 0 && (last === '' || last === '.' || last === '..');
  return `/${resolved.join('/')}${directory ? '/' : ''}`;
}
