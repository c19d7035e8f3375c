/**
 * From what stands in a container's labels and environment, and in the operator's settings, to the role request that
 * it makes. A label counts before a variable, the operator's rule before both.
 */

import type { Container } from '../docker/container.ts';
import { BadRoleRequest, quote } from './bad-request.ts';
import { parseRoleDuration, ROLE_DURATION_FORM } from './role-duration.ts';
import { parseRoleReference, type RoleReference } from './role-reference.ts';
import { roleRequest, type RoleRequest } from './role-request.ts';
import type { RoleRule } from './role-rules.ts';
import type { RoleSettings } from './role-settings.ts';
import { sanitiseSessionName, sessionName } from './session-name.ts';
import { parseSessionPolicy } from './session-policy.ts';
import { sessionTags } from './session-tags.ts';

/** The labels and variables in which a container says what it wants. */
export const ROLE_LABEL = 'metadataproxy.role';
export const ROLE_VARIABLE = 'IAM_ROLE';
/** docker-ec2-metadata's first name for it. */
export const FIRST_ROLE_VARIABLE = 'IAM_ROLE_ARN';
export const EXTERNAL_ID_LABEL = 'metadataproxy.external-id';
export const EXTERNAL_ID_VARIABLE = 'IAM_EXTERNAL_ID';
export const POLICY_LABEL = 'metadataproxy.policy';
export const POLICY_VARIABLE = 'IAM_POLICY';
export const SESSION_NAME_LABEL = 'metadataproxy.session-name';
export const DURATION_LABEL = 'metadataproxy.duration';
/** Those of iam-docker. */
export const IAM_DOCKER_ROLE_LABEL = 'com.swipely.iam-docker.iam-profile';
export const IAM_DOCKER_EXTERNAL_ID_LABEL = 'com.swipely.iam-docker.iam-externalid';
export const IAM_DOCKER_EXTERNAL_ID_VARIABLE = 'IAM_ROLE_EXTERNALID';

/** In the order in which they count. */
const ROLE_LABELS = [ROLE_LABEL, IAM_DOCKER_ROLE_LABEL];
const ROLE_VARIABLES = [ROLE_VARIABLE, FIRST_ROLE_VARIABLE];
const EXTERNAL_ID_LABELS = [EXTERNAL_ID_LABEL, IAM_DOCKER_EXTERNAL_ID_LABEL];
const EXTERNAL_ID_VARIABLES = [EXTERNAL_ID_VARIABLE, IAM_DOCKER_EXTERNAL_ID_VARIABLE];

export const CLAIM_LABELS: readonly string[] = [
  ...ROLE_LABELS, ...EXTERNAL_ID_LABELS, POLICY_LABEL, SESSION_NAME_LABEL, DURATION_LABEL,
];
export const CLAIM_VARIABLES: readonly string[] = [...ROLE_VARIABLES, ...EXTERNAL_ID_VARIABLES, POLICY_VARIABLE];

/** Where a role comes from, in words for an operator. */
export interface Assignment {
  readonly request: RoleRequest;
  readonly source: string;
}

/** What a container has in the end: its own wish (or why that means nothing), and what it has without one. */
export interface RoleClaim {
  readonly declared: Assignment | BadRoleRequest | undefined;
  readonly fallback: Assignment | BadRoleRequest | undefined;
}

/** Source: STS API reference, `AssumeRole`, ExternalId and SourceIdentity. */
const EXTERNAL_ID = /^[\w+=,.@:/-]{2,1224}$/;
const SOURCE_IDENTITY = /^[\w+=,.@-]{2,64}$/;

