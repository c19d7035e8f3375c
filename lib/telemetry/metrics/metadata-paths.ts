/**
 * The metadata service's paths and versions that metrics name: a container may ask for any number of others. Source:
 * EC2 user guide, "Instance metadata categories"; the versions are those that the service lists.
 */

/** Stands for every other value. */
export const OTHER = 'other';

const VERSIONS = new Set(
  (
    '1.0 2007-01-19 2007-03-01 2007-08-29 2007-10-10 2007-12-15 2008-02-01 2008-09-01 2009-04-04 2011-01-01 2011-05-01 ' +
    '2012-01-12 2014-02-25 2014-11-05 2015-10-20 2016-04-19 2016-06-30 2016-09-02 2018-03-28 2018-08-17 2018-09-24 ' +
    '2019-10-01 2020-10-27 2021-01-03 2021-03-23 2021-07-15 2022-07-09 2022-09-24 2024-04-11 latest'
  ).split(' '),
);

const TREE = new Set([
  '',
  'api/token',
  'dynamic',
  'dynamic/instance-identity',
  'dynamic/instance-identity/document',
  'dynamic/instance-identity/pkcs7',
  'dynamic/instance-identity/rsa2048',
  'dynamic/instance-identity/signature',
  'meta-data',
  'meta-data/ami-id',
  'meta-data/ami-launch-index',
  'meta-data/ami-manifest-path',
  'meta-data/autoscaling/target-lifecycle-state',
  'meta-data/block-device-mapping',
  'meta-data/events/maintenance/scheduled',
  'meta-data/events/recommendations/rebalance',
  'meta-data/hostname',
  'meta-data/iam',
  'meta-data/instance-action',
  'meta-data/instance-id',
  'meta-data/instance-life-cycle',
  'meta-data/instance-type',
  'meta-data/local-hostname',
  'meta-data/local-ipv4',
  'meta-data/mac',
  'meta-data/network/interfaces/macs',
  'meta-data/placement/availability-zone',
  'meta-data/placement/availability-zone-id',
  'meta-data/placement/region',
  'meta-data/profile',
  'meta-data/public-hostname',
  'meta-data/public-ipv4',
  'meta-data/public-keys',
  'meta-data/reservation-id',
  'meta-data/security-groups',
  'meta-data/services/domain',
  'meta-data/services/partition',
  'meta-data/spot/instance-action',
  'meta-data/spot/termination-time',
  'meta-data/system',
  'meta-data/tags/instance',
  'user-data',
]);

/** @returns the canonical path itself when it is one of the metadata service's, and `other` when it is not */
export function knownPath(path: string): string {
  if (path === '/' || path === '/healthcheck' || path === '/metrics') return path;
  const end = path.endsWith('/') ? path.length - 1 : path.length;
  const slash = path.indexOf('/', 1);
  if (slash === -1 || slash >= end) return VERSIONS.has(path.slice(1, end)) ? path : OTHER;
  return VERSIONS.has(path.slice(1, slash)) && TREE.has(path.slice(slash + 1, end)) ? path : OTHER;
}

/** @returns the version that a canonical path begins with; '' when it begins with none that there is */
export function knownVersion(path: string): string {
  const slash = path.indexOf('/', 1);
  const version = path.slice(1, slash === -1 ? path.length : slash);
  return VERSIONS.has(version) ? version : '';
}
