import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { request, type IncomingMessage } from 'node:http';
import { request as secureRequest } from 'node:https';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { test, type TestContext } from 'node:test';
import { makeCertificates } from '../support/certificates.ts';
import { DockerEngine, type EngineEvent, type EngineOptions } from '../support/docker-engine.ts';
import { Journal } from '../support/journal.ts';

async function start(t: TestContext, options?: EngineOptions): Promise<DockerEngine> {
  const engine = await DockerEngine.start(options);
  t.after(() => engine.close());
  return engine;
}

async function open(engine: DockerEngine, path: string): Promise<IncomingMessage> {
  const outgoing = request({ socketPath: engine.socketPath, path, agent: false });
  outgoing.end();
  const [response] = await once(outgoing, 'response') as [IncomingMessage];
  return response;
}

interface Got {
  status: number | undefined;
  // The documents are read here as a client would, field by field.
  body: Record<string, never>;
}

async function get(engine: DockerEngine, path: string): Promise<Got> {
  const response = await open(engine, path);
  return { status: response.statusCode, body: JSON.parse(await text(response)) as Record<string, never> };
}

async function at(engine: DockerEngine, path: string, ...keys: string[]): Promise<unknown> {
  const { body } = await get(engine, path);
  return dig(body, ...keys);
}

function dig(value: unknown, ...keys: string[]): unknown {
  return keys.reduce<unknown>((part, key) => (part as Record<string, unknown> | undefined)?.[key], value);
}

/** A container's address on a network, as its inspect shows it. */
async function addressOf(engine: DockerEngine, id: string, network: string): Promise<unknown> {
  return at(engine, `/containers/${id}/json`, 'NetworkSettings', 'Networks', network, 'IPAddress');
}

/** Follows the events; what the stream holds is parsed line by line. */
async function follow(engine: DockerEngine, query = ''): Promise<Journal<EngineEvent>> {
  const events = new Journal<EngineEvent>('an event');
  const response = await open(engine, `/events${query}`);
  const lines = createInterface({ input: response });
  lines.on('line', (line) => events.add(JSON.parse(line) as EngineEvent));
  lines.on('error', () => events.end('the stream broke'));
  return events;
}

function kinds(events: readonly EngineEvent[]): string[] {
  return events.map(({ Type, Action }) => `${Type} ${Action}`);
}

test('a container run sends create, connect and start, in the form of the real engine', async (t) => {
  const engine = await start(t);
  const events = await follow(engine);
  const container = await engine.host.run({ name: 'web', labels: { a: 'b' }, address: '127.0.0.11' });
  const [create, connect] = await events.several(3);
  assert.deepEqual(kinds(events.entries), ['container create', 'network connect', 'container start']);
  assert.deepEqual({ ...create, time: 0, timeNano: 0 }, {
    status: 'create', id: container.id, from: 'busybox', Type: 'container', Action: 'create',
    Actor: { ID: container.id, Attributes: { a: 'b', image: 'busybox', name: 'web' } },
    scope: 'local', time: 0, timeNano: 0,
  });
  assert.equal(connect?.Actor.ID, await at(engine, '/networks/bridge', 'Id'));
  assert.deepEqual(connect?.Actor.Attributes, { container: container.id, name: 'bridge', type: 'bridge' });
});

test('event filters apply', async (t) => {
  const engine = await start(t);
  const filters = { type: ['container', 'network'], event: ['create', 'connect', 'die'] };
  const events = await follow(engine, `?filters=${encodeURIComponent(JSON.stringify(filters))}`);
  const container = await engine.host.run();
  engine.host.remove(container);
  await events.first(({ Action }) => Action === 'die');
  assert.deepEqual(kinds(events.entries), ['container create', 'network connect', 'container die']);
});

test('a client that sends `since` gets the events since then', async (t) => {
  const engine = await start(t);
  engine.host.create();
  const events = await follow(engine, '?since=0');
  await events.first(({ Type, Action }) => Type === 'container' && Action === 'create');
});

test('the end of a container sends kill, die, disconnect, stop and destroy', async (t) => {
  const engine = await start(t);
  const container = await engine.host.run();
  const events = await follow(engine);
  engine.host.stop(container);
  engine.host.destroy(container);
  await events.several(5);
  assert.deepEqual(kinds(events.entries),
    ['container kill', 'container die', 'network disconnect', 'container stop', 'container destroy']);
  assert.equal((await get(engine, `/containers/${container.id}/json`)).status, 404);
});

