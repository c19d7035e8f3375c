import type { Container } from '../docker/container.ts';
import { BadRoleRequest, quote } from './bad-request.ts';

/** Text with places that are filled in for each container: `{container.name}-{label:team}`. */
export interface Template {
  readonly text: string;
  /** The labels and environment variables that it reads. */
  readonly labels: readonly string[];
  readonly env: readonly string[];
  fill(container: Container, host: string): string;
}

const PLACE = /\{([^{}]*)\}/g;
const PLACES = '{container.name}, {container.id}, {image}, {host}, {label:X}, {env:X}';

/** @throws BadRoleRequest naming a place that does not exist */
export function parseTemplate(text: string): Template {
  const places = [...text.matchAll(PLACE)].map(([, place = '']) => place);
  for (const place of places) {
    if (!/^(?:container\.(?:name|id)|image|host|(?:label|env):.+)$/.test(place)) {
      throw new BadRoleRequest(`${quote(text)} has the place {${place}}; there are ${PLACES}`);
    }
  }
  if (text.replace(PLACE, '').match(/[{}]/)) throw new BadRoleRequest(`${quote(text)} has a brace without its other one`);
  const named = (kind: string): string[] =>
    places.filter((place) => place.startsWith(kind)).map((place) => place.slice(kind.length));
  return {
    text,
    labels: named('label:'),
    env: named('env:'),
    fill: (container, host) => text.replace(PLACE, (_, place: string) => fillPlace(place, container, host)),
  };
}

function fillPlace(place: string, container: Container, host: string): string {
  switch (place) {
    case 'container.name':
      return container.name;
    case 'container.id':
      return container.shortId;
    case 'image':
      return container.image;
    case 'host':
      return host;
  }
  const [kind = '', name = ''] = place.split(/:(.*)/s);
  return (kind === 'label' ? container.labels : container.env).get(name) ?? '';
}
