import type { CallerDescription } from '../caller.ts';
import { BadRoleRequest, quote } from './bad-request.ts';

/** Text with placeholders for a caller's values: `{container.name}-{label:team}`. */
export interface Template {
  readonly text: string;
  /** The labels and environment variables that it uses. */
  readonly labels: readonly string[];
  readonly env: readonly string[];
  fill(caller: CallerDescription, host: string): string;
}

const PLACEHOLDER = /\{([^{}]*)\}/g;
const PLACEHOLDERS = '{container.name}, {container.id}, {image}, {host}, {label:X}, {env:X}';

/** @throws BadRoleRequest naming an unknown placeholder */
export function parseTemplate(text: string): Template {
  const placeholders = [...text.matchAll(PLACEHOLDER)].map(([, placeholder = '']) => placeholder);
  for (const placeholder of placeholders) {
    if (!/^(?:container\.(?:name|id)|image|host|(?:label|env):.+)$/.test(placeholder)) {
      throw new BadRoleRequest(`${quote(text)} has the unknown placeholder {${placeholder}}; expected one of ${PLACEHOLDERS}`);
    }
  }
  if (text.replace(PLACEHOLDER, '').match(/[{}]/)) throw new BadRoleRequest(`${quote(text)} has an unbalanced brace`);
  const named = (kind: string): string[] =>
    placeholders.filter((placeholder) => placeholder.startsWith(kind)).map((placeholder) => placeholder.slice(kind.length));
  return {
    text,
    labels: named('label:'),
    env: named('env:'),
    fill: (caller, host) => text.replace(PLACEHOLDER, (_, placeholder: string) => fillPlaceholder(placeholder, caller, host)),
  };
}

function fillPlaceholder(placeholder: string, caller: CallerDescription, host: string): string {
  switch (placeholder) {
    case 'container.name':
      return caller.name;
    case 'container.id':
      return caller.shortId;
    case 'image':
      return caller.image;
    case 'host':
      return host;
  }
  const [kind = '', name = ''] = placeholder.split(/:(.*)/s);
  return (kind === 'label' ? caller.labels : caller.env).get(name) ?? '';
}
