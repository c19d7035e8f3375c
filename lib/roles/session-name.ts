import type { CallerDescription } from '../caller.ts';
import { BadRoleRequest, quote } from './bad-request.ts';
import { parseTemplate, type Template } from './template.ts';

/** How role sessions are named. CloudTrail shows the name with each action. */
export type SessionNaming =
  /** `{container name}-{short id}`; only the name is cut. */
  | { readonly kind: 'container' }
  /** As in docker-ec2-metadata. */
  | { readonly kind: 'classic' }
  /** One name for the whole host, so one session for each role: the fewest STS calls. */
  | { readonly kind: 'shared' }
  | { readonly kind: 'template'; readonly template: Template };

/** Source: STS API reference, `AssumeRole`, RoleSessionName. */
const NOT_ALLOWED = /[^\w+=,.@-]/g;
const MIN_LENGTH = 2;
const MAX_LENGTH = 64;
/** docker-ec2-metadata's own limits: 32 characters, of which the id and two dashes take 8. */
const CLASSIC_ID = 6;
const CLASSIC_HALF = (32 - CLASSIC_ID - 2) / 2;

/** @throws BadRoleRequest */
export function parseSessionNaming(text: string): SessionNaming {
  if (text === 'container' || text === 'classic' || text === 'shared') return { kind: text };
  if (!text.includes('{')) {
    throw new BadRoleRequest(`${quote(text)} names every session alike; expected "shared", "classic" or a template with {…}`);
  }
  return { kind: 'template', template: parseTemplate(text) };
}

/** Makes a valid name from any text; empty if the text is too short. */
export function sanitiseSessionName(text: string): string {
  const name = text.replace(NOT_ALLOWED, '_').slice(0, MAX_LENGTH);
  return name.length < MIN_LENGTH ? '' : name;
}

export function sessionName(naming: SessionNaming, caller: CallerDescription, host: string): string {
  switch (naming.kind) {
    case 'container':
      return containerName(caller);
    case 'classic':
      return classicName(caller);
    case 'shared':
      return sanitiseSessionName(`metadataproxy-${host}`);
    case 'template':
      // Empty if the template has only labels or variables that are missing.
      return sanitiseSessionName(naming.template.fill(caller, host)) || containerName(caller);
  }
}

function containerName(caller: CallerDescription): string {
  const { name, shortId } = caller;
  if (shortId === '') return sanitiseSessionName(name) || sanitiseSessionName(`caller-${name}`);
  const start = name.replace(NOT_ALLOWED, '_').slice(0, MAX_LENGTH - shortId.length - 1);
  return start === '' ? shortId : `${start}-${shortId}`;
}

/** `{image}-{name}-{id}`. Image and name are cut at the start; each may use what the other leaves of its half. */
function classicName({ id, name, image }: CallerDescription): string {
  const spare = (text: string): number => Math.max(0, CLASSIC_HALF - text.length);
  const cutName = name.slice(-(CLASSIC_HALF + spare(image)));
  const cutImage = image.slice(-(CLASSIC_HALF + spare(cutName)));
  return `${cutImage}-${cutName}-${id.slice(0, CLASSIC_ID)}`.replace(NOT_ALLOWED, '_');
}
