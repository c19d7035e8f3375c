import { printableJson } from '../util/printable.ts';

/** What a container, or an operator for it, asks for means nothing. The message says what was wrong and what would do. */
export class BadRoleRequest extends Error {}

/** Long enough to recognise what was given, short enough for a log line. */
export function quote(text: string): string {
  return printableJson(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}
