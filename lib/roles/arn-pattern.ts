import { BadRoleRequest, quote } from './bad-request.ts';

/** A role ARN with the wildcards `*` (any characters) and `?` (one character). */
export interface ArnPattern {
  readonly text: string;
  matches(arn: string): boolean;
}

/** @throws BadRoleRequest for a pattern that matches no role ARN */
export function parseArnPattern(text: string): ArnPattern {
  if (text !== '*' && !/^arn:[^:]+:iam::[^:]*:role\/.+$/.test(text) && !/^arn:[^:]*\*/.test(text)) {
    throw new BadRoleRequest(`${quote(text)} matches no role; expected an ARN such as arn:aws:iam::123456789012:role/app-*`);
  }
  return { text, matches: wildcard(text) };
}

/** Matches whole strings with the wildcards `*` and `?`. */
export function wildcard(pattern: string): (text: string) => boolean {
  return (text) => matchesWhole(pattern, text);
}

/**
 * Not a regular expression: whoever starts containers chooses the texts, and catastrophic backtracking would stop the
 * service for all callers. This loop only retries the last `*`, each time one character later.
 */
function matchesWhole(pattern: string, text: string): boolean {
  let [inPattern, inText] = [0, 0];
  let lastStar = -1;
  let afterStar = 0;
  while (inText < text.length) {
    const wanted = pattern[inPattern];
    if (wanted === '*') {
      lastStar = inPattern;
      afterStar = inText;
      inPattern += 1;
    } else if (wanted === '?' || (wanted !== undefined && wanted === text[inText])) {
      inPattern += 1;
      inText += 1;
    } else if (lastStar !== -1) {
      afterStar += 1;
      inText = afterStar;
      inPattern = lastStar + 1;
    } else {
      return false;
    }
  }
  return /^\**$/.test(pattern.slice(inPattern));
}
