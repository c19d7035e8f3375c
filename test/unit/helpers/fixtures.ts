import type { Container } from '../../../lib/docker/container.ts';
import type { EngineContainer } from '../../../lib/docker/engine.ts';
import type { Credentials } from '../../../lib/credentials/credentials.ts';
import { roleRequest, type RoleRequest } from '../../../lib/roles/role-request.ts';
import type { RoleSettings } from '../../../lib/roles/role-settings.ts';
import { parseRoleReference } from '../../../lib/roles/role-reference.ts';

/** A container that is known, on a network of its own. */
export function aContainer(more: Partial<Container> = {}): Container {
  const id = more.id ?? 'c0ffee'.padEnd(64, '0');
  return {
    kind: 'container',
    id,
    shortId: id.slice(0, 12),
    name: 'web',
    image: 'image',
    hostname: '',
    env: new Map(),
    labels: new Map(),
    labelledAddress: undefined,
    networks: [],
    network: 'own',
    ...more,
  };
}

/** A container as the engine shows it. */
export function anEngineContainer(more: Partial<EngineContainer> = {}): EngineContainer {
  return {
    id: 'i',
    name: 'n',
    image: 'm',
    running: true,
    networkMode: 'default',
    addresses: new Map(),
    networks: [],
    hostname: '',
    imageId: 'sha256:m',
    env: new Map(),
    labels: new Map(),
    ...more,
  };
}

/** A request for a role, as it is written, and nothing else. */
export function aRequest(role: string, more: Partial<Omit<RoleRequest, 'key' | 'role'>> = {}): RoleRequest {
  return roleRequest({
    role: parseRoleReference(role),
    sessionName: 'session',
    externalId: undefined,
    policy: undefined,
    durationSeconds: undefined,
    sourceIdentity: undefined,
    tags: new Map(),
    transitiveTags: false,
    allowed: [],
    ...more,
  });
}

/** Credentials that expire at a time, by everybody's clock. */
export function someCredentials(more: Partial<Credentials> = {}): Credentials {
  const expiration = more.expiration ?? 0;
  return {
    accessKeyId: 'ASIATEST',
    secretAccessKey: 'secret',
    sessionToken: 'token',
    expiration,
    validUntil: expiration,
    lastUpdated: 0,
    roleArn: 'arn:aws:iam::123456789012:role/app',
    accountId: '123456789012',
    assumedRoleArn: 'arn:aws:sts::123456789012:assumed-role/app/session',
    assumedRoleId: 'AROATEST:session',
    ...more,
  };
}

/** An operator who says nothing. */
export function roleSettings(more: Partial<RoleSettings> = {}): RoleSettings {
  return {
    defaultRole: undefined,
    defaultAccountId: undefined,
    defaultPolicy: undefined,
    accounts: new Map(),
    allowed: undefined,
    rules: [],
    sessionNaming: { kind: 'container' },
    sessionKey: undefined,
    tags: undefined,
    transitiveTags: false,
    sourceIdentity: undefined,
    durationSeconds: undefined,
    host: 'host',
    ...more,
  };
}
