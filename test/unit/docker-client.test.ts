import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, linkSync, mkdtempSync, openSync, rmSync, unlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { parseDockerEndpoint } from '../../lib/docker/endpoint.ts';
import {
  DockerEngine,
  EngineFailure,
  EngineUnreachable,
  type EngineEvent,
} from '../../lib/docker/client.ts';
import { DockerEngine as StandIn } from '../support/docker-engine.ts';
import { Journal } from '../support/journal.ts';

async function setUp(t: TestContext, transport: 'unix' | 'tcp' = 'unix') {
  const engine = await StandIn.start({ transport });
  const endpoint = parseDockerEndpoint(engine.url);
  assert.ok(endpoint);
  const client = new DockerEngine(endpoint);
  t.after(async () => {
    client.close();
    await engine.close();
  });
  return { engine, client, host: engine.host };
}

for (const transport of ['unix', 'tcp'] as const) {
  test(`the engine is asked over ${transport}, without a version in the path`, async (t) => {
    const { engine, client, host } = await setUp(t, transport);
    await host.run({ name: 'web', address: '172.17.0.2' });
    assert.deepEqual(
      (await client.runningContainers()).map(({ name }) => name),
      ['web'],
    );
    assert.deepEqual(
      engine.requests.all().map(({ version, path }) => `${version} ${path}`),
      [' /containers/json', ` /networks/${host.findNetwork('bridge')?.id}`],
    );
  });
}

test('running containers are listed with their addresses on every network, by its id', async (t) => {
  const { client, host } = await setUp(t);
  const web = await host.run({
    name: 'web',
    networks: { bridge: { address: '172.17.0.2' }, other: { address: '10.1.0.2', ipv6: 'FD00:0::2' } },
  });
  host.create({ name: 'not-started' });
  host.stop(await host.run({ name: 'stopped' }));
  host.pause(await host.run({ name: 'paused', networkMode: `container:${web.id}` }));
  const found = await client.runningContainers();
  assert.deepEqual(found.map(({ name }) => name).toSorted(), ['paused', 'web']);
  const [listed] = found.filter(({ name }) => name === 'web');
  assert.deepEqual(
    listed?.addresses,
    new Map([
      [host.findNetwork('bridge')?.id, ['172.17.0.2']],
      [host.findNetwork('other')?.id, ['10.1.0.2', 'fd00::2']],
    ]),
  );
  const [paused] = found.filter(({ name }) => name === 'paused');
  assert.equal(paused?.networkMode, `container:${web.id}`);
  assert.equal(paused?.addresses.size, 0);
});

test('of all containers it is told whether they run, and whether they ever have', async (t) => {
  const { client, host } = await setUp(t);
  const web = await host.run({ name: 'web', address: '172.17.0.2' });
  host.create({ name: 'not-started', networkMode: `container:${web.id}` });
  host.pause(await host.run({ name: 'paused' }));
  host.stop(await host.run({ name: 'stopped' }));
  assert.deepEqual(
    (await client.allContainers()).map((one) => [one.name, one.running, one.hasRun, one.networkMode]).toSorted(),
    [
      ['not-started', false, false, `container:${web.id}`],
      ['paused', true, true, 'default'],
      ['stopped', false, true, 'default'],
      ['web', true, true, 'default'],
    ],
  );
});

test('the states that Podman alone knows mean what they say', async (t) => {
  const { client, engine } = await setUp(t);
  const states = ['configured', 'initialized', 'running', 'stopping', 'stopped', 'removing', 'unknown'];
  engine.fault('/containers/json', { kind: 'body', body: states.map((State) => ({ Id: State, State, HostConfig: null })) });
  const found = await client.allContainers();
  assert.deepEqual(found.filter(({ running }) => running).map(({ id }) => id), ['running', 'stopping']);
  assert.deepEqual(found.filter(({ hasRun }) => !hasRun).map(({ id }) => id), ['configured', 'initialized']);
});

for (const driver of ['overlay', 'macvlan', 'ipvlan']) {
  test(`an address on a network of the driver ${driver} does not count: this host never sees it`, async (t) => {
    const { client, host } = await setUp(t);
    host.addNetwork({ name: 'elsewhere', driver });
    const networks = { bridge: { address: '172.17.0.2' }, elsewhere: { address: '172.17.0.3' } };
    const { id } = await host.run({ networks });
    const expected = new Map([[host.findNetwork('bridge')?.id, ['172.17.0.2']]]);
    const [listed] = await client.runningContainers();
    assert.deepEqual(listed?.addresses, expected);
    assert.deepEqual((await client.inspect(id))?.addresses, expected);
    assert.deepEqual(listed?.networks.toSorted(), ['bridge', 'elsewhere']);
  });
}

