import assert from 'node:assert/strict';
import { test } from 'node:test';
import { anyMapped, parseAddressMapping, type AddressMapping } from '../../lib/callers/address-mapping.ts';
import { BadRoleRequest } from '../../lib/roles/bad-request.ts';

const ACCOUNTS = new Map([['prod', '123456789012']]);
const parse = (mapping: unknown): AddressMapping => parseAddressMapping(JSON.stringify(mapping), ACCOUNTS);
const said = (mapping: AddressMapping, address: string) => {
  const { role, externalId, sessionName } = mapping.get(address) ?? {};
  return { role: role?.text, externalId, sessionName };
};

for (const [value, expected] of [
  ['role', { role: 'role' }],
  ['role@prod', { role: 'role@prod' }],
  ['arn:aws-cn:iam::123456789012:role/path/role', { role: 'arn:aws-cn:iam::123456789012:role/path/role' }],
  [{ name: 'role' }, { role: 'role' }],
  [{ name: 'path/role', account_id: '111122223333' }, { role: 'path/role@111122223333' }],
  [{ name: 'role', account_id: 'prod' }, { role: 'role@prod' }],
  [
    { name: 'role', external_id: 'an-id', session_name: 'a session' },
    { role: 'role', externalId: 'an-id', sessionName: 'a session' },
  ],
  [{ name: 'role', account_id: '', external_id: '', session_name: '' }, { role: 'role' }],
] as const) {
  test(`the entry ${JSON.stringify(value)} is a caller with that role`, () => {
    assert.deepEqual(said(parse({ '10.0.0.7': value }), '10.0.0.7'), {
      externalId: undefined,
      sessionName: undefined,
      ...expected,
    });
  });
}

test('an entry whose account is null has no account', () => {
  const mapping = parse({
    '10.0.0.7': { name: 'role', account_id: null, external_id: null, session_name: null },
  });
  assert.deepEqual(said(mapping, '10.0.0.7'), {
    role: 'role',
    externalId: undefined,
    sessionName: undefined,
  });
});

test('an account beside an ARN is invalid, and does not become part of its name', () => {
  assert.throws(
    () => parse({ '10.0.0.7': { name: 'arn:aws:iam::123456789012:role/app', account_id: '111122223333' } }),
    BadRoleRequest,
  );
});

test('addresses are keys in their normal form', () => {
  const mapping = parse({ '::ffff:10.0.0.7': 'a', 'FD00:0:0::0007': 'b' });
  assert.deepEqual([...mapping.keys()], ['10.0.0.7', 'fd00::7']);
});

test('"*" applies to every address', () => {
  const mapping = parse({ '10.0.0.7': 'a', '*': 'b@prod' });
  assert.equal(anyMapped(mapping)?.role.text, 'b@prod');
  assert.equal(anyMapped(parse({ '10.0.0.7': 'a' })), undefined);
});

test('two addresses are two callers, with a name and an id of their own', () => {
  const callers = [...parse({ '10.0.0.7': 'a', '10.0.0.8': 'a', '*': 'a' }).values()];
  assert.equal(new Set(callers.map(({ id }) => id)).size, 3);
  assert.deepEqual(
    callers.map(({ name }) => name),
    [
      '10.0.0.7',
      '10.0.0.8',
      'any-address',
    ],
  );
});

for (const [text, message] of [
  ['[]', 'not a JSON object of addresses'],
  ['"x"', 'not a JSON object of addresses'],
  ['null', 'not a JSON object of addresses'],
  ['{"web": "role"}', '"web" is not an IP address'],
  ['{"10.0.0.0/8": "role"}', '"10.0.0.0/8" is not an IP address'],
  [
    '{"10.0.0.7": "a role"}',
    '"10.0.0.7": "a role" is not a role; expected "name", "name@123456789012", "path/name@123456789012" or a role ARN',
  ],
  [
    '{"10.0.0.7": "role@stage"}',
    '"10.0.0.7": "role@stage" names the account "stage"; expected 12 digits or one of prod after the "@"',
  ],
  ['{"10.0.0.7": ""}', '"10.0.0.7" names no role'],
  ['{"10.0.0.7": {}}', '"10.0.0.7" names no role'],
  ['{"10.0.0.7": 5}', '"10.0.0.7" names no role'],
  [
    '{"10.0.0.7": {"name": "x", "account": "1"}}',
    '"10.0.0.7": unknown key "account"; expected name, account_id, external_id, session_name',
  ],
  ['{"10.0.0.7": {"name": "x", "account_id": 123456789012}}', '"10.0.0.7": "account_id" is not a string'],
] as const) {
  test(`a mapping of ${text} is refused: ${message}`, () => {
    assert.throws(() => parseAddressMapping(text, ACCOUNTS), new BadRoleRequest(message));
  });
}

test('a mapping that is not JSON is invalid', () => {
  assert.throws(
    () => parseAddressMapping('{', ACCOUNTS),
    (error) => error instanceof BadRoleRequest && /^not JSON \(/.test(error.message),
  );
});