test('a container can be inspected by its id, its name and under a version', async (t) => {
  const engine = await start(t);
  engine.host.addImage({ name: 'app', env: { IAM_ROLE: 'image', PATH: '/bin' }, labels: { from: 'image' } });
  const { id } = await engine.host.run({
    name: 'web', image: 'app', env: { IAM_ROLE: 'reader' }, labels: { own: '1' },
    networks: { front: { address: '127.0.0.11', ipv6: 'fd00::11' }, back: { address: '127.0.0.12' } },
  });
  for (const prefix of [`/containers/${id}`, '/v1.41/containers/web', `/containers/${id.slice(0, 12)}`]) {
    const { status, body } = await get(engine, `${prefix}/json`);
    assert.deepEqual([status, body['Id'], body['Name']], [200, id, '/web']);
  }
  const path = '/containers/web/json';
  assert.deepEqual(await at(engine, path, 'Config', 'Env'), ['IAM_ROLE=reader', 'PATH=/bin']);
  assert.deepEqual(await at(engine, path, 'Config', 'Labels'), { from: 'image', own: '1' });
  assert.equal(await at(engine, path, 'Config', 'Hostname'), id.slice(0, 12));
  assert.equal(await at(engine, path, 'Image'), await at(engine, '/images/app/json', 'Id'));
  assert.equal(await at(engine, path, 'State', 'Running'), true);
  assert.equal(await at(engine, path, 'HostConfig', 'NetworkMode'), 'front');
  assert.equal(await at(engine, path, 'NetworkSettings', 'IPAddress'), '');
  const front = await at(engine, path, 'NetworkSettings', 'Networks', 'front') as Record<string, unknown>;
  assert.deepEqual([front['IPAddress'], front['GlobalIPv6Address']], ['127.0.0.11', 'fd00::11']);
  assert.equal(await addressOf(engine, id, 'back'), '127.0.0.12');
  assert.equal(await at(engine, '/networks/back', 'Containers', id, 'IPv4Address'), '127.0.0.12/16');
  assert.deepEqual(await get(engine, '/containers/other/json'),
    { status: 404, body: { message: 'No such container: other' } });
});

test('between connect and start the inspect is held, while the network already has the address', async (t) => {
  const engine = await start(t);
  const { id } = engine.host.create({ address: '127.0.0.11' });
  assert.equal(await addressOf(engine, id, 'bridge'), '');
  engine.host.connect(id, 'bridge');
  const inspect = get(engine, `/containers/${id}/json`);
  await engine.requests.several(2, ({ path }) => path === `/containers/${id}/json`);
  assert.equal(await at(engine, '/networks/bridge', 'Containers', id, 'IPv4Address'), '127.0.0.11/16');
  engine.host.start(id);
  const { body } = await inspect;
  assert.equal(dig(body, 'State', 'Running'), true);
  assert.equal(dig(body, 'NetworkSettings', 'Networks', 'bridge', 'IPAddress'), '127.0.0.11');
});

test('the list has running containers, and all of them with `all`', async (t) => {
  const engine = await start(t);
  const running = await engine.host.run();
  const created = engine.host.create();
  const ids = async (query: string): Promise<unknown> =>
    ((await get(engine, `/containers/json${query}`)).body as unknown as { Id: string }[]).map(({ Id }) => Id);
  assert.deepEqual(await ids(''), [running.id]);
  assert.deepEqual(await ids('?all=1'), [created.id, running.id]);
});

test('the gateway address of an overlay task is only in docker_gwbridge', async (t) => {
  const engine = await start(t);
  engine.host.addNetwork({ name: 'mesh', driver: 'overlay' });
  const { id } = await engine.host.run({ networks: { mesh: {} }, gatewayAddress: '127.0.0.21' });
  const gateway = await at(engine, '/networks/docker_gwbridge', 'Containers', id, 'IPv4Address');
  assert.equal(gateway, '127.0.0.21/16');
  const networks = await at(engine, `/containers/${id}/json`, 'NetworkSettings', 'Networks');
  assert.deepEqual(Object.keys(networks as object), ['mesh']);
  assert.deepEqual(kinds(engine.events.all(({ Action }) => Action === 'connect')), ['network connect']);
});

