import type { Container } from '../docker/container.ts';
import { normalAddress } from '../util/ip-address.ts';
import { object } from '../util/json.ts';
import { BadRoleRequest, quote } from '../roles/bad-request.ts';
import { EXTERNAL_ID_VARIABLE, ROLE_VARIABLE, SESSION_NAME_LABEL } from '../roles/container-request.ts';
import { parseRoleReference, type AccountNames } from '../roles/role-reference.ts';

/** Callers that an operator names by address, each as if it were a container. */
export type AddressMapping = ReadonlyMap<string, Container>;

/** Stands for every address that nobody else has. */
const ANY = '*';
const ENTRY_KEYS = ['name', 'account_id', 'external_id', 'session_name'];

/**
 * Reads ROLE_MAPPING_FILE: `{"172.17.0.9": "role@account", "10.0.0.7": {"name": …, "account_id": …, "external_id": …,
 * "session_name": …}, "*": "role"}`. Everything but `name` may be missing.
 *
 * @throws BadRoleRequest naming the entry
 */
export function parseAddressMapping(text: string, accounts: AccountNames): AddressMapping {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new BadRoleRequest(`not JSON (${(error as Error).message})`);
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new BadRoleRequest('not a JSON object of addresses');
  }
  return new Map(
    Object.entries(parsed).map(([key, value]) => {
      const address = key === ANY ? ANY : normalAddress(key);
      if (address === undefined) throw new BadRoleRequest(`${quote(key)} is not an IP address`);
      return [address, mappedCaller(address, value, accounts)];
    }),
  );
}


/** Who has the role that is mapped to every address. */
export function anyMapped(mapping: AddressMapping): Container | undefined {
  return mapping.get(ANY);
}

function mappedCaller(address: string, value: unknown, accounts: AccountNames): Container {
  const entry = typeof value === 'string' ? { name: value } : object(value);
  const unknown = Object.keys(entry).find((key) => !ENTRY_KEYS.includes(key));
  if (unknown !== undefined) {
    throw new BadRoleRequest(`${quote(address)} has ${quote(unknown)}; there are ${ENTRY_KEYS.join(', ')}`);
  }
  const { name, account_id: account, external_id: externalId, session_name: sessionName } = texts(address, entry);
  if (!name) throw new BadRoleRequest(`${quote(address)} names no role`);
  if (account && (name.includes('@') || name.startsWith('arn:'))) {
    throw new BadRoleRequest(`${quote(address)} names the account twice: in "name" and in "account_id"`);
  }
  const role = account ? `${name}@${account}` : name;
  try {
    parseRoleReference(role, accounts);
  } catch (error) {
    throw new BadRoleRequest(`${quote(address)}: ${(error as Error).message}`);
  }
  return {
    id: `address ${address}`,
    shortId: '',
    name: address === ANY ? 'any-address' : address,
    image: '',
    hostname: '',
    env: new Map([[ROLE_VARIABLE, role], ...(externalId ? [[EXTERNAL_ID_VARIABLE, externalId] as const] : [])]),
    labels: new Map(sessionName ? [[SESSION_NAME_LABEL, sessionName]] : []),
    labelledAddress: undefined,
    networks: [],
    network: 'own',
  };
}

function texts(address: string, entry: Readonly<Record<string, unknown>>): Readonly<Record<string, string>> {
  return Object.fromEntries(
    // lyft writes null for what is not said.
    Object.entries(entry).filter(([, value]) => value !== null).map(([key, value]) => {
      if (typeof value !== 'string') throw new BadRoleRequest(`${quote(address)}: ${quote(key)} is not a text`);
      return [key, value];
    }),
  );
}
