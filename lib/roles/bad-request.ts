import { printableJson } from '../util/printable.ts';

/** An invalid role, policy, duration or the like, declared by a container or by the operator. */
export class BadRoleRequest extends Error {}

/** Cuts the value: long enough to recognise, short enough for a log line. */
export function quote(text: string): string {
  return printableJson(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}
