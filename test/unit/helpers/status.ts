import type { ContainerRow } from '../../../lib/admin/container-rows.ts';
import type { HealthRow, RequestSummary, Status } from '../../../lib/admin/status.ts';

export const NOW = '2026-01-02T03:04:05.000Z';

export const NO_REQUESTS: RequestSummary = { requests: 0, refused: 0, failed: 0, p50: null, p99: null };
const UNUSED: HealthRow = { state: 'unknown', last_success: null, last_error: null };

/** A proxy that has just become ready, without a container. */
export function aStatus(more: Partial<Status> = {}): Status {
  return {
    version: '1.2.3',
    node: 'v20.0.0',
    time: NOW,
    uptime_seconds: 3 * 3600 + 4 * 60,
    ready: true,
    checks: { docker: { ok: true, detail: 'synced' }, credentials: { ok: true, detail: 'found' } },
    directory: { state: 'synced', containers: more.containers?.length ?? 0, last_sync: NOW },
    docker: { state: 'ok', last_success: NOW, last_error: null },
    sts: UNUSED,
    upstream: UNUSED,
    last_hour: NO_REQUESTS,
    minutes: Array.from({ length: 60 }, () => NO_REQUESTS),
    containers: [],
    roles: [],
    errors: [],
    settings: [],
    ...more,
  };
}

export function aRow(more: Partial<ContainerRow> = {}): ContainerRow {
  return {
    name: 'web',
    id: 'c0ffee000000',
    image: 'image',
    addresses: ['172.17.0.2'],
    role: 'app',
    role_arn: 'arn:aws:iam::123456789012:role/app',
    source: 'variable IAM_ROLE',
    credentials: 'ready',
    expires: '2026-01-02T04:04:05.000Z',
    error: null,
    requests: 0,
    last_error: null,
    ...more,
  };
}
