/**
 * Every path that the proxy answers, in one table. Of the other paths, those that may name a credential are refused, and
 * the rest is passed through to the upstream IMDS. The log and the metrics take the names of routes from here.
 */

import { sendText, type Exchange, type Handler } from './exchange.ts';

export interface Handlers {
  sessionToken: Handler;
  iamListing: Handler;
  iamInfo: Handler;
  roleName: Handler;
  roleCredentials: (exchange: Exchange, role: string, extended: boolean) => void | Promise<void>;
  containerCredentials: Handler;
  metrics: Handler;
  passThrough: Handler;
}

export type RouteKind =
  | 'session-token' | 'iam-listing' | 'iam-info' | 'role-name' | 'role-credentials' | 'container-credentials'
  | 'metrics' | 'health' | 'pass-through' | 'refused';

export interface Route {
  readonly kind: RouteKind;
  /** `{…}` is one segment; a last `/` may be missing; `/*` is whatever follows, or nothing. */
  readonly patterns: readonly string[];
  readonly methods: readonly string[];
  /** Whether a session token is checked, and required where IMDSv2 is. */
  readonly needsToken: boolean;
  /** Whether the log has a line for each answer: it holds credentials, or refuses them. */
  readonly isAudited: boolean;
  /** What go-metadataproxy calls the route in its labels `handler_name` and `request_path`, where it has one. */
  readonly metric?: { readonly handler: string; readonly path?: string };
  /** Undefined for what is refused. */
  readonly handle: ((handlers: Handlers, exchange: Exchange, role: string) => void | Promise<void>) | undefined;
}

export interface Match {
  /** The canonical path. */
  readonly path: string;
  readonly route: Route;
  /** The role that the path names; '' where it names none. */
  readonly role: string;
}

const READ = { methods: ['GET', 'HEAD'], needsToken: true, isAudited: false };
const CREDENTIALS = { ...READ, isAudited: true };
const WITHOUT_TOKEN = { ...READ, needsToken: false };
const ISSUE = { ...WITHOUT_TOKEN, methods: ['PUT'] };

const IAM = '/{version}/meta-data/iam';
const ROLE = `${IAM}/security-credentials`;

const IAM_INFO = { handler: 'iam-info-handler', path: '/meta-data/iam/info' };
const ROLE_NAME = { handler: 'iam-security-credentials-name', path: '/meta-data/iam/security-credentials/' };
/** go-metadataproxy misspells the name, and dashboards use it. */
const ROLE_CREDENTIALS = {
  handler: 'iam-security-crentials-for-role',
  path: '/meta-data/iam/security-credentials/{requested_role}',
};

const ROUTES: readonly Route[] = [
  { ...ISSUE, kind: 'session-token', patterns: ['/latest/api/token'], handle: (to, exchange) => to.sessionToken(exchange) },
  { ...READ, kind: 'iam-listing', patterns: [`${IAM}/`], handle: (to, exchange) => to.iamListing(exchange) },
  {
    ...CREDENTIALS, kind: 'iam-info', patterns: [`${IAM}/info/*`], metric: IAM_INFO,
    handle: (to, exchange) => to.iamInfo(exchange),
  },
  {
    ...READ, kind: 'role-name', patterns: [`${ROLE}/`, `${ROLE}-extended/`], metric: ROLE_NAME,
    handle: (to, exchange) => to.roleName(exchange),
  },
  {
    ...CREDENTIALS, kind: 'role-credentials', patterns: [`${ROLE}/{role}/*`], metric: ROLE_CREDENTIALS,
    handle: (to, exchange, role) => to.roleCredentials(exchange, role, false),
  },
  {
    ...CREDENTIALS, kind: 'role-credentials', patterns: [`${ROLE}-extended/{role}/*`], metric: ROLE_CREDENTIALS,
    handle: (to, exchange, role) => to.roleCredentials(exchange, role, true),
  },
  {
    ...CREDENTIALS, kind: 'container-credentials', patterns: ['/v2/credentials/*', '/creds/*'],
    handle: (to, exchange) => to.containerCredentials(exchange),
  },
  {
    ...WITHOUT_TOKEN, kind: 'metrics', patterns: ['/metrics'], metric: { handler: 'metrics', path: '/metrics' },
    handle: (to, exchange) => to.metrics(exchange),
  },
  // iam-docker's path: health checks that were written for it keep working.
  { ...WITHOUT_TOKEN, kind: 'health', patterns: ['/healthcheck'], handle: (_, exchange) => sendText(exchange, '') },
];
/** Every other path that names no credential. */
const PASS_THROUGH: Route = {
  ...READ, kind: 'pass-through', patterns: [], metric: { handler: 'passthrough' },
  handle: (to, exchange) => to.passThrough(exchange),
};
const REFUSED: Route = { ...READ, kind: 'refused', patterns: [], handle: undefined };

/**
 * A segment that begins like the name of a subtree of IMDS that holds credentials, in any case and at any depth: an
 * upstream that ignores case, knows paths without a version or learns `iam-v2` still gets no such request.
 */
const CREDENTIAL_SEGMENT = /\/(?:iam|identity-credentials|security-credentials)/i;

/** The name of an instance tag may begin with `iam`: here alone the word names no credential. */
const INSTANCE_TAG = /^\/[^/]+\/meta-data\/tags\/instance\/[^/]+$/;

/** The first version that has `meta-data/iam/`. Dates in this form order as strings do. */
const FIRST_IAM_VERSION = '2012-01-12';
const VERSION_DATE = /^\d{4}-\d{2}-\d{2}$/;

const COMPILED = ROUTES.flatMap((route) => route.patterns.map((pattern) => ({ route, pattern: compile(pattern) })));

/** @param path a canonical path */
export function match(path: string): Match {
  for (const { route, pattern } of COMPILED) {
    const found = pattern.exec(path);
    if (found && hasIam(found.groups?.['version'] ?? 'latest')) return { path, route, role: found.groups?.['role'] ?? '' };
  }
  return { path, route: isForwardable(path) ? PASS_THROUGH : REFUSED, role: '' };
}

/** The part of a path that its route goes by. What follows is the caller's own text, which the route ignores. */
export function routedPart(path: string): string {
  for (const { pattern } of COMPILED) {
    const routed = pattern.exec(path)?.groups?.['routed'];
    if (routed !== undefined) return routed;
  }
  return path;
}

/** Whether a canonical path may be requested of the upstream IMDS: it can name no credential of the host. */
export function isForwardable(path: string): boolean {
  return !CREDENTIAL_SEGMENT.test(path) || INSTANCE_TAG.test(path);
}

function hasIam(version: string): boolean {
  return version === 'latest' || (VERSION_DATE.test(version) && version >= FIRST_IAM_VERSION);
}

function compile(pattern: string): RegExp {
  const source = pattern
    .replace(/\{(\w+)\}/g, '(?<$1>[^/]+)')
    .replace(/\/$/, '/?')
    .replace(/^(.*)\/\*$/, '(?<routed>$1)(?:/.*)?');
  return new RegExp(`^${source}$`);
}
