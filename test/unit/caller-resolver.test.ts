import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CallerUndetermined, UnknownCaller, type Caller, type DemoCaller } from '../../lib/caller.ts';
import { parseAddressMapping } from '../../lib/callers/address-mapping.ts';
import type { Connection } from '../../lib/callers/connection.ts';
import { CallerResolver, type CallerResolverOptions, type OtherSource } from '../../lib/callers/resolver.ts';
import { DirectoryUnavailable, type Container } from '../../lib/docker/container.ts';
import { aContainer } from './helpers/fixtures.ts';

const container = (name: string, more: Partial<Container> = {}): Container =>
  aContainer({ id: name.padEnd(64, '0'), name, ...more });

const A = '10.0.0.7';
const B = '10.0.0.8';
const from = (address: string): Connection => ({
  address,
  remotePort: 40_404,
  localAddress: '127.0.0.1',
  localPort: 18_000,
});
const mappingOf = (entries: Record<string, string>) => parseAddressMapping(JSON.stringify(entries), new Map());

function resolverOf(options: Partial<CallerResolverOptions> = {}): CallerResolver {
  return new CallerResolver({
    directory: { resolve: () => undefined, peek: () => undefined },
    mapping: () => undefined,
    others: [],
    hostAddresses: { has: () => false },
    ...options,
  });
}

type Answer<T> = T | undefined | Error;

/** A resolver over sources that answer as given, asynchronously. */
function setUp(given: { docker?: Answer<Container>; others?: Answer<Caller>[]; mapping?: Record<string, string> }) {
  const asked: string[] = [];
  const source = <T>(name: string, answer: Answer<T>) => ({
    resolve: (): Promise<T | undefined> => {
      asked.push(name);
      return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
    },
  });
  const mapping = given.mapping && mappingOf(given.mapping);
  const resolver = resolverOf({
    directory: { ...source('docker', given.docker), peek: () => undefined },
    mapping: () => mapping,
    others: (given.others ?? []).map((answer, index): OtherSource => source(`other ${index + 1}`, answer)),
  });
  return { asked, resolve: async () => (await resolver.resolve(from(A))).name };
}

const away = new DirectoryUnavailable('away');
const undetermined = new CallerUndetermined('away');

test('without a mapping and other sources the container directory decides', async () => {
  assert.equal(await setUp({ docker: container('web') }).resolve(), 'web');
  await assert.rejects(setUp({}).resolve(), new UnknownCaller(`no container has the address ${A}`));
  await assert.rejects(setUp({ docker: away }).resolve(), undetermined);
});

test('a caller that the directory knows is resolved without a promise, and an unknown one is, too', () => {
  const web = container('web');
  assert.equal(resolverOf({ directory: { resolve: () => web, peek: () => web } }).resolve(from(A)), web);
  assert.throws(() => resolverOf().resolve(from(A)), UnknownCaller);
});

test('a mapped address is its caller at once, whatever Docker knows or whether it answers', async () => {
  for (const docker of [container('web'), away, undefined]) {
    const { resolve, asked } = setUp({ docker, others: [container('task')], mapping: { [A]: 'mapped', '*': 'any' } });
    assert.equal(await resolve(), A);
    assert.deepEqual(asked, []);
  }
});

test('resolve and peek agree on a mapped address', () => {
  const web = container('web');
  const mapping = mappingOf({ [A]: 'mapped' });
  const resolver = resolverOf({ directory: { resolve: () => web, peek: () => web }, mapping: () => mapping });
  assert.equal(resolver.peek(from(A)), mapping.get(A));
  assert.equal(resolver.resolve(from(A)), mapping.get(A));
});

test('Docker counts before the others, they in their order, and "*" last', async () => {
  const mapping = { '*': 'any' };
  for (const [docker, others, expected, asked] of [
    [container('web'), [container('task'), undefined], 'web', ['docker']],
    [undefined, [container('task'), container('other')], 'task', ['docker', 'other 1']],
    [undefined, [undefined, container('other')], 'other', ['docker', 'other 1', 'other 2']],
    [undefined, [undefined, undefined], 'any-address', ['docker', 'other 1', 'other 2']],
  ] as const) {
    const made = setUp({ docker, others: [...others], mapping });
    assert.equal(await made.resolve(), expected);
    assert.deepEqual(made.asked, asked);
  }
});

test('a source that is away does not keep another from answering', async () => {
  assert.equal(await setUp({ docker: away, others: [container('task')] }).resolve(), 'task');
  assert.equal(await setUp({ docker: undefined, others: [undetermined, container('other')] }).resolve(), 'other');
});

test('while a source is away, an address that no other source knows is not "*"', async () => {
  await assert.rejects(setUp({ docker: away, others: [undefined], mapping: { '*': 'any' } }).resolve(), undetermined);
  await assert.rejects(
    setUp({ docker: undefined, others: [undefined, undetermined], mapping: { '*': 'any' } }).resolve(),
    undetermined,
  );
});

