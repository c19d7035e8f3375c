import type { RouteKind } from '../../http/routes.ts';
import { BoundedMap } from '../../util/bounded-map.ts';
import { Memo } from '../../util/memo.ts';

/** The labels of go-metadataproxy's metrics, in the order of their values in statsd's names. */
export const REQUEST_LABELS = [
  'handler_name',
  'request_path',
  'api_version',
  'remote_addr',
  'role_name',
  'response_code',
  'error_description',
  'service',
] as const;
export type RequestLabel = (typeof REQUEST_LABELS)[number];

/** Stands for every value that a caller may have made up. */
export const OTHER = 'other';

/** Of the other routes, the caller chooses a part of the path, or go-metadataproxy has a label for all paths. */
const LABELLED_BY_PATH: ReadonlySet<RouteKind> = new Set(['pass-through', 'iam-listing', 'session-token', 'health']);

/** IMDS has some 100 paths, and SDKs read a handful. The series of the metrics are limited further. */
const MAX_PATHS = 256;
/** IMDS has some 30 versions. */
const MAX_VERSIONS = 64;

/**
 * Which paths and versions of IMDS become labels. Callers can request any number of paths, so a path becomes a label
 * once a request for it succeeded. What the upstream IMDS adds later needs no change here.
 */
export class PathLabels {
  readonly #paths = new BoundedMap<string, true>(MAX_PATHS);
  readonly #versions = new BoundedMap<string, true>(MAX_VERSIONS);
  readonly #versionOf = new Memo(MAX_PATHS, firstSegment);

  /** @param status of the response that was sent */
  observe(path: string, kind: RouteKind | undefined, status: number): void {
    if (status < 200 || status > 299) return;
    if (kind === undefined || kind === 'container-credentials') return;
    if (LABELLED_BY_PATH.has(kind) && !this.#paths.has(path)) this.#paths.set(path, true);
    if (kind === 'health' || kind === 'metrics') return;
    const version = this.#versionOf.of(path);
    if (version !== '' && !this.#versions.has(version)) this.#versions.set(version, true);
  }

  /** @param path canonical */
  path(path: string): string {
    return this.#paths.has(path) ? path : OTHER;
  }

  /** @returns the version that a canonical path begins with; '' if it begins with none that is known */
  version(path: string): string {
    const version = this.#versionOf.of(path);
    return version === 'latest' || this.#versions.has(version) ? version : '';
  }
}

function firstSegment(path: string): string {
  const slash = path.indexOf('/', 1);
  return path.slice(1, slash === -1 ? path.length : slash);
}