test('an address on a network of a driver that is not known counts', async (t) => {
  const { client, host } = await setUp(t);
  const { id } = host.addNetwork({ name: 'woven', driver: 'weavemesh' });
  await host.run({ networks: { woven: { address: '10.32.0.2' } } });
  const [listed] = await client.runningContainers();
  assert.deepEqual(listed?.addresses, new Map([[id, ['10.32.0.2']]]));
});

test('the driver of a network is asked for once', async (t) => {
  const { client, engine, host } = await setUp(t);
  await host.run({ address: '172.17.0.2' });
  await client.runningContainers();
  await client.runningContainers();
  await host.run({ networks: { later: { address: '10.1.0.2' } } });
  const addresses = (await client.runningContainers()).flatMap((one) => [...one.addresses.values()].flat());
  assert.deepEqual(addresses.toSorted(), ['10.1.0.2', '172.17.0.2']);
  const asked = engine.requests.all(({ path }) => path.startsWith('/networks/')).map(({ path }) => path);
  assert.deepEqual(asked, ['bridge', 'later'].map((name) => `/networks/${host.findNetwork(name)?.id}`));
});

test('an inspect tells of the environment, the labels and whether it runs', async (t) => {
  const { client, host } = await setUp(t);
  const { id } = host.create({
    name: 'web',
    env: ['IAM_ROLE=a=b', 'ODD'],
    labels: { team: 'x' },
    image: 'nginx',
  });
  const before = await client.inspect(id);
  assert.ok(before);
  assert.deepEqual([before.id, before.name, before.image, before.running], [id, 'web', 'nginx', false]);
  assert.deepEqual(
    [before.env, before.labels, before.addresses.size],
    [new Map([['IAM_ROLE', 'a=b']]), new Map([['team', 'x']]), 0],
  );
  host.start(id);
  assert.equal((await client.inspect(id))?.running, true);
});

test('a container or a network that is not there is undefined', async (t) => {
  const { client } = await setUp(t);
  assert.equal(await client.inspect('nobody'), undefined);
  assert.equal(await client.networkAddresses('nothing'), undefined);
});

test('what is asked for cannot leave its place in the path', async (t) => {
  const { engine, client } = await setUp(t);
  await client.inspect('../../images/x?a=b#c');
  assert.deepEqual(
    engine.requests.all().map(({ path }) => path),
    ['/containers/../../images/x?a=b#c/json'],
  );
});

test("a network's inspect tells the addresses without their prefix length, also while a container is starting", async (t) => {
  const { client, host } = await setUp(t);
  const { id } = host.create({ networks: { other: { address: '10.1.0.2', ipv6: 'fd00::2' } } });
  host.connect(id, 'other');
  const network = host.findNetwork('other')?.id ?? '';
  assert.deepEqual(await client.networkAddresses(network), new Map([[id, ['10.1.0.2', 'fd00::2']]]));
});

test('the gateway bridge is found by its name', async (t) => {
  const { client, host } = await setUp(t);
  const { id } = await host.run({
    networks: { overlay: { address: '10.0.1.2' } },
    gatewayAddress: '172.19.0.2',
  });
  assert.deepEqual((await client.networkAddresses('docker_gwbridge'))?.get(id), ['172.19.0.2']);
});

test('documents of a shape that nobody expects are read as far as they go', async (t) => {
  const { engine, client } = await setUp(t);
  for (const body of [
    {},
    [],
    'text',
    7,
    { Id: 7, Config: null, NetworkSettings: { Networks: [1, null] }, State: 'x' },
  ]) {
    const fault = engine.fault(/./, { kind: 'body', body });
    const found = await client.inspect('x');
    assert.deepEqual([found?.id, found?.env, found?.addresses.size, found?.running], ['', new Map(), 0, false]);
    assert.deepEqual(await client.networkAddresses('x'), new Map());
    fault.lift();
  }
  engine.fault('/networks/x', {
    kind: 'body',
    body: { Containers: { a: null, b: { IPv4Address: 'no address', IPv6Address: 5 } } },
  });
  assert.deepEqual(
    await client.networkAddresses('x'),
    new Map([
      ['a', []],
      ['b', []],
    ]),
  );
});

test('a list that is none is a failure, and not an empty host', async (t) => {
  const { engine, client } = await setUp(t);
  for (const body of [{}, null, 'x', { message: 'no' }]) {
    const fault = engine.fault('/containers/json', { kind: 'body', body });
    await assert.rejects(client.runningContainers(), EngineFailure);
    fault.lift();
  }
  engine.fault('/containers/json', { kind: 'status', status: 404 });
  await assert.rejects(client.runningContainers(), EngineFailure);
});