export function parseRoleClaim(container: Container, settings: RoleSettings): RoleClaim {
  const rule = settings.rules.find((candidate) => candidate.matches(container));
  const attempt = (make: () => Assignment | undefined): Assignment | BadRoleRequest | undefined => {
    try {
      return make();
    } catch (error) {
      if (error instanceof BadRoleRequest) return error;
      // Such as a policy that is nested too deep to be written out.
      return new BadRoleRequest(`it cannot be read (${(error as Error).message})`);
    }
  };
  const assign = (role: RoleReference, source: string, policy?: string): Assignment => ({
    request: requestOf(container, role, settings, rule, policy),
    source,
  });

  const fallback = rule?.defaultRole ?? settings.defaultRole;
  const fallbackSource = rule?.defaultRole ? `rule ${rule.number}, default` : 'default role';
  return {
    declared: attempt(() => {
      if (rule?.role) return assign(rule.role, `rule ${rule.number}`);
      const named = firstSet(container, ROLE_LABELS, ROLE_VARIABLES);
      return named && assign(parseRoleReference(named.text, settings.accounts), named.source);
    }),
    fallback: attempt(() => fallback && assign(fallback, fallbackSource, settings.defaultPolicy)),
  };
}

type Named = { readonly text: string; readonly source: string };

/** The first of the labels, then of the variables, that is set. */
function firstSet({ labels, env }: Container, labelNames: readonly string[], variables: readonly string[]): Named | undefined {
  const find = (kind: string, names: readonly string[], values: ReadonlyMap<string, string>): Named | undefined => {
    const name = names.find((candidate) => values.get(candidate)?.trim());
    return name === undefined ? undefined : { text: values.get(name)?.trim() ?? '', source: `${kind} ${name}` };
  };
  return find('label', labelNames, labels) ?? find('variable', variables, env);
}

function requestOf(
  container: Container,
  role: RoleReference,
  settings: RoleSettings,
  rule: RoleRule | undefined,
  defaultPolicy: string | undefined,
): RoleRequest {
  const { defaultAccountId: accountId } = settings;
  const policy = firstSet(container, [POLICY_LABEL], [POLICY_VARIABLE])?.text;
  const externalId = firstSet(container, EXTERNAL_ID_LABELS, EXTERNAL_ID_VARIABLES)?.text;
  return roleRequest({
    role: role.kind === 'name' && accountId !== undefined ? { ...role, kind: 'account', accountId } : role,
    sessionName: sessionNameOf(container, settings),
    externalId: checked(externalId, EXTERNAL_ID, 'external id'),
    policy: rule?.policy ?? (policy === undefined ? defaultPolicy : parseSessionPolicy(policy)),
    durationSeconds: durationOf(container) ?? settings.durationSeconds,
    sourceIdentity: checked(settings.sourceIdentity?.fill(container, settings.host), SOURCE_IDENTITY, 'source identity'),
    tags: settings.tags ? sessionTags(settings.tags, container) : NO_TAGS,
    transitiveTags: settings.transitiveTags,
    allowed: [settings.allowed, rule?.allowed].filter((list) => list !== undefined),
  });
}

const NO_TAGS: ReadonlyMap<string, string> = new Map();

function sessionNameOf(container: Container, { sessionKey, sessionNaming, host }: RoleSettings): string {
  const values = sessionKey?.kind === 'label' ? container.labels : container.env;
  const own = container.labels.get(SESSION_NAME_LABEL) ?? (sessionKey && values.get(sessionKey.name)) ?? '';
  return sanitiseSessionName(own) || sessionName(sessionNaming, container, host);
}

function durationOf({ labels }: Container): number | undefined {
  const text = labels.get(DURATION_LABEL);
  if (!text) return undefined;
  const seconds = parseRoleDuration(text);
  if (seconds === undefined) {
    throw new BadRoleRequest(`the label ${DURATION_LABEL} is ${quote(text)}; expected ${ROLE_DURATION_FORM}`);
  }
  return seconds;
}

/** The value stays out of the message: an external id is half a secret. */
function checked(value: string | undefined, form: RegExp, what: string): string | undefined {
  if (value === undefined || value === '') return undefined;
  if (!form.test(value)) throw new BadRoleRequest(`the ${what} is not one that STS takes; expected ${form.source}`);
  return value;
}
