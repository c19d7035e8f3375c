/**
 * `metadataproxy roles`: the running containers, their roles and where each role comes from. It asks the running proxy,
 * and reads Docker itself if no proxy answers.
 */

import { containerRows, type ContainerRow } from '../admin/container-rows.ts';
import type { Config } from '../config/config.ts';
import { DockerEngine } from '../docker/client.ts';
import type { Container } from '../docker/container.ts';
import { containerReader, roleSettings } from '../wiring.ts';
import { RoleAssignments } from '../assignments.ts';
import { parseRoleRules } from '../roles/role-rules.ts';
import { readSettingFile } from '../config/watched-file.ts';
import { fetchStatus, NoStatus } from './status-client.ts';
import { table } from './table.ts';

/** @returns what to print */
export async function listRoles(config: Config, json: boolean): Promise<string> {
  const fromProxy = await rowsFromProxy(config);
  const rows = fromProxy ?? (await rowsFromDocker(config));
  if (json) return `${JSON.stringify(rows, null, 2)}\n`;
  const source = fromProxy ? 'the running proxy' : 'Docker; no proxy answers, so the state of the credentials is unknown';
  const lines = rows.map(({ name, id, addresses, role, source: from, credentials, expires }) => [
    name, id, addresses.join(' ') || '-', role ?? '-', from, expires ? `${credentials} until ${expires}` : credentials,
  ]);
  return `${table(['CONTAINER', 'ID', 'ADDRESSES', 'ROLE', 'FROM', 'CREDENTIALS'], lines)}(from ${source})\n`;
}

async function rowsFromProxy(config: Config): Promise<readonly ContainerRow[] | undefined> {
  try {
    return (await fetchStatus(config)).status.containers;
  } catch (error) {
    if (error instanceof NoStatus) return undefined;
    throw error;
  }
}

async function rowsFromDocker(config: Config): Promise<readonly ContainerRow[]> {
  const rules = readSettingFile('ROLE_RULES', config.roleRules, (text) => parseRoleRules(text, config.accountNames)) ?? [];
  const engine = new DockerEngine(config.docker);
  const read = containerReader(config, engine);
  const running: { container: Container; addresses: string[] }[] = [];
  const nothing = (): void => {};
  const shares = ({ network }: Container, id: string) => typeof network === 'object' && network.sharedWith === id;
  const assignments = new RoleAssignments({
    directory: {
      subscribe: nothing,
      peersOf: ({ id }) => running.map(({ container }) => container).filter((peer) => shares(peer, id)),
      peersKnown: () => undefined,
    },
    store: { warm: nothing, retain: nothing, release: nothing, intern: (request) => request },
    settings: roleSettings(config, rules),
    hostNetwork: config.hostNetwork !== 'nobody',
    events: { roleRequestInvalid: nothing },
  });
  try {
    for (const { id, addresses } of await engine.runningContainers()) {
      const found = await engine.inspect(id);
      if (!found) continue;
      running.push({ container: await read(found), addresses: [...addresses.values()].flat() });
    }
    return containerRows(running, { assignments });
  } finally {
    engine.close();
  }
}
