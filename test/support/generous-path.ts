/**
 * All paths that a careless server could read into a request target, in lower case and as segments. The fake IMDS answers
 * with the host's credentials if any of these readings is a path to them. That exposes a proxy that checks one reading
 * and forwards another.
 *
 * A reading strips scheme and authority, query, fragment and `;params`; decodes the path zero, one or two times (also
 * overlong UTF-8 and %uXXXX); treats backslashes as slashes; drops control bytes; collapses slashes; and resolves dot
 * segments.
 */
export function readingsOf(target: string): string[][] {
  const readings = new Map<string, string[]>();
  for (const start of [withoutAuthority(target), target]) {
    // Text after a literal "?" is never a path; after an encoded one it may be.
    let text = start.split('?', 1)[0] ?? '';
    for (let decodings = 0; decodings <= 2; decodings += 1) {
      for (const path of [text, text.split(/[?#\0]/, 1)[0] ?? '']) {
        for (const bare of [path, path.replace(/;[^/\\]*/g, '')]) {
          const segments = segmentsOf(bare);
          readings.set(segments.join('/'), segments);
        }
      }
      text = decodeOnce(text);
    }
  }
  return [...readings.values()];
}

/**
 * The part of the host's identity that `target` names in any of its readings: the segments from `iam` or
 * `identity-credentials` on, whatever precedes `meta-data`; undefined if it names none.
 */
export function hostIdentityIn(target: string): string[] | undefined {
  for (const segments of readingsOf(target)) {
    const at = segments.findIndex((segment, index) =>
      (segment === 'iam' || segment === 'identity-credentials') && segments[index - 1] === 'meta-data');
    if (at !== -1) return segments.slice(at);
  }
  return undefined;
}

function withoutAuthority(target: string): string {
  return target.replace(/^[a-z][a-z0-9+.-]*:[/\\]{2}[^/\\?#]*/i, '').replace(/^[/\\]{2,}[^/\\?#]*/, '');
}

function decodeOnce(text: string): string {
  const bytes = text
    .replace(/%u([0-9a-f]{4})/gi, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)))
    .replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  // Overlong UTF-8: ASCII in two, three or four bytes.
  return bytes.replace(/(?:[\xc0\xc1]|\xe0[\x80\x81]|\xf0\x80[\x80\x81])[\x80-\xbf]/g, (long) => {
    const [last = 0, beforeLast = 0] = [...long].reverse().map((byte) => byte.charCodeAt(0));
    return String.fromCharCode(((beforeLast & 0x03) << 6) | (last & 0x3f));
  });
}

function segmentsOf(path: string): string[] {
  const segments: string[] = [];
  for (const segment of path.replace(/[\0-\x1f\x7f]/g, '').toLowerCase().split(/[/\\]/)) {
    if (segment === '..') segments.pop();
    else if (segment !== '' && segment !== '.') segments.push(segment);
  }
  return segments;
}
