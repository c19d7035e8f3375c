import { BadRoleRequest, quote } from './bad-request.ts';

/** A role ARN in which `*` stands for any characters, and `?` for one. */
export interface ArnPattern {
  readonly text: string;
  matches(arn: string): boolean;
}

/** @throws BadRoleRequest for what can match no role ARN */
export function parseArnPattern(text: string): ArnPattern {
  if (text !== '*' && !/^arn:[^:]+:iam::[^:]*:role\/.+$/.test(text) && !/^arn:[^:]*\*/.test(text)) {
    throw new BadRoleRequest(`${quote(text)} matches no role; expected an ARN such as arn:aws:iam::123456789012:role/app-*`);
  }
  return { text, matches: wildcard(text) };
}

/** A test for whole strings in which `*` stands for any characters, and `?` for one. */
export function wildcard(pattern: string): (text: string) => boolean {
  const escaped = pattern.replace(/[\\^$.+()[\]{}|]/g, '\\$&').replaceAll('*', '.*').replaceAll('?', '.');
  const whole = new RegExp(`^${escaped}$`, 's');
  return (text) => whole.test(text);
}