test('a network peer names the owner by its id and has no address', async (t) => {
  const engine = await start(t);
  const owner = await engine.host.run({ name: 'owner' });
  const { id } = await engine.host.run({ networkMode: 'container:owner' });
  const path = `/containers/${id}/json`;
  assert.equal(await at(engine, path, 'HostConfig', 'NetworkMode'), `container:${owner.id}`);
  assert.deepEqual(await at(engine, path, 'NetworkSettings', 'Networks'), {});
});

test('an address is free again after its network disconnect, not before', async (t) => {
  const engine = await start(t);
  const first = await engine.host.run({ address: '127.0.0.11' });
  await assert.rejects(engine.host.run({ address: '127.0.0.11' }), /127\.0\.0\.11 belongs to/);
  engine.host.remove(first);
  await engine.host.run({ address: '127.0.0.11' });
});

test('a restarted container can have another address', async (t) => {
  const engine = await start(t);
  const { id } = await engine.host.run({ address: '127.0.0.11' });
  await engine.host.restart(id, { bridge: { address: '127.0.0.12' } });
  assert.equal(await addressOf(engine, id, 'bridge'), '127.0.0.12');
});

test('a stopped engine has no socket, and listens on the same one again', async (t) => {
  const engine = await start(t);
  const events = await follow(engine);
  await engine.stop();
  assert.equal(existsSync(engine.socketPath), false);
  await assert.rejects(events.next(), /the stream broke/);
  await engine.listen();
  assert.equal((await get(engine, '/version')).body['ApiVersion'], '1.41');
});

test('a hung engine answers requests and sends events once it is resumed', async (t) => {
  const engine = await start(t);
  const events = await follow(engine);
  engine.hang();
  const version = get(engine, '/version');
  await engine.requests.first(({ path }) => path === '/version');
  const container = await engine.host.run();
  assert.deepEqual(events.entries, []);
  engine.resume();
  assert.equal((await version).status, 200);
  await events.first(({ Action, id }) => Action === 'start' && id === container.id);
});

test('faults break responses on demand', async (t) => {
  const engine = await start(t);
  const { id } = await engine.host.run();
  const path = `/containers/${id}/json`;
  engine.fault(path, { kind: 'truncated' }, 1);
  await assert.rejects(get(engine, path), { name: 'SyntaxError' });
  engine.fault(/^\/containers\//, { kind: 'malformed' }, 1);
  await assert.rejects(get(engine, path), { name: 'SyntaxError' });
  engine.fault(path, { kind: 'cut' }, 1);
  await assert.rejects(get(engine, path), { code: 'ECONNRESET' });
  engine.fault(path, { kind: 'reset' }, 1);
  await assert.rejects(get(engine, path), { code: 'ECONNRESET' });
  engine.fault(path, { kind: 'status', status: 500, message: 'no' }, 1);
  assert.deepEqual(await get(engine, path), { status: 500, body: { message: 'no' } });
  const hold = engine.fault(path, { kind: 'hold' });
  const held = get(engine, path);
  await engine.requests.several(6, (seen) => seen.path === path);
  hold.lift();
  assert.equal((await held).status, 200);
});

test('event streams can be dropped, and fed with any text', async (t) => {
  const engine = await start(t);
  const response = await open(engine, '/events');
  await engine.subscriptions.first();
  engine.writeToSubscribers('{"Type":');
  engine.dropSubscribers(true);
  assert.equal(await text(response), '{"Type":');
  const events = await follow(engine);
  engine.dropSubscribers();
  await assert.rejects(events.next(), /the stream broke/);
  assert.equal(engine.subscriberCount, 0);
});

test('the engine can listen on TCP', async (t) => {
  const engine = await start(t, { transport: 'tcp' });
  const response = await fetch(`${engine.url.replace('tcp:', 'http:')}/_ping`);
  assert.equal(await response.text(), 'OK');
});

test('the engine on TLS requires a client certificate', async (t) => {
  const { ca, server, client } = makeCertificates();
  const engine = await start(t, { transport: 'tcp', tls: { ...server, ca } });
  const ping = async (identity: object): Promise<string> => {
    const { port } = new URL(engine.url);
    const options = { host: '127.0.0.1', port, path: '/_ping', ca, agent: false, ...identity };
    const outgoing = secureRequest(options);
    outgoing.end();
    const [response] = await once(outgoing, 'response') as [IncomingMessage];
    return await text(response);
  };
  assert.equal(await ping(client), 'OK');
  await assert.rejects(ping({}), /certificate required|ECONNRESET|socket hang up/);
});
