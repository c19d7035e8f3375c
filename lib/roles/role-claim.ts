/**
 * From what a caller declares and what the operator's settings say to the caller's role request. A rule's role counts
 * before a label, a label before a variable.
 */

import { describe, type Caller, type CallerDescription } from '../caller.ts';
import { BadRoleRequest, quote } from './bad-request.ts';
import { parseRoleDuration, ROLE_DURATION_FORM } from './role-duration.ts';
import { inDefaultAccount, parseRoleReference, type AccountNames, type RoleReference } from './role-reference.ts';
import { roleRequest, type RoleRequest } from './role-request.ts';
import type { RoleRule } from './role-rules.ts';
import type { RoleSettings } from './role-settings.ts';
import { sanitiseSessionName, sessionName } from './session-name.ts';
import { parseSessionPolicy } from './session-policy.ts';
import { sessionTags } from './session-tags.ts';

/** In order of precedence: this project's own names, then those of iam-docker and docker-ec2-metadata. */
const ROLE_LABELS = ['metadataproxy.role', 'com.swipely.iam-docker.iam-profile'];
const ROLE_VARIABLES = ['IAM_ROLE', 'IAM_ROLE_ARN'];
const EXTERNAL_ID_LABELS = ['metadataproxy.external-id', 'com.swipely.iam-docker.iam-externalid'];
const EXTERNAL_ID_VARIABLES = ['IAM_EXTERNAL_ID', 'IAM_ROLE_EXTERNALID'];
const POLICY_LABEL = 'metadataproxy.policy';
const POLICY_VARIABLE = 'IAM_POLICY';
const SESSION_NAME_LABEL = 'metadataproxy.session-name';
const DURATION_LABEL = 'metadataproxy.duration';

export const CLAIM_LABELS: readonly string[] = [
  ...ROLE_LABELS, ...EXTERNAL_ID_LABELS, POLICY_LABEL, SESSION_NAME_LABEL, DURATION_LABEL,
];
export const CLAIM_VARIABLES: readonly string[] = [...ROLE_VARIABLES, ...EXTERNAL_ID_VARIABLES, POLICY_VARIABLE];

export interface Assignment {
  readonly request: RoleRequest;
  /** Where the role comes from, for the operator. */
  readonly source: string;
}

/** The role that a caller declares, and the fallback if it declares none; or why the declaration is invalid. */
export interface RoleClaim {
  readonly declared: Assignment | BadRoleRequest | undefined;
  readonly fallback: Assignment | BadRoleRequest | undefined;
}

/** Source: STS API reference, `AssumeRole`, ExternalId and SourceIdentity. */
const EXTERNAL_ID = /^[\w+=,.@:/-]{2,1224}$/;
const SOURCE_IDENTITY = /^[\w+=,.@-]{2,64}$/;
const NO_TAGS: ReadonlyMap<string, string> = new Map();

export function parseRoleClaim(caller: Caller, settings: RoleSettings): RoleClaim {
  const description = describe(caller);
  const declaration = declarationOf(caller, description, settings);
  const rule = settings.rules.find((candidate) => candidate.matches(description));
  const assign = (role: RoleReference, source: string, policy?: string): Assignment => ({
    request: requestOf(description, declaration, role, settings, rule, policy),
    source,
  });

  const fallback = rule?.defaultRole ?? settings.defaultRole;
  const fallbackSource = rule?.defaultRole ? `rule ${rule.number}, default` : 'default role';
  return {
    declared: attempt(() => {
      if (rule?.role) return assign(rule.role, `rule ${rule.number}`);
      const declared = declaration.role();
      return declared && assign(declared.role, declared.source);
    }),
    fallback: attempt(() => fallback && assign(fallback, fallbackSource, settings.defaultPolicy)),
  };
}

function attempt(make: () => Assignment | undefined): Assignment | BadRoleRequest | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof BadRoleRequest) return error;
    // For instance JSON.stringify, for a policy that is nested too deep.
    return new BadRoleRequest(`the claim cannot be read (${(error as Error).message})`);
  }
}

