/**
 * What happens in the running program, as its components report it. Telemetry implements it: the log, the metrics and
 * the operator's page learn of everything through here, and no component knows them.
 */

import type { CallResult } from './credentials/aws/clients.ts';
import type { Credentials } from './credentials/credentials.ts';
import type { Container } from './docker/container.ts';
import type { DirectoryState } from './docker/directory.ts';
import type { Exchange } from './http/exchange.ts';
import type { Route } from './http/routes.ts';
import type { BadRoleRequest } from './roles/bad-request.ts';
import type { RoleRequest } from './roles/role-request.ts';

export interface Events {
  /** A call of STS or IAM has ended. */
  awsCallEnded(operation: string, result: CallResult, milliseconds: number): void;
  credentialsFetched(request: RoleRequest, credentials: Credentials, milliseconds: number): void;
  /** @param failures in a row, this one included */
  credentialsFailed(request: RoleRequest, failure: Error, retryInMs: number, failures: number): void;
  sourceCredentialsFailed(error: Error): void;
  /** @param sentAt when the engine sent the event, in milliseconds since the epoch */
  engineEventReceived(sentAt: number): void;
  directoryStateChanged(state: DirectoryState, detail: { readonly count: number; readonly error?: Error }): void;
  /** Once for each container whose role, policy or duration is invalid. */
  roleRequestInvalid(container: Container, error: BadRoleRequest): void;
  /** The callers on the host's network cannot be identified. */
  hostNetworkFailed(reason: string): void;
  /** The upstream IMDS gave no session token; requests go without one. */
  upstreamTokenFailed(reason: string): void;
  fileReloaded(setting: string, path: string): void;
  /** The previous version stays in force. */
  fileReloadFailed(setting: string, path: string, error: Error): void;
  /**
   * An answer was sent, or given up. What was answered stands in the exchange and its response.
   *
   * @param route undefined for a request that was refused before its route was known
   * @param failure why there was no answer of that route; undefined when there was
   */
  requestAnswered(exchange: Exchange, route: Route | undefined, failure: unknown, seconds: number): void;
}
