/**
 * Who sent a request. The TCP peer address identifies a caller; behind an address of the host itself, the process that
 * holds the connection does. No header is believed.
 */

import { DirectoryUnavailable, type Container } from './docker/container.ts';
import type { RoleReference } from './roles/role-reference.ts';

export type Caller = Container | HostProcess | MappedAddress | MesosTask | DemoCaller;

/** A process of the host that is in no container. All of them are one caller. */
export interface HostProcess {
  readonly kind: 'host-process';
  readonly id: string;
  readonly name: string;
  /** HOST_ROLE. */
  readonly role: RoleReference;
}

/** An address to which ROLE_MAPPING_FILE gives a role. */
export interface MappedAddress {
  readonly kind: 'mapped-address';
  readonly id: string;
  readonly name: string;
  readonly role: RoleReference;
  readonly externalId: string | undefined;
  readonly sessionName: string | undefined;
}

/** A running task of a Mesos agent. Its labels also stand for environment variables. */
export interface MesosTask {
  readonly kind: 'mesos-task';
  readonly id: string;
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
}

/** Any caller from loopback, in a demonstration that needs no Docker. */
export interface DemoCaller {
  readonly kind: 'demo';
  readonly id: string;
  readonly name: string;
}

/** No caller is known behind a connection. */
export class UnknownCaller extends Error {}

/** The caller cannot be determined now; a later request may succeed. */
export class CallerUndetermined extends Error {}

/** For rejections of the container directory, whose DirectoryUnavailable means that a caller is undetermined. */
export function rethrowUndetermined(error: unknown): never {
  throw error instanceof DirectoryUnavailable ? new CallerUndetermined(error.message, { cause: error }) : error;
}

/** What logs, metrics, rules, session names, tags and templates read of a caller; empty where it has no such thing. */
export interface CallerDescription {
  /** Unique among callers. */
  readonly id: string;
  /** The 12 characters that Docker's own tools show; empty for a caller that is not a container. */
  readonly shortId: string;
  readonly name: string;
  readonly image: string;
  readonly env: ReadonlyMap<string, string>;
  readonly labels: ReadonlyMap<string, string>;
  readonly networks: readonly string[];
}

const NO_VALUES: ReadonlyMap<string, string> = new Map();
const NOTHING = { shortId: '', image: '', env: NO_VALUES, labels: NO_VALUES, networks: [] };

export function describe(caller: Caller): CallerDescription {
  switch (caller.kind) {
    case 'container':
      return caller;
    case 'mesos-task':
      return { ...NOTHING, id: caller.id, name: caller.name, labels: caller.labels, env: caller.labels };
    case 'demo':
      return { ...NOTHING, id: caller.id, name: caller.name, shortId: caller.id.slice(0, 12), image: 'demo' };
    case 'host-process':
    case 'mapped-address':
      return { ...NOTHING, id: caller.id, name: caller.name };
  }
}
