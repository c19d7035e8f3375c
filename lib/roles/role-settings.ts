import type { ArnPattern } from './arn-pattern.ts';
import type { RoleReference, AccountNames } from './role-reference.ts';
import type { RoleRule } from './role-rules.ts';
import type { SessionNaming } from './session-name.ts';
import type { TagSources } from './session-tags.ts';
import type { Template } from './template.ts';

/** The operator's settings for all callers' roles. */
export interface RoleSettings {
  /** For callers that declare no role. */
  readonly defaultRole: RoleReference | undefined;
  /** The account of roles without one. */
  readonly defaultAccountId: string | undefined;
  /** The session policy of callers with the default role that declare none. */
  readonly defaultPolicy: string | undefined;
  readonly accounts: AccountNames;
  /** Undefined allows every role. */
  readonly allowed: readonly ArnPattern[] | undefined;
  /** The first matching rule applies. */
  readonly rules: readonly RoleRule[];
  readonly sessionNaming: SessionNaming;
  /** The variable or label with a container's session name, as in lyft's metadataproxy. */
  readonly sessionKey: { readonly kind: 'env' | 'label'; readonly name: string } | undefined;
  readonly tags: TagSources | undefined;
  readonly transitiveTags: boolean;
  readonly sourceIdentity: Template | undefined;
  readonly durationSeconds: number | undefined;
  /** The name of this host, for session names. */
  readonly host: string;
}
