import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CallerResolver, type OtherSource } from '../../lib/callers/resolver.ts';
import { DirectoryUnavailable, type Container } from '../../lib/docker/container.ts';
import { parseAddressMapping, type AddressMapping } from '../../lib/callers/address-mapping.ts';
import { aContainer } from './helpers/fixtures.ts';

const caller = (name: string): Container => aContainer({
  id: name.padEnd(64, '0'),
  shortId: name.padEnd(12, '0'),
  name,
  image: '',
});

type Answer = Container | undefined | Error;
const A = '10.0.0.7';
const CONNECTION = {};
const NOTHING_OPEN = { peersKnown: () => undefined };

function set(answers: { docker?: Answer; others?: Answer[]; mapping?: Record<string, string> }) {
  const asked: string[] = [];
  const source = (name: string, answer: Answer): OtherSource => ({
    resolve: () => {
      asked.push(name);
      return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
    },
  });
  const mapping: AddressMapping | undefined =
    answers.mapping && parseAddressMapping(JSON.stringify(answers.mapping), new Map());
  const resolver = new CallerResolver({
    directory: { ...source('docker', answers.docker), peek: () => undefined, ...NOTHING_OPEN },
    mapping: () => mapping,
    others: (answers.others ?? []).map((answer, index) => source(`other ${index + 1}`, answer)),
  });
  return { asked, find: async () => (await resolver.resolve(A, CONNECTION))?.name };
}

const away = new DirectoryUnavailable('away');

test('without mapping and other sources it is Docker that says', async () => {
  assert.equal(await set({ docker: caller('web') }).find(), 'web');
  assert.equal(await set({}).find(), undefined);
  await assert.rejects(set({ docker: away }).find(), away);
});

test('what Docker knows at once is found at once', () => {
  const web = caller('web');
  const directory = { resolve: () => web, peek: () => web, ...NOTHING_OPEN };
  const resolver = new CallerResolver({ directory, mapping: () => undefined, others: [] });
  assert.equal(resolver.resolve(A, CONNECTION), web);
});

test('a mapped address is its caller at once, whatever Docker knows or whether it is there', async () => {
  for (const docker of [caller('web'), away, undefined]) {
    const { find, asked } = set({ docker, others: [caller('task')], mapping: { [A]: 'mapped', '*': 'any' } });
    assert.equal(await find(), A);
    assert.deepEqual(asked, []);
  }
});

test('Docker counts before the others, they in their order, and "*" last', async () => {
  const mapping = { '*': 'any' };
  for (const [docker, others, expected, asked] of [
    [caller('web'), [caller('task'), undefined], 'web', ['docker']],
    [undefined, [caller('task'), caller('other')], 'task', ['docker', 'other 1']],
    [undefined, [undefined, caller('other')], 'other', ['docker', 'other 1', 'other 2']],
    [undefined, [undefined, undefined], 'any-address', ['docker', 'other 1', 'other 2']],
  ] as const) {
    const made = set({ docker, others: [...others], mapping });
    assert.equal(await made.find(), expected);
    assert.deepEqual(made.asked, asked);
  }
});

test('who is away does not keep another from saying', async () => {
  assert.equal(await set({ docker: away, others: [caller('task')] }).find(), 'task');
  assert.equal(await set({ docker: undefined, others: [away, caller('other')] }).find(), 'other');
});

test('while somebody is away an address that nobody else knows is not "*"', async () => {
  await assert.rejects(set({ docker: away, others: [undefined], mapping: { '*': 'any' } }).find(), away);
  await assert.rejects(
    set({ docker: undefined, others: [undefined, away], mapping: { '*': 'any' } }).find(),
    away,
  );
});

test('an address that nobody knows is nobody, unless there is a "*"', async () => {
  assert.equal(await set({ mapping: { '10.0.0.8': 'other' } }).find(), undefined);
  assert.equal(await set({ mapping: { '*': 'any' } }).find(), 'any-address');
});

test('an error that is not of being away is not hidden', async () => {
  const error = new Error('a mistake');
  await assert.rejects(set({ others: [error, caller('task')] }).find(), error);
});

test('a mapping that is read anew counts for the next request', async () => {
  let mapping = parseAddressMapping(JSON.stringify({ [A]: 'a' }), new Map());
  const resolver = new CallerResolver({
    directory: { resolve: () => undefined, peek: () => undefined, ...NOTHING_OPEN },
    mapping: () => mapping,
    others: [],
  });
  assert.equal((await resolver.resolve(A, CONNECTION))?.env.get('IAM_ROLE'), 'a');
  mapping = parseAddressMapping(JSON.stringify({ [A]: 'b' }), new Map());
  assert.equal((await resolver.resolve(A, CONNECTION))?.env.get('IAM_ROLE'), 'b');
  mapping = parseAddressMapping('{}', new Map());
  assert.equal(await resolver.resolve(A, CONNECTION), undefined);
});

// The host's own addresses

const CALLER = caller('on the host');

function onHost({ glanced, mapping }: { glanced?: Container; mapping?: Record<string, string> } = {}) {
  const asked: unknown[] = [];
  const directory = { resolve: () => glanced, peek: () => glanced, ...NOTHING_OPEN };
  const resolver = new CallerResolver({
    directory,
    mapping: () => mapping && parseAddressMapping(JSON.stringify(mapping), new Map()),
    others: [{ resolve: async () => caller('task') }],
    hostNetwork: {
      isHostAddress: (address) => address === A,
      resolve: async (...args) => {
        asked.push(args);
        return CALLER;
      },
      peek: (connection) => (asked.length > 0 && connection === CONNECTION ? CALLER : undefined),
    },
  });
  return { asked, resolver, find: async (address: string) => (await resolver.resolve(address, CONNECTION))?.name };
}

test('behind an address of the host is whoever has the connection, not what Mesos, DNS or "*" say', async () => {
  const { asked, find } = onHost({ mapping: { '*': 'any' } });
  assert.equal(await find(A), 'on the host');
  assert.deepEqual(asked, [[A, CONNECTION]]);
  assert.equal(await find('10.0.0.8'), 'task', 'but behind others it is');
  assert.equal(asked.length, 1);
});

test('an address of the host that an operator mapped is its caller', async () => {
  const { asked, find } = onHost({ mapping: { [A]: 'mapped' } });
  assert.equal(await find(A), A);
  assert.deepEqual(asked, []);
});

test('an address that Docker gave to a container is that container\'s; one that a label claims is not', async () => {
  assert.equal(await onHost({ glanced: caller('web') }).find(A), 'web');
  assert.equal(await onHost({ glanced: { ...caller('claims'), labelledAddress: A } }).find(A), 'on the host');
});

test('who is on the host is known at once after it was settled, and settling never fails', async () => {
  const { resolver } = onHost();
  assert.equal(resolver.peek(A, CONNECTION), undefined);
  await resolver.ensureResolved(A, CONNECTION);
  assert.equal(resolver.peek(A, CONNECTION), CALLER);
  assert.equal(resolver.ensureResolved(A, CONNECTION), undefined, 'nothing is left to find out');
  assert.equal(resolver.ensureResolved('10.0.0.8', CONNECTION), undefined, 'nothing has to be');
  const failing = new CallerResolver({
    directory: { resolve: () => undefined, peek: () => undefined, ...NOTHING_OPEN },
    mapping: () => undefined,
    others: [],
    hostNetwork: { isHostAddress: () => true, resolve: () => Promise.reject(away), peek: () => undefined },
  });
  await failing.ensureResolved(A, CONNECTION);
});
