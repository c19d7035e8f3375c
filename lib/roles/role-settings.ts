import type { ArnPattern } from './arn-pattern.ts';
import type { RoleReference, AccountNames } from './role-reference.ts';
import type { RoleRule } from './role-rules.ts';
import type { SessionNaming } from './session-name.ts';
import type { TagSources } from './session-tags.ts';
import type { Template } from './template.ts';

/** What the operator says of all containers' roles. */
export interface RoleSettings {
  /** For containers that name no role. */
  readonly defaultRole: RoleReference | undefined;
  /** The account of roles that are named without one. */
  readonly defaultAccountId: string | undefined;
  /** The session policy of containers that bring none. */
  readonly defaultPolicy: string | undefined;
  readonly accounts: AccountNames;
  /** Undefined allows every role. */
  readonly allowed: readonly ArnPattern[] | undefined;
  /** The first that matches a container counts. */
  readonly rules: readonly RoleRule[];
  readonly sessionNaming: SessionNaming;
  /** Where a container's own session name stands, in lyft's way. */
  readonly sessionKey: { readonly kind: 'env' | 'label'; readonly name: string } | undefined;
  readonly tags: TagSources | undefined;
  readonly transitiveTags: boolean;
  readonly sourceIdentity: Template | undefined;
  readonly durationSeconds: number | undefined;
  /** The name of this host, for session names. */
  readonly host: string;
}
