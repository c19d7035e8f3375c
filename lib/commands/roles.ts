/**
 * `metadataproxy roles`: the running containers, the role that each has and where it comes from; from the running
 * proxy where one answers on its operator's listener, else from Docker.
 */

import { containerRows, type ContainerRow } from '../admin/container-rows.ts';
import { urlOf, type Config } from '../config/config.ts';
import { DockerEngine } from '../docker/client.ts';
import { httpGet } from '../util/http-get.ts';
import { array, object } from '../util/json.ts';
import { containerReader, roleSettings } from '../wiring.ts';
import { RoleAssignments } from '../assignments.ts';
import { parseRoleRules } from '../roles/role-rules.ts';
import { readSettingFile } from '../config/watched-file.ts';
import { table } from './table.ts';

const TIMEOUT_MS = 2_000;
/** A thousand containers are about half a megabyte. */
const MAX_STATUS_LENGTH = 64 * 1024 * 1024;

/** @returns what to print */
export async function listRoles(config: Config, json: boolean): Promise<string> {
  const fromProxy = await askProxy(config);
  const rows = fromProxy ?? (await askDocker(config));
  if (json) return `${JSON.stringify(rows, null, 2)}\n`;
  const source = fromProxy ? 'the running proxy' : 'Docker; no proxy answers, so the state of credentials is unknown';
  const lines = rows.map(({ name, id, addresses, role, source: from, credentials, expires }) => [
    name, id, addresses.join(' ') || '-', role ?? '-', from, expires ? `${credentials} until ${expires}` : credentials,
  ]);
  return `${table(['CONTAINER', 'ID', 'ADDRESSES', 'ROLE', 'FROM', 'CREDENTIALS'], lines)}(from ${source})\n`;
}

async function askProxy({ adminAddress }: Config): Promise<readonly ContainerRow[] | undefined> {
  if (adminAddress === 'off') return undefined;
  try {
    const { text } = await httpGet(urlOf(adminAddress, '/status'), TIMEOUT_MS, MAX_STATUS_LENGTH);
    const status = object(JSON.parse(text));
    // The proxy's own rows: it is the same program.
    return Array.isArray(status['containers']) ? (array(status['containers']) as ContainerRow[]) : undefined;
  } catch {
    return undefined;
  }
}

async function askDocker(config: Config): Promise<readonly ContainerRow[]> {
  const rules = readSettingFile('ROLE_RULES', config.roleRules, (text) => parseRoleRules(text, config.accountNames)) ?? [];
  const engine = new DockerEngine(config.docker);
  const read = containerReader(config, engine);
  const nothing = (): void => {};
  const assignments = new RoleAssignments({
    store: { warm: nothing, retain: nothing, release: nothing, intern: (request) => request },
    settings: roleSettings(config, rules),
    onBadRequest: nothing,
  });
  try {
    const running = [];
    for (const { id, addresses } of await engine.runningContainers()) {
      const found = await engine.inspect(id);
      if (!found) continue;
      const container = await read(found);
      assignments.started(container);
      running.push({ container, addresses: [...addresses.values()].flat() });
    }
    return containerRows(running, { assignments });
  } finally {
    engine.close();
  }
}