/** What a caller declares itself; each part is parsed when it is used. */
interface Declaration {
  /** @throws BadRoleRequest */
  readonly role: () => { readonly role: RoleReference; readonly source: string } | undefined;
  readonly externalId: string | undefined;
  readonly policy: string | undefined;
  readonly sessionName: string | undefined;
  readonly duration: string | undefined;
}

function declarationOf(
  caller: Caller,
  description: CallerDescription,
  { accounts, sessionKey }: RoleSettings,
): Declaration {
  const [policy, duration] = [undefined, undefined];
  switch (caller.kind) {
    case 'host-process': {
      const role = { role: caller.role, source: 'HOST_ROLE' };
      return { role: () => role, externalId: undefined, policy, sessionName: undefined, duration };
    }
    case 'mapped-address': {
      const role = { role: caller.role, source: 'ROLE_MAPPING_FILE' };
      return { role: () => role, externalId: caller.externalId, policy, sessionName: caller.sessionName, duration };
    }
    default: {
      const { labels, env } = description;
      const values = sessionKey?.kind === 'label' ? labels : env;
      return {
        role: () => declaredRole(description, accounts),
        externalId: firstSet(description, EXTERNAL_ID_LABELS, EXTERNAL_ID_VARIABLES)?.text,
        policy: firstSet(description, [POLICY_LABEL], [POLICY_VARIABLE])?.text,
        sessionName: labels.get(SESSION_NAME_LABEL) ?? (sessionKey && values.get(sessionKey.name)),
        duration: labels.get(DURATION_LABEL),
      };
    }
  }
}

function declaredRole(description: CallerDescription, accounts: AccountNames): ReturnType<Declaration['role']> {
  const first = firstSet(description, ROLE_LABELS, ROLE_VARIABLES);
  return first && { role: parseRoleReference(first.text, accounts), source: first.source };
}

/** The first label that is not blank, or else the first such variable. */
function firstSet(
  { labels, env }: CallerDescription,
  labelNames: readonly string[],
  variables: readonly string[],
): { readonly text: string; readonly source: string } | undefined {
  const find = (kind: string, names: readonly string[], values: ReadonlyMap<string, string>) => {
    const name = names.find((candidate) => values.get(candidate)?.trim());
    return name === undefined ? undefined : { text: values.get(name)?.trim() ?? '', source: `${kind} ${name}` };
  };
  return find('label', labelNames, labels) ?? find('variable', variables, env);
}

function requestOf(
  description: CallerDescription,
  { externalId, policy, sessionName: declaredName, duration }: Declaration,
  role: RoleReference,
  settings: RoleSettings,
  rule: RoleRule | undefined,
  defaultPolicy: string | undefined,
): RoleRequest {
  const { host, sessionNaming, sourceIdentity } = settings;
  return roleRequest({
    role: inDefaultAccount(role, settings.defaultAccountId),
    sessionName: sanitiseSessionName(declaredName ?? '') || sessionName(sessionNaming, description, host),
    externalId: checked(externalId, EXTERNAL_ID, 'external ID'),
    policy: rule?.policy ?? (policy === undefined ? defaultPolicy : parseSessionPolicy(policy)),
    durationSeconds: duration ? parseDuration(duration) : settings.durationSeconds,
    sourceIdentity: checked(sourceIdentity?.fill(description, host), SOURCE_IDENTITY, 'source identity'),
    tags: settings.tags ? sessionTags(settings.tags, description) : NO_TAGS,
    transitiveTags: settings.transitiveTags,
    allowed: [settings.allowed, rule?.allowed].filter((list) => list !== undefined),
  });
}

function parseDuration(text: string): number {
  const seconds = parseRoleDuration(text);
  if (seconds === undefined) {
    throw new BadRoleRequest(`the label ${DURATION_LABEL} is ${quote(text)}; expected ${ROLE_DURATION_FORM}`);
  }
  return seconds;
}

/** The value stays out of the message: an external ID is half a secret. */
function checked(value: string | undefined, form: RegExp, what: string): string | undefined {
  if (value === undefined || value === '') return undefined;
  if (!form.test(value)) throw new BadRoleRequest(`STS does not accept the ${what}; expected ${form.source}`);
  return value;
}