test('an address that no source knows is an unknown caller, unless there is a "*"', async () => {
  await assert.rejects(setUp({ mapping: { [B]: 'other' } }).resolve(), UnknownCaller);
  await assert.rejects(setUp({ others: [undefined] }).resolve(), UnknownCaller);
  assert.equal(await setUp({ mapping: { '*': 'any' } }).resolve(), 'any-address');
});

test('an unexpected error of a source is not hidden', async () => {
  const error = new Error('a mistake');
  await assert.rejects(setUp({ others: [error, container('task')] }).resolve(), error);
});

test('a reloaded mapping counts for the next request', async () => {
  let mapping = mappingOf({ [A]: 'a' });
  const resolver = resolverOf({ mapping: () => mapping });
  const resolve = async (): Promise<Caller> => resolver.resolve(from(A));
  assert.equal(await resolve(), mapping.get(A));
  mapping = mappingOf({ [A]: 'b' });
  assert.equal(await resolve(), mapping.get(A));
  mapping = mappingOf({});
  await assert.rejects(resolve(), UnknownCaller);
});

test('in a demonstration, loopback is the demonstration and no other address is', async () => {
  const demo: DemoCaller = { kind: 'demo', id: 'demo', name: 'demo' };
  const resolver = resolverOf({ demo });
  assert.equal(resolver.resolve(from('127.0.0.1')), demo);
  assert.equal(resolver.peek(from('127.0.0.1')), demo);
  assert.throws(() => resolver.resolve(from(A)), UnknownCaller);
});

// The host's own addresses

const ON_HOST = container('on the host', { network: 'host' });

/** A is an address of the host; whoever is there is the host-network container. */
function onHost({ peeked, mapping }: { peeked?: Container; mapping?: Record<string, string> } = {}) {
  const asked: Connection[] = [];
  const mapped = mapping && mappingOf(mapping);
  const resolver = resolverOf({
    directory: { resolve: () => peeked, peek: () => peeked },
    mapping: () => mapped,
    others: [{ resolve: async () => container('task') }],
    hostAddresses: { has: (address) => address === A },
    hostNetwork: {
      resolve: async (connection) => {
        asked.push(connection);
        return ON_HOST;
      },
      peek: (connection) => (asked.includes(connection) ? ON_HOST : undefined),
    },
  });
  return { asked, resolver, resolve: async (connection: Connection) => (await resolver.resolve(connection)).name };
}

test('behind an address of the host is the process that holds the connection, not what Mesos, DNS or "*" know', async () => {
  const { asked, resolve } = onHost({ mapping: { '*': 'any' } });
  const connection = from(A);
  assert.equal(await resolve(connection), 'on the host');
  assert.deepEqual(asked, [connection]);
  assert.equal(await resolve(from(B)), 'task', 'behind other addresses, what they know');
  assert.equal(asked.length, 1);
});

test('an address of the host that the operator mapped is its caller', async () => {
  const { asked, resolve, resolver } = onHost({ mapping: { [A]: 'mapped' } });
  assert.equal(await resolve(from(A)), A);
  assert.equal(resolver.peek(from(A))?.name, A);
  assert.equal(resolver.ensureResolved(from(A)), undefined);
  assert.deepEqual(asked, []);
});

test("an address that Docker assigned to a container is the container's, and not the host's", async () => {
  const { resolve, resolver } = onHost({ peeked: container('web') });
  assert.equal(await resolve(from(A)), 'web');
  assert.equal(resolver.peek(from(A))?.name, 'web');
  assert.equal(resolver.isHost(A), false);
});

test("a label that claims an address of the host is believed by no question", async () => {
  const { resolve, resolver } = onHost({ peeked: container('claims', { labelledAddress: A }) });
  const connection = from(A);
  assert.equal(resolver.isHost(A), true);
  assert.equal(resolver.peek(connection), undefined, 'not resolved yet');
  assert.equal(await resolve(connection), 'on the host');
  assert.equal(resolver.peek(connection), ON_HOST);
});

test('a host-network caller is known at once after ensureResolved, which never fails', async () => {
  const { resolver } = onHost();
  const connection = from(A);
  assert.equal(resolver.peek(connection), undefined);
  await resolver.ensureResolved(connection);
  assert.equal(resolver.peek(connection), ON_HOST);
  assert.equal(resolver.ensureResolved(connection), undefined, 'nothing is left to resolve');
  assert.equal(resolver.ensureResolved(from(B)), undefined, 'not a host-network caller');
  const failing = resolverOf({
    hostAddresses: { has: () => true },
    hostNetwork: { resolve: () => Promise.reject(undetermined), peek: () => undefined },
  });
  await failing.ensureResolved(connection);
});

test('where the system does not tell its addresses, resolve is undetermined and peek knows nothing', () => {
  const has = (): never => {
    throw undetermined;
  };
  const resolver = resolverOf({
    hostAddresses: { has },
    hostNetwork: { resolve: () => Promise.reject(undetermined), peek: () => undefined },
  });
  assert.throws(() => resolver.resolve(from(A)), undetermined);
  assert.equal(resolver.peek(from(A)), undefined);
});
