import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, linkSync, mkdtempSync, openSync, rmSync, unlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { parseDockerEndpoint } from '../../lib/docker/endpoint.ts';
import { DockerEngine } from '../../lib/docker/client.ts';
import { EngineFailure, EngineUnreachable, type EngineEvent } from '../../lib/docker/engine.ts';
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
  test(`requests over ${transport} have no version in the path`, async (t) => {
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

test('allContainers tells whether each runs and whether it ever has', async (t) => {
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

test('states that only Podman has are understood', async (t) => {
  const { client, engine } = await setUp(t);
  const states = ['configured', 'initialized', 'running', 'stopping', 'stopped', 'removing', 'unknown'];
  engine.fault('/containers/json', { kind: 'body', body: states.map((State) => ({ Id: State, State, HostConfig: null })) });
  const found = await client.allContainers();
  assert.deepEqual(found.filter(({ running }) => running).map(({ id }) => id), ['running', 'stopping']);
  assert.deepEqual(found.filter(({ hasRun }) => !hasRun).map(({ id }) => id), ['configured', 'initialized']);
});

for (const driver of ['overlay', 'macvlan', 'ipvlan']) {
  test(`an address on a network of the driver ${driver} is left out: this host never sees it`, async (t) => {
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

test('an address on a network of an unknown driver counts', async (t) => {
  const { client, host } = await setUp(t);
  const { id } = host.addNetwork({ name: 'woven', driver: 'weavemesh' });
  await host.run({ networks: { woven: { address: '10.32.0.2' } } });
  const [listed] = await client.runningContainers();
  assert.deepEqual(listed?.addresses, new Map([[id, ['10.32.0.2']]]));
});

test('the driver of a network is looked up once', async (t) => {
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

test('an inspect has the environment, the labels and whether the container runs', async (t) => {
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

test('a container or network that does not exist is undefined', async (t) => {
  const { client } = await setUp(t);
  assert.equal(await client.inspect('nobody'), undefined);
  assert.equal(await client.networkAddresses('nothing'), undefined);
});

test('an id cannot break out of its path segment', async (t) => {
  const { engine, client } = await setUp(t);
  await client.inspect('../../images/x?a=b#c');
  assert.deepEqual(
    engine.requests.all().map(({ path }) => path),
    ['/containers/../../images/x?a=b#c/json'],
  );
});

test("a network's inspect has addresses without prefix length, also while a container is starting", async (t) => {
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

test('documents of an unexpected shape become neutral values', async (t) => {
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

test('a response that is not a list is a failure, not an empty host', async (t) => {
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
  test(`a response that is ${kind} is an EngineFailure`, async (t) => {
    const { engine, client, host } = await setUp(t);
    const { id } = await host.run();
    engine.fault(/./, { kind });
    await assert.rejects(client.networkAddresses('bridge'), EngineFailure);
    await assert.rejects(client.inspect(id), EngineFailure);
    await assert.rejects(client.runningContainers(), EngineFailure);
  });
}

test('a failure names the endpoint, the path, the status and the message', async (t) => {
  const { engine, client } = await setUp(t);
  engine.fault(/./, { kind: 'status', status: 500, message: `broken ${'x'.repeat(1000)}` });
  await assert.rejects(client.inspect('x'), (error) => {
    assert.ok(error instanceof EngineFailure);
    assert.match(error.message, /docker\.sock answered \/containers\/x\/json with 500: .*broken/);
    assert.ok(error.message.length < 500);
    return true;
  });
});

test('an engine whose socket is missing or has no listener is unreachable', async (t) => {
  const path = await deadSocket(t);
  for (const socketPath of ['/nowhere/docker.sock', path]) {
    const client = new DockerEngine({ kind: 'unix', socketPath, url: `unix://${socketPath}` });
    await assert.rejects(client.inspect('x'), EngineUnreachable);
    await assert.rejects(client.events(() => {}, new AbortController().signal), EngineUnreachable);
  }
});

test('a refused connection over TCP or on an unlinked socket does not prove that no engine runs', async (t) => {
  const { engine, client } = await setUp(t, 'tcp');
  await engine.stop();
  await assert.rejects(client.runningContainers(), EngineFailure);
  const path = await deadSocket(t);
  // What a container sees of a socket that was bind-mounted before the engine made another one.
  const mounted = openSync(path, O_PATH);
  t.after(() => closeSync(mounted));
  unlinkSync(path);
  const socketPath = `/proc/self/fd/${mounted}`;
  const stale = new DockerEngine({ kind: 'unix', socketPath, url: `unix://${socketPath}` });
  await assert.rejects(stale.inspect('x'), (error: Error) => error instanceof EngineFailure && /ECONNREFUSED/.test(error.message));
});

/** Linux: refers to a file without opening it. */
const O_PATH = 0o10000000;

/** The path of a socket without a listener. Node removes the one it made, so this is a second link to it. */
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

test("the events of a container's life arrive in order", async (t) => {
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

test('a thousand late events in a row end the stream: Docker may have dropped others', async (t) => {
  const { engine, events, ended } = await follow(t);
  engine.writeToSubscribers(sent(1_000).repeat(999) + sent(-60_000) + sent(1_000).repeat(999));
  await events.several(1_999);
  engine.writeToSubscribers(sent(1_000));
  assert.match((await ended).message, /docker\.sock sent 1000 events late/);
});

test('over TCP the age of an event is not judged: the clocks may differ', async (t) => {
  const { engine, events } = await follow(t, 'tcp');
  engine.writeToSubscribers(sent(60_000).repeat(1_000));
  await events.several(1_000);
  engine.writeToSubscribers(sent(60_000));
  await events.several(1_001);
});

test('events are parsed whole, however chunks cut and join them', async (t) => {
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

test('events that the directory does not use are skipped', async (t) => {
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

test('an event that is not JSON ends the stream: what it said is unknown', async (t) => {
  const { engine, ended } = await follow(t);
  engine.writeToSubscribers('{"Type":"container"\n');
  const error = await ended;
  assert.ok(error instanceof EngineFailure);
  assert.match(error.message, /not JSON/);
});

test('an event longer than 4 MiB is skipped, and the stream goes on', async (t) => {
  const { engine, events } = await follow(t);
  engine.writeToSubscribers('x'.repeat(4 * 1024 * 1024 + 1));
  engine.writeToSubscribers('y\n');
  engine.host.create({ id: 'f'.repeat(64) });
  const { container } = await events.first();
  assert.equal(container, 'f'.repeat(64));
});

for (const cleanly of [true, false]) {
  test(`the ${cleanly ? 'orderly' : 'abrupt'} end of the stream is reported`, async (t) => {
    const { engine, ended } = await follow(t);
    engine.dropSubscribers(cleanly);
    assert.ok((await ended) instanceof Error);
  });
}

test('an abort ends the stream', async (t) => {
  const { engine, ended, stop } = await follow(t);
  stop.abort();
  assert.ok((await ended) instanceof Error);
  assert.equal(engine.subscriptions.all().length, 1);
});

test('an error status of the event stream is a failure', async (t) => {
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

test('at most eight calls are concurrent, not counting the event stream', async (t) => {
  const { engine, client } = await follow(t);
  const fault = engine.fault(/^\/containers\//, { kind: 'hold' });
  const asked = Array.from({ length: 20 }, (_, index) => client.inspect(`c${index}`));
  await engine.requests.several(8, ({ path }) => path.startsWith('/containers/'));
  const network = client.networkAddresses('bridge');
  assert.equal(engine.requests.all(({ path }) => path.startsWith('/containers/')).length, 8);
  fault.lift();
  await Promise.all([...asked, network]);
});

test('the first process of a container has a PID while it runs', async (t) => {
  const { client, host } = await setUp(t);
  const web = await host.run({ name: 'web', networkMode: 'host' });
  assert.ok(((await client.firstProcessOf(web.id)) ?? 0) > 0);
  host.stop(web);
  assert.equal(await client.firstProcessOf(web.id), undefined);
  assert.equal(await client.firstProcessOf('f'.repeat(64)), undefined);
});
