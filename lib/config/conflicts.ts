/** Settings that are valid one by one, but cannot hold together. */

import { hostAddresses } from '../util/host-addresses.ts';
import { hostAndPort, isLoopback, normalAddress } from '../util/ip-address.ts';
import { withoutPassword } from '../util/printable.ts';
import type { Config } from './config.ts';
import type { ListenAddress } from './kinds.ts';
import { SETTINGS, type SettingName } from './settings.ts';

/** Source: STS API reference, `AssumeRole`: DurationSeconds without a value. */
const DEFAULT_DURATION_S = 3600;

/** An address with the setting that it comes from, and the text that shows it. */
interface Endpoint extends ListenAddress {
  readonly setting: string;
  readonly shown: string;
}

/** @returns one line for each pair, with the names of both */
export function conflicts(config: Config): string[] {
  return [...sharedPort(config), ...ownListeners(config), ...impossibleOffset(config)];
}

/** @returns one line for the log for each setting that another one leaves without effect */
export function overriddenSettings({ given, mockApi, disableUpstream, roleCacheOffset }: Omit<Config, 'notices'>): string[] {
  const pairs: readonly (readonly [isOverridden: boolean, setting: SettingName, by: SettingName])[] = [
    [mockApi, 'metadataUrl', 'mockApi'],
    [disableUpstream, 'passThroughAllow', 'disableUpstream'],
    [disableUpstream, 'passThroughDeny', 'disableUpstream'],
  ];
  const notices = pairs.filter(([isOverridden, setting]) => isOverridden && given.has(setting)).map(([, setting, by]) =>
    `${nameOf(given, setting)} has no effect with ${nameOf(given, by)}`);
  if (!given.has('roleDuration') && roleCacheOffset >= DEFAULT_DURATION_S * 1000) {
    const offset = offsetName(given);
    notices.push(`${offset} is longer than credentials live without ROLE_DURATION (1 hour); they are renewed at half of their lifetime`);
  }
  return notices;
}

function sharedPort({ given, host, port, adminAddress }: Config): string[] {
  if (adminAddress === 'off' || port === 0 || port !== adminAddress.port || !overlap(host, adminAddress.host)) return [];
  const both = `${hostAndPort(host, port)} and ${hostAndPort(adminAddress.host, port)}`;
  return [`${portName(given)} and ${nameOf(given, 'adminAddress')}: ${both} cannot both listen; change one of the ports`];
}

/** A server that the proxy connects to must not be the proxy: it would wait for itself, or forward requests to itself. */
function ownListeners(config: Config): string[] {
  const { given, host, port, adminAddress } = config;
  const listeners = [
    { setting: portName(given), host, port },
    ...(adminAddress === 'off' ? [] : [{ setting: nameOf(given, 'adminAddress'), ...adminAddress }]),
  ];
  return tcpServers(config).flatMap((server) =>
    listeners.filter((listener) => listener.port === server.port && reaches(server.host, listener.host)).map(({ setting }) =>
      `${server.setting} and ${setting}: ${server.shown} is the proxy's own listener`));
}

function impossibleOffset({ given, roleDuration, roleCacheOffset }: Config): string[] {
  const names = [offsetName(given), nameOf(given, 'roleDuration')];
  const isOffsetGiven = given.has('roleCacheOffset') || given.has('roleExpirationThreshold');
  if (!isOffsetGiven || roleDuration === undefined || roleCacheOffset < roleDuration * 1000) return [];
  const left = Math.round(roleCacheOffset / 1000);
  return [`${names.join(' and ')}: credentials that live ${roleDuration} seconds never have ${left} seconds left`];
}

function tcpServers(config: Config): Endpoint[] {
  const { given, docker, otlpDisabled, statsiteAddress: statsite } = config;
  const urls = [
    ['metadataUrl', config.mockApi ? undefined : config.metadataUrl],
    ['mesosUrl', config.mesosLookup ? config.mesosUrl : undefined],
    ['otlpEndpoint', otlpDisabled ? undefined : config.otlpEndpoint],
    ['otlpMetricsEndpoint', otlpDisabled ? undefined : config.otlpMetricsEndpoint],
  ] as const;
  const servers = urls.flatMap(([name, url]) => (url ? [endpointOf(nameOf(given, name), url)] : []));
  if (docker.kind === 'tcp') servers.push({ ...docker, setting: nameOf(given, 'docker'), shown: docker.url });
  if (statsite) servers.push({ ...statsite, setting: nameOf(given, 'statsiteAddress'), shown: hostAndPort(statsite.host, statsite.port) });
  return servers;
}

function endpointOf(setting: string, url: URL): Endpoint {
  const port = Number(url.port) || (url.protocol === 'https:' ? 443 : 80);
  return { setting, host: url.hostname.replace(/^\[|\]$/g, ''), port, shown: withoutPassword(url.href) };
}

/** Whether two sockets for these hosts take the same port from each other. A host name may be any address of this host. */
function overlap(one: string, other: string): boolean {
  const [a, b] = [listenedAddress(one), listenedAddress(other)];
  return a === b || covers(a, b) || covers(b, a);
}

function covers(wildcard: string, address: string): boolean {
  return wildcard === '::' || (wildcard === '0.0.0.0' && !address.includes(':'));
}

/** Whether a connection to `host` reaches a listener at `listening`, as far as that is certain. */
function reaches(host: string, listening: string): boolean {
  const [to, at] = [listenedAddress(host), listenedAddress(listening)];
  // The kernel connects to loopback instead of an unspecified address.
  if (to === '0.0.0.0' || to === '::') return covers(at, to) || isLoopback(at);
  return to === at || (covers(at, to) && (isLoopback(to) || isHosts(to)));
}

function isHosts(address: string): boolean {
  try {
    return hostAddresses().has(address);
  } catch {
    return false; // The host's addresses cannot be read.
  }
}

/** An address in normal form; a host name other than "localhost" stays as it is. Node listens on `::` if no host is given. */
function listenedAddress(host: string): string {
  return host === '' ? '::' : host === 'localhost' ? '127.0.0.1' : (normalAddress(host) ?? host);
}

function nameOf(given: Config['given'], name: SettingName): string {
  return given.get(name)?.source ?? SETTINGS[name].env[0] ?? name;
}

function portName(given: Config['given']): string {
  return nameOf(given, given.has('server') ? 'server' : 'port');
}

function offsetName(given: Config['given']): string {
  const isThreshold = given.has('roleExpirationThreshold') && !given.has('roleCacheOffset');
  return nameOf(given, isThreshold ? 'roleExpirationThreshold' : 'roleCacheOffset');
}
