import type { CallerDescription } from '../caller.ts';
import { BadRoleRequest, quote } from './bad-request.ts';
import { parseTemplate, type Template } from './template.ts';

/** How role sessions are named: what CloudTrail shows of who acted. */
export type SessionNaming =
  /** `{container name}-{short id}`, the id kept whole. */
  | { readonly kind: 'container' }
  /** As docker-ec2-metadata did. */
  | { readonly kind: 'classic' }
  /** One name for the whole host, and so one session for each role: the fewest calls of STS. */
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
    throw new BadRoleRequest(`${quote(text)} is the same for all; expected "shared", "classic" or a template with {…}`);
  }
  return { kind: 'template', template: parseTemplate(text) };
}

/** A name that STS takes, from any text; empty for a text too short to make one. */
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
      // A label that is missing may leave nothing.
      return sanitiseSessionName(naming.template.fill(caller, host)) || containerName(caller);
  }
}

function containerName(caller: CallerDescription): string {
  const { name, shortId } = caller;
  if (shortId === '') return sanitiseSessionName(name) || sanitiseSessionName(`caller-${name}`);
  const start = name.replace(NOT_ALLOWED, '_').slice(0, MAX_LENGTH - shortId.length - 1);
  return start === '' ? shortId : `${start}-${shortId}`;
}

/** `{image}-{name}-{id}`: what one of image and name does not need of its half the other may have; their ends are kept. */
function classicName({ id, name, image }: CallerDescription): string {
  const spare = (text: string): number => Math.max(0, CLASSIC_HALF - text.length);
  const cutName = name.slice(-(CLASSIC_HALF + spare(image)));
  const cutImage = image.slice(-(CLASSIC_HALF + spare(cutName)));
  return `${cutImage}-${cutName}-${id.slice(0, CLASSIC_ID)}`.replace(NOT_ALLOWED, '_');
}