for (const kind of ['truncated', 'malformed', 'cut', 'reset'] as const) {
  test(`an answer that is ${kind} is a failure of an engine that is there`, async (t) => {
    const { engine, client, host } = await setUp(t);
    const { id } = await host.run();
    engine.fault(/./, { kind });
    await assert.rejects(client.networkAddresses('bridge'), EngineFailure);
    await assert.rejects(client.inspect(id), EngineFailure);
    await assert.rejects(client.runningContainers(), EngineFailure);
  });
}

test('a failure says what the engine said, and where', async (t) => {
  const { engine, client } = await setUp(t);
  engine.fault(/./, { kind: 'status', status: 500, message: `broken ${'x'.repeat(1000)}` });
  await assert.rejects(client.inspect('x'), (error) => {
    assert.ok(error instanceof EngineFailure);
    assert.match(error.message, /docker\.sock answered \/containers\/x\/json with 500: .*broken/);
    assert.ok(error.message.length < 500);
    return true;
  });
});

test('an engine whose socket is not there, or where nobody listens, cannot be reached', async (t) => {
  const path = await deadSocket(t);
  for (const socketPath of ['/nowhere/docker.sock', path]) {
    const client = new DockerEngine({ kind: 'unix', socketPath, url: `unix://${socketPath}` });
    await assert.rejects(client.inspect('x'), EngineUnreachable);
    await assert.rejects(client.events(() => {}, new AbortController().signal), EngineUnreachable);
  }
});

test('that nobody listens says nothing of the engine over TCP, or on a socket that has been taken away', async (t) => {
  const { engine, client } = await setUp(t, 'tcp');
  await engine.stop();
  await assert.rejects(client.runningContainers(), EngineFailure);
  const path = await deadSocket(t);
  // As a container sees the socket that was mounted into it when the engine makes another.
  const mounted = openSync(path, O_PATH);
  t.after(() => closeSync(mounted));
  unlinkSync(path);
  const socketPath = `/proc/self/fd/${mounted}`;
  const stale = new DockerEngine({ kind: 'unix', socketPath, url: `unix://${socketPath}` });
  await assert.rejects(stale.inspect('x'), (error: Error) => error instanceof EngineFailure && /ECONNREFUSED/.test(error.message));
});

/** Of Linux, to hold what is there without opening it. */
const O_PATH = 0o10000000;

/** The path of a socket that nobody listens on any more: Node would take it away. */
async function deadSocket(t: TestContext): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'dead-socket-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const [made, kept] = [join(directory, 'made'), join(directory, 'kept')];
  const server = createServer().listen(made);
  await once(server, 'listening');
  linkSync(made, kept);
  server.close();
  await once(server, 'close');
  return kept;
}

// Events

async function follow(t: TestContext, transport: 'unix' | 'tcp' = 'unix') {
  const parts = await setUp(t, transport);
  const events = new Journal<EngineEvent>('an event that was read');
  const stop = new AbortController();
  const { ended } = await parts.client.events((event) => events.add(event), stop.signal);
  return { ...parts, events, ended, stop };
}

test("a container's life is told by the events of the engine, in their order", async (t) => {
  const { engine, events, host } = await follow(t);
  const { id } = await host.run({ address: '172.17.0.2' });
  host.rename(id, 'new-name');
  host.remove(id);
  await events.first(({ kind }) => kind === 'destroy');
  const network = host.findNetwork('bridge')?.id ?? '';
  assert.deepEqual(events.all(), [
    { kind: 'create', container: id },
    { kind: 'connect', container: id, network, driver: 'bridge' },
    { kind: 'start', container: id },
    { kind: 'rename', container: id, name: 'new-name' },
    { kind: 'die', container: id },
    { kind: 'disconnect', container: id, network, driver: 'bridge' },
    { kind: 'destroy', container: id },
  ]);
  const [subscription] = engine.subscriptions.all();
  assert.deepEqual(JSON.parse(subscription?.filters ?? ''), {
    type: ['container', 'network'],
    event: ['create', 'start', 'die', 'died', 'destroy', 'remove', 'rename', 'connect', 'disconnect'],
  });
});

function line(event: object): string {
  return `${JSON.stringify(event)}\n`;
}

/** The start of a container that was sent some milliseconds ago. */
function sent(ago: number): string {
  return line({ Type: 'container', Action: 'start', Actor: { ID: 'x' }, timeNano: (Date.now() - ago) * 1e6 });
}

test('a thousand events in a row that come late end the stream: Docker may have left others out', async (t) => {
  const { engine, events, ended } = await follow(t);
  engine.writeToSubscribers(sent(1_000).repeat(999) + sent(-60_000) + sent(1_000).repeat(999));
  await events.several(1_999);
  engine.writeToSubscribers(sent(1_000));
  assert.match((await ended).message, /docker\.sock sent 1000 events late/);
});

