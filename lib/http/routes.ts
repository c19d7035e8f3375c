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
  | 'session-token'
  | 'iam-listing'
  | 'iam-info'
  | 'role-name'
  | 'role-credentials'
  | 'container-credentials'
  | 'health'
  | 'metrics'
  | 'pass-through'
  | 'refused';

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

/** What a canonical path means. */
export interface Match {
  readonly route: Route;
  /** The role that the path names; '' where it names none. */
  readonly role: string;
}

const READ = { methods: ['GET', 'HEAD'], needsToken: true, isAudited: false };
const CREDENTIALS = { ...READ, isAudited: true };
const WITHOUT_TOKEN = { ...READ, needsToken: false };

const ROLE_CREDENTIALS = {
  ...CREDENTIALS,
  kind: 'role-credentials',
  // go-metadataproxy misspells it, and dashboards were made for that.
  metric: { handler: 'iam-security-crentials-for-role', path: '/meta-data/iam/security-credentials/{requested_role}' },
} as const;

const ROUTES: readonly Route[] = [
  {
    ...WITHOUT_TOKEN,
    kind: 'session-token',
    patterns: ['/latest/api/token'],
    methods: ['PUT'],
    handle: ({ sessionToken }, exchange) => sessionToken(exchange),
  },
  {
    ...READ,
    kind: 'iam-listing',
    patterns: ['/{version}/meta-data/iam/'],
    handle: ({ iamListing }, exchange) => iamListing(exchange),
  },
  {
    ...CREDENTIALS,
    kind: 'iam-info',
    patterns: ['/{version}/meta-data/iam/info/*'],
    metric: { handler: 'iam-info-handler', path: '/meta-data/iam/info' },
    handle: ({ iamInfo }, exchange) => iamInfo(exchange),
  },
  {
    ...READ,
    kind: 'role-name',
    patterns: ['/{version}/meta-data/iam/security-credentials/', '/{version}/meta-data/iam/security-credentials-extended/'],
    metric: { handler: 'iam-security-credentials-name', path: '/meta-data/iam/security-credentials/' },
    handle: ({ roleName }, exchange) => roleName(exchange),
  },
  {
    ...ROLE_CREDENTIALS,
    patterns: ['/{version}/meta-data/iam/security-credentials/{role}/*'],
    handle: ({ roleCredentials }, exchange, role) => roleCredentials(exchange, role, false),
  },
  {
    ...ROLE_CREDENTIALS,
    patterns: ['/{version}/meta-data/iam/security-credentials-extended/{role}/*'],
    handle: ({ roleCredentials }, exchange, role) => roleCredentials(exchange, role, true),
  },
  {
    ...CREDENTIALS,
    kind: 'container-credentials',
    patterns: ['/v2/credentials/*', '/creds/*'],
    handle: ({ containerCredentials }, exchange) => containerCredentials(exchange),
  },
  {
    ...WITHOUT_TOKEN,
    kind: 'metrics',
    patterns: ['/metrics'],
    metric: { handler: 'metrics', path: '/metrics' },
    handle: ({ metrics }, exchange) => metrics(exchange),
  },
  {
    // iam-docker's path: health checks that were written for it keep working.
    ...WITHOUT_TOKEN,
    kind: 'health',
    patterns: ['/healthcheck'],
    handle: (_, exchange) => sendText(exchange, ''),
  },
];

const PASS_THROUGH: Match = {
  role: '',
  route: {
    ...READ,
    kind: 'pass-through',
    patterns: [],
    metric: { handler: 'passthrough' },
    handle: ({ passThrough }, exchange) => passThrough(exchange),
  },
};

const REFUSED: Match = { role: '', route: { ...READ, kind: 'refused', patterns: [], handle: undefined } };

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
    if (found && hasIam(found.groups?.['version'] ?? 'latest')) return { route, role: found.groups?.['role'] ?? '' };
  }
  return isForwardable(path) ? PASS_THROUGH : REFUSED;
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
    .replace(/\/\*$/, '(?:/.*)?');
  return new RegExp(`^${source}$`);
}
