/**
 * From a canonical path to the kind of answer. Whatever could name a credential is answered here or refused; only
 * what `isForwardable` lets through may go upstream.
 */

export type Route =
  | { kind: 'session-token' }
  | { kind: 'iam-listing' }
  | { kind: 'iam-info' }
  | { kind: 'role-name' }
  | { kind: 'role-credentials'; role: string; extended: boolean }
  | { kind: 'container-credentials' }
  | { kind: 'health' }
  | { kind: 'metrics' }
  | { kind: 'pass-through' }
  | { kind: 'refused' };

const SESSION_TOKEN: Route = { kind: 'session-token' };
const IAM_LISTING: Route = { kind: 'iam-listing' };
const IAM_INFO: Route = { kind: 'iam-info' };
const ROLE_NAME: Route = { kind: 'role-name' };
const CONTAINER_CREDENTIALS: Route = { kind: 'container-credentials' };
const HEALTH: Route = { kind: 'health' };
const METRICS: Route = { kind: 'metrics' };
const PASS_THROUGH: Route = { kind: 'pass-through' };
const REFUSED: Route = { kind: 'refused' };

/**
 * Any path part that begins like one of the credential-bearing subtrees of IMDS, in any case and in any place: an
 * upstream that ignores case, does without a version or learns `iam-v2` still gets no such request.
 */
const CREDENTIAL_SEGMENT = /\/(?:iam|identity-credentials|security-credentials)/i;

/** An instance tag may be called `iam…`; this is the one place where the word means nothing. */
const INSTANCE_TAG = /^\/[^/]+\/meta-data\/tags\/instance\/[^/]+$/;

/** The first version that has `meta-data/iam/`. Dates in this form order as strings do. */
const FIRST_IAM_VERSION = '2012-01-12';
const VERSION_DATE = /^\d{4}-\d{2}-\d{2}$/;

/** @param path a canonical path */
export function route(path: string): Route {
  if (path === '/latest/api/token') return SESSION_TOKEN;
  if (isUnder(path, '/v2/credentials') || isUnder(path, '/creds')) return CONTAINER_CREDENTIALS;
  if (path === '/healthcheck') return HEALTH; // iam-docker's, for the health checks that were made for it.
  if (path === '/metrics') return METRICS;
  if (isForwardable(path)) return PASS_THROUGH;

  const [, version = '', tree, iam, leaf = '', role = ''] = path.split('/');
  if (tree !== 'meta-data' || iam !== 'iam' || !hasIam(version)) return REFUSED;
  switch (leaf) {
    case '':
      return IAM_LISTING;
    case 'info':
      return IAM_INFO;
    case 'security-credentials':
    case 'security-credentials-extended':
      // IMDS ignores whatever follows the role.
      return role === '' ? ROLE_NAME : { kind: 'role-credentials', role, extended: leaf.endsWith('-extended') };
    default:
      return REFUSED;
  }
}

/** Whether a canonical path may be asked of the real IMDS: it can name no credential of the host. */
export function isForwardable(path: string): boolean {
  return !CREDENTIAL_SEGMENT.test(path) || INSTANCE_TAG.test(path);
}

function hasIam(version: string): boolean {
  return version === 'latest' || (VERSION_DATE.test(version) && version >= FIRST_IAM_VERSION);
}

function isUnder(path: string, directory: string): boolean {
  return path.startsWith(directory) && (path.length === directory.length || path[directory.length] === '/');
}