test('over TCP events may come from a clock that is behind ours', async (t) => {
  const { engine, events } = await follow(t, 'tcp');
  engine.writeToSubscribers(sent(60_000).repeat(1_000));
  await events.several(1_000);
  engine.writeToSubscribers(sent(60_000));
  await events.several(1_001);
});

test('events are read whole, however they are cut and joined on the way', async (t) => {
  const { engine, events } = await follow(t);
  const text = ['é', '🐳', 'c']
    .map((ID) => line({ Type: 'container', Action: 'start', Actor: { ID } }))
    .join('\n\r\n');
  const bytes = Buffer.from(text);
  // One byte at a time, so that characters are cut too.
  for (let at = 0; at < bytes.length; at += 1) engine.writeToSubscribers(bytes.subarray(at, at + 1));
  await events.several(3);
  engine.writeToSubscribers(text);
  await events.several(6);
  assert.deepEqual(
    events.all().map(({ container }) => container),
    ['é', '🐳', 'c', 'é', '🐳', 'c'],
  );
});

test('events that mean nothing here are left out', async (t) => {
  const { engine, events } = await follow(t);
  for (const event of [
    { Type: 'image', Action: 'create', Actor: { ID: 'x' } },
    { Type: 'network', Action: 'create', Actor: { ID: 'x' } },
    { Type: 'network', Action: 'destroy', Actor: { ID: 'x' } },
    { Type: 'container', Action: 'connect', Actor: { ID: 'x' } },
    { Type: 'container', Action: 'exec_start: sh -c start', Actor: { ID: 'x' } },
    { Type: 'container', Action: 'health_status: healthy', Actor: { ID: 'x' } },
    {},
    [],
    null,
    7,
    'start',
  ]) {
    engine.writeToSubscribers(line(event as object));
  }
  engine.writeToSubscribers(line({ Type: 'container', Action: 'die', Actor: { ID: 'last' } }));
  assert.deepEqual(await events.first(), { kind: 'die', container: 'last' });
});

test('an event that is no JSON ends the stream: what it told is unknown', async (t) => {
  const { engine, ended } = await follow(t);
  engine.writeToSubscribers('{"Type":"container"\n');
  const error = await ended;
  assert.ok(error instanceof EngineFailure);
  assert.match(error.message, /no JSON/);
});

test('an event beyond measure is passed over, and the stream goes on', async (t) => {
  const { engine, events } = await follow(t);
  engine.writeToSubscribers('x'.repeat(4 * 1024 * 1024 + 1));
  engine.writeToSubscribers('y\n');
  engine.host.create({ id: 'f'.repeat(64) });
  const { container } = await events.first();
  assert.equal(container, 'f'.repeat(64));
});

for (const cleanly of [true, false]) {
  test(`the end of the stream is told, ${cleanly ? 'an orderly one' : 'a sudden one'}`, async (t) => {
    const { engine, ended } = await follow(t);
    engine.dropSubscribers(cleanly);
    assert.ok((await ended) instanceof Error);
  });
}

test('whoever follows the events may stop', async (t) => {
  const { engine, ended, stop } = await follow(t);
  stop.abort();
  assert.ok((await ended) instanceof Error);
  assert.equal(engine.subscriptions.all().length, 1);
});

test('an engine that refuses to tell events is a failure', async (t) => {
  const { engine, client } = await setUp(t);
  for (const status of [400, 404, 500]) {
    const fault = engine.fault('/events', { kind: 'status', status });
    await assert.rejects(
      client.events(() => {}, new AbortController().signal),
      EngineFailure,
    );
    fault.lift();
  }
});

test('no more than eight calls are under way at once, and following the events is not one of them', async (t) => {
  const { engine, client } = await follow(t);
  const fault = engine.fault(/^\/containers\//, { kind: 'hold' });
  const asked = Array.from({ length: 20 }, (_, index) => client.inspect(`c${index}`));
  await engine.requests.several(8, ({ path }) => path.startsWith('/containers/'));
  const network = client.networkAddresses('bridge');
  assert.equal(engine.requests.all(({ path }) => path.startsWith('/containers/')).length, 8);
  fault.lift();
  await Promise.all([...asked, network]);
});

test('the first process of a container has a number as long as it runs', async (t) => {
  const { client, host } = await setUp(t);
  const web = await host.run({ name: 'web', networkMode: 'host' });
  assert.ok(((await client.firstProcessOf(web.id)) ?? 0) > 0);
  host.stop(web);
  assert.equal(await client.firstProcessOf(web.id), undefined);
  assert.equal(await client.firstProcessOf('f'.repeat(64)), undefined);
});
