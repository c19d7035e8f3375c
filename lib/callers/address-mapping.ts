import type { MappedAddress } from '../caller.ts';
import { normalAddress } from '../util/ip-address.ts';
import { object } from '../util/json.ts';
import { BadRoleRequest, quote } from '../roles/bad-request.ts';
import { parseRoleReference, type AccountNames, type RoleReference } from '../roles/role-reference.ts';

/** By address, in its normal form. */
export type AddressMapping = ReadonlyMap<string, MappedAddress>;

/** Stands for every address without another caller. */
const ANY = '*';
const ENTRY_KEYS = ['name', 'account_id', 'external_id', 'session_name'];

/**
 * Parses ROLE_MAPPING_FILE: `{"172.17.0.9": "role@account", "10.0.0.7": {"name": …, "account_id": …, "external_id": …,
 * "session_name": …}, "*": "role"}`. Only `name` is required.
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

/** The caller for the key `*`. */
export function anyMapped(mapping: AddressMapping): MappedAddress | undefined {
  return mapping.get(ANY);
}

function mappedCaller(address: string, value: unknown, accounts: AccountNames): MappedAddress {
  const entry = typeof value === 'string' ? { name: value } : object(value);
  const unknown = Object.keys(entry).find((key) => !ENTRY_KEYS.includes(key));
  if (unknown !== undefined) {
    throw new BadRoleRequest(`${quote(address)}: unknown key ${quote(unknown)}; expected ${ENTRY_KEYS.join(', ')}`);
  }
  const { name, account_id: account, external_id: externalId, session_name: sessionName } = texts(address, entry);
  if (!name) throw new BadRoleRequest(`${quote(address)} names no role`);
  if (account && (name.includes('@') || name.startsWith('arn:'))) {
    throw new BadRoleRequest(`${quote(address)} names the account twice: in "name" and in "account_id"`);
  }
  let role: RoleReference;
  try {
    role = parseRoleReference(account ? `${name}@${account}` : name, accounts);
  } catch (error) {
    throw new BadRoleRequest(`${quote(address)}: ${(error as Error).message}`);
  }
  return {
    kind: 'mapped-address',
    id: `address ${address}`,
    name: address === ANY ? 'any-address' : address,
    role,
    externalId: externalId?.trim() || undefined,
    sessionName: sessionName || undefined,
  };
}

function texts(address: string, entry: Readonly<Record<string, unknown>>): Readonly<Record<string, string>> {
  return Object.fromEntries(
    // lyft's metadataproxy writes null for an absent value.
    Object.entries(entry).filter(([, value]) => value !== null).map(([key, value]) => {
      if (typeof value !== 'string') throw new BadRoleRequest(`${quote(address)}: ${quote(key)} is not a string`);
      return [key, value];
    }),
  );
}
