/**
 * The events that components report. Telemetry implements them: the log, the metrics and the status page need nothing
 * else, and no component knows any of the three.
 */

import type { Caller } from './caller.ts';
import type { CallResult } from './credentials/aws/clients.ts';
import type { Credentials } from './credentials/credentials.ts';
import type { DirectoryState } from './docker/directory.ts';
import type { Exchange } from './http/exchange.ts';
import type { Route } from './http/routes.ts';
import type { BadRoleRequest } from './roles/bad-request.ts';
import type { RoleRequest } from './roles/role-request.ts';

export interface Events {
  /** A call to STS or IAM has ended. */
  awsCallEnded(operation: string, result: CallResult, milliseconds: number): void;
  credentialsFetched(request: RoleRequest, credentials: Credentials, milliseconds: number): void;
  /** @param failures in a row, this one included */
  credentialsFailed(request: RoleRequest, failure: Error, retryInMs: number, failures: number): void;
  sourceCredentialsFailed(error: Error): void;
  /** @param sentAt when the engine sent the event, in milliseconds since the epoch */
  engineEventReceived(sentAt: number): void;
  directoryStateChanged(state: DirectoryState, detail: { readonly count: number; readonly error?: Error }): void;
  /** Once for each caller whose role, policy or duration is invalid. */
  roleRequestInvalid(caller: Caller, error: BadRoleRequest): void;
  /** Callers on the host's network cannot be identified. */
  hostNetworkFailed(reason: string): void;
  /** The upstream IMDS issued no session token; requests are sent without one. */
  upstreamTokenFailed(reason: string): void;
  fileReloaded(setting: string, path: string): void;
  /** The previous version stays in force. */
  fileReloadFailed(setting: string, path: string, error: Error): void;
  /**
   * A response was sent, or the client disconnected. The exchange has the caller, the response and its status.
   *
   * @param route undefined for a request that was refused before it was routed
   * @param failure the error that was answered; undefined for a success
   */
  requestAnswered(exchange: Exchange, route: Route | undefined, failure: unknown, seconds: number): void;
}
