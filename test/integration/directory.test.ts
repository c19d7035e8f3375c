import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test, type TestContext } from 'node:test';
import { makeCertificates } from '../support/certificates.ts';
import { DockerEngine } from '../support/docker-engine.ts';
import { INSTANCE_ID } from '../support/imds.ts';
import { arnOf } from './guarantees/scale.ts';
import { anotherProxy, host, INSTANCE_ID_PATH, jsonOf, SECURITY_CREDENTIALS, until, type Host } from './host.ts';

const shared = await host({ after });
const { docker, sts, proxy, ask, roleGiven } = shared;
const UNKNOWN = '127.0.0.99';

/** An environment that declares a role. */
const env = (name: string) => ({ IAM_ROLE: arnOf(name) });

async function isUnknown(from: string): Promise<void> {
  assert.equal((await ask(from, SECURITY_CREDENTIALS)).status, 404);
}

/** Waits until the proxy has applied every event up to now: they arrive in order. */
async function caughtUp(): Promise<void> {
  const marker = docker.host.create({ networkMode: 'none' });
  await docker.requests.first(({ path }) => path === `/containers/${marker.id}/json`);
  docker.host.destroy(marker);
}

// The order of events

test('a container\'s role is assumed at create, and its address is known at network connect', async () => {
  const early = docker.host.create({ name: 'early', address: '127.0.1.1', env: env('early') });
  await sts.calls.first(({ roleArn }) => roleArn === arnOf('early'));
  docker.host.connect(early, 'bridge');
  // Until the start the engine holds the container's inspect and does not list it.
  assert.equal(await roleGiven('127.0.1.1'), arnOf('early'));
  docker.host.start(early);
  assert.equal(await roleGiven('127.0.1.1'), arnOf('early'));
  assert.equal(sts.assumed(arnOf('early')).length, 1);
});

test('a request during a held inspect waits for it', async () => {
  const held = docker.host.create({ name: 'held', address: '127.0.1.2', env: env('held') });
  docker.host.connect(held, 'bridge');
  await docker.requests.first(({ path }) => path === `/containers/${held.id}/json`);
  const first = roleGiven('127.0.1.2');
  docker.host.start(held);
  assert.equal(await first, arnOf('held'));
});

test('a container that runs when the proxy starts is known', async (t) => {
  await docker.host.run({ name: 'older', address: '127.0.1.3', env: env('older') });
  const later = await anotherProxy(t, shared);
  assert.equal(await later.roleGiven('127.0.1.3'), arnOf('older'));
});

test('a container that does not run has no address', async () => {
  docker.host.create({ name: 'created', address: '127.0.1.4', env: env('created') });
  await sts.calls.first(({ roleArn }) => roleArn === arnOf('created'));
  await isUnknown('127.0.1.4');
});

// Addresses come and go

test('an address is removed when its container ends', async () => {
  const short = await docker.host.run({ name: 'short', address: '127.0.2.1', env: env('short') });
  assert.equal(await roleGiven('127.0.2.1'), arnOf('short'));
  docker.host.stop(short);
  await isUnknown('127.0.2.1');
});

test('an address is removed when its container dies, before the disconnect', async () => {
  const dying = await docker.host.run({ name: 'dying', address: '127.0.2.2', env: env('dying') });
  assert.equal(await roleGiven('127.0.2.2'), arnOf('dying'));
  docker.host.die(dying);
  await caughtUp();
  await isUnknown('127.0.2.2');
});

test('an address is removed when a running container leaves the network; its others stay', async () => {
  const leaving = await docker.host.run({
    name: 'leaving', networks: { left: { address: '127.0.2.3' }, kept: { address: '127.0.2.4' } }, env: env('leaving'),
  });
  assert.equal(await roleGiven('127.0.2.3'), arnOf('leaving'));
  docker.host.disconnect(leaving, 'left');
  await caughtUp();
  await isUnknown('127.0.2.3');
  assert.equal(await roleGiven('127.0.2.4'), arnOf('leaving'));
});

test('a reused address belongs to its new container at once', async () => {
  for (let round = 0; round < 30; round += 1) {
    const name = `round-${round}`;
    const container = await docker.host.run({ name, address: '127.0.2.5', env: env(name) });
    assert.equal((await ask('127.0.2.5', SECURITY_CREDENTIALS)).body, name);
    docker.host.remove(container);
  }
});

test('a running container has the address of a network that it is connected to', async () => {
  const joining = await docker.host.run({ name: 'joining', address: '127.0.2.6', env: env('joining') });
  docker.host.connect(joining, 'joined-later', { address: '127.0.2.7' });
  assert.equal(await roleGiven('127.0.2.7'), arnOf('joining'));
  assert.equal(await roleGiven('127.0.2.6'), arnOf('joining'));
});

test('a container is known at its addresses on all its networks', async () => {
  const networks = Object.fromEntries([8, 9, 10, 11].map((last) => [`net-${last}`, { address: `127.0.2.${last}` }]));
  await docker.host.run({ name: 'everywhere', networks, env: env('everywhere') });
  for (const { address } of Object.values(networks)) assert.equal(await roleGiven(address), arnOf('everywhere'));
  assert.equal(sts.assumed(arnOf('everywhere')).length, 1);
});

test('a restart keeps the role under the new address, and the old one is unknown', async () => {
  const moving = await docker.host.run({ name: 'moving', address: '127.0.2.12', env: env('moving') });
  assert.equal(await roleGiven('127.0.2.12'), arnOf('moving'));
  await docker.host.restart(moving, { bridge: { address: '127.0.2.13' } });
  assert.equal(await roleGiven('127.0.2.13'), arnOf('moving'));
  await isUnknown('127.0.2.12');
});

test('a rename keeps the role, and the log has the new name', async () => {
  const container = await docker.host.run({ name: 'old-name', address: '127.0.2.14', env: env('renamed') });
  assert.equal(await roleGiven('127.0.2.14'), arnOf('renamed'));
  docker.host.rename(container, 'new-name');
  await caughtUp();
  assert.equal(await roleGiven('127.0.2.14'), arnOf('renamed'));
  await proxy.awaitLog(({ fields }) => fields['container'] === 'new-name');
});

test('a paused container keeps its address', async () => {
  const paused = await docker.host.run({ name: 'paused', address: '127.0.2.15', env: env('paused') });
  docker.host.pause(paused);
  await caughtUp();
  assert.equal(await roleGiven('127.0.2.15'), arnOf('paused'));
  docker.host.unpause(paused);
  assert.equal(await roleGiven('127.0.2.15'), arnOf('paused'));
});

test('a container with an IPv6 address is known at it, and another at the IPv4 address', async (t) => {
  const both = await host(t, { env: { HOST: '::' } });
  const first = await both.docker.host.run({ name: 'six', ipv6: '0:0::0:1', env: env('six') });
  await both.docker.host.run({ name: 'four', address: '127.0.2.16', env: env('four') });
  assert.equal(await both.roleGiven('::1'), arnOf('six'));
  assert.equal(await both.roleGiven('127.0.2.16'), arnOf('four'));
  both.docker.host.remove(first);
  assert.equal((await both.ask('::1', SECURITY_CREDENTIALS)).status, 404);
});

// Shared and missing networks

test('a container on the network of X has the role of X', async () => {
  await docker.host.run({ name: 'x-named', address: '127.0.3.1', env: env('x-role') });
  await docker.host.run({ name: 'peer-1', networkMode: 'container:x-named', env: env('peer-role') });
  await caughtUp();
  assert.equal(await roleGiven('127.0.3.1'), arnOf('x-role'));
});

test('if X declares no role and its network peer does, the role of the peer holds for both', async () => {
  await docker.host.run({ name: 'x-plain', address: '127.0.3.2' });
  await isUnknown('127.0.3.2');
  const peer = await docker.host.run({ name: 'peer-2', networkMode: 'container:x-plain', env: env('sidecar') });
  await until(() => ask('127.0.3.2', SECURITY_CREDENTIALS), ({ status }) => status === 200);
  assert.equal(await roleGiven('127.0.3.2'), arnOf('sidecar'));
  docker.host.remove(peer);
  await caughtUp();
  await isUnknown('127.0.3.2');
});

test('a container on the host network has no address, and so no role', async () => {
  await docker.host.run({ name: 'on-host', networkMode: 'host', env: env('on-host') });
  await docker.host.run({ name: 'on-none', networkMode: 'none', env: env('on-none') });
  await caughtUp();
  await isUnknown('127.0.0.1');
  assert.equal(sts.assumed(arnOf('on-host')).length + sts.assumed(arnOf('on-none')).length, 0);
});

test('a Swarm task is known by its address on docker_gwbridge', async () => {
  docker.host.addNetwork({ name: 'overlay-1', driver: 'overlay' });
  const task = await docker.host.run({
    name: 'task', networks: { 'overlay-1': { address: '127.0.3.4' } }, gatewayAddress: '127.0.3.5', env: env('task'),
  });
  assert.equal(await roleGiven('127.0.3.5'), arnOf('task'));
  docker.host.remove(task);
  await isUnknown('127.0.3.5');
});

test('a Swarm task that runs when the proxy starts is known by that address', async (t) => {
  docker.host.addNetwork({ name: 'overlay-2', driver: 'overlay' });
  await docker.host.run({
    name: 'older-task', networks: { 'overlay-2': { address: '127.0.3.6' } }, gatewayAddress: '127.0.3.7',
    env: env('older-task'),
  });
  const later = await anotherProxy(t, shared);
  assert.equal(await later.roleGiven('127.0.3.7'), arnOf('older-task'));
});

// Unknown callers

test('requests from unknown addresses cause at most two lists per second', async (t) => {
  const own = await host(t);
  own.docker.requests.clear();
  const began = Date.now();
  const asked = Array.from({ length: 60 }, (_, number) => own.ask(`127.0.4.${number + 1}`, SECURITY_CREDENTIALS));
  for (const { status } of await Promise.all(asked)) assert.equal(status, 404);
  const lists = own.docker.requests.all(({ path }) => path === '/containers/json').length;
  const most = 2 + Math.ceil((Date.now() - began) / 500);
  assert.ok(lists >= 1 && lists <= most, `${lists} lists`);
});

test('a request from a known address causes no call to the engine', async () => {
  await docker.host.run({ name: 'known', address: '127.0.4.100', env: env('known') });
  await roleGiven('127.0.4.100');
  await caughtUp();
  docker.requests.clear();
  for (let times = 0; times < 10; times += 1) await roleGiven('127.0.4.100');
  assert.equal(docker.requests.entries.length, 0);
});

test('the start event repairs an address lookup that failed at network connect', async (t) => {
  const fault = docker.fault(/^\/networks\//, { kind: 'status', status: 500 });
  t.after(() => fault.lift());
  const asked = docker.requests.next(({ path }) => path.startsWith('/networks/'));
  const flaky = docker.host.create({ name: 'flaky', address: '127.0.4.101', env: env('flaky') });
  docker.host.connect(flaky, 'bridge');
  await asked;
  docker.host.start(flaky);
  await until(() => shared.askOperator('/status'), ({ body }) => body.includes('"flaky"'));
  fault.lift();
  assert.equal(await roleGiven('127.0.4.101'), arnOf('flaky'));
});

test('a container of which every lookup failed is found when it sends a request', async (t) => {
  const fault = docker.fault(/^\/(networks|containers)\/[0-9a-f]/, { kind: 'status', status: 500 });
  t.after(() => fault.lift());
  const silent = await docker.host.run({ name: 'silent', address: '127.0.4.102', env: env('silent') });
  await docker.requests.several(2, ({ path }) => path === `/containers/${silent.id}/json`);
  fault.lift();
  assert.equal(await roleGiven('127.0.4.102'), arnOf('silent'));
});

// The event stream

test('a malformed event causes a full resync', async () => {
  for (const bytes of ['{"Type": nonsense\n', '\0\0\n', '{"Type":"container","Action":"die"\n']) {
    const known = proxy.logs.next(({ msg }) => msg === 'containers known');
    const again = docker.subscriptions.next();
    docker.writeToSubscribers(bytes);
    await again;
    await known;
  }
  await docker.host.run({ name: 'after-nonsense', address: '127.0.5.1', env: env('after-nonsense') });
  assert.equal(await roleGiven('127.0.5.1'), arnOf('after-nonsense'));
});

test('events of unknown kinds and unexpected shapes are skipped', async () => {
  await docker.host.run({ name: 'unimpressed', address: '127.0.5.2', env: env('unimpressed') });
  const before = docker.subscriptions.entries.length;
  const events = [
    {}, [], 'text', 1, null, { Type: 'volume', Action: 'die' },
    { Type: 'container' }, { Type: 'container', Action: {} },
    { Type: 'container', Action: 'die', Actor: null }, { Type: 'container', Action: 'die', Actor: { ID: 7 } },
    { Type: 'container', Action: 'exec_create: sh', Actor: { ID: 'x', Attributes: {} } },
    { Type: 'network', Action: 'disconnect', Actor: { ID: 'x', Attributes: null } },
    { Type: 'network', Action: 'connect', Actor: { ID: '../../info', Attributes: { container: '../x' } } },
  ];
  docker.writeToSubscribers(`${events.map((event) => JSON.stringify(event)).join('\n')}\n\n\r\n`);
  await caughtUp();
  assert.equal(await roleGiven('127.0.5.2'), arnOf('unimpressed'));
  assert.equal(docker.subscriptions.entries.length, before);
});

test('events are parsed whole, however chunks cut and join them', async () => {
  const container = await docker.host.run({ name: 'piecemeal', address: '127.0.5.3', env: env('piecemeal') });
  assert.equal(await roleGiven('127.0.5.3'), arnOf('piecemeal'));
  const rename = (name: string): string => `${JSON.stringify({
    Type: 'container', Action: 'rename', Actor: { ID: container.id, Attributes: { name, oldName: '/x' } },
  })}\n`;
  docker.writeToSubscribers(rename('one') + rename('two') + rename('three'));
  for (const byte of Buffer.from(rename('häuschen'))) docker.writeToSubscribers(Buffer.from([byte]));
  await caughtUp();
  await roleGiven('127.0.5.3');
  await proxy.awaitLog(({ fields }) => fields['container'] === 'häuschen');
});

test('a broken event stream is reopened, and the full resync shows what happened meanwhile', async () => {
  for (const cleanly of [true, false]) {
    const name = cleanly ? 'ended' : 'broken';
    const container = await docker.host.run({ name, address: '127.0.5.4', env: env(name) });
    assert.equal(await roleGiven('127.0.5.4'), arnOf(name));
    const away = docker.fault('/events', { kind: 'hold' });
    docker.dropSubscribers(cleanly);
    await until(() => docker.subscriberCount, (count) => count === 0);
    docker.host.remove(container);
    await docker.host.run({ name: `${name}-2`, address: '127.0.5.4', env: env(`${name}-2`) });
    away.lift();
    assert.equal(await roleGiven('127.0.5.4'), arnOf(`${name}-2`));
    docker.host.remove(`${name}-2`);
  }
});

// An unreachable engine

/** A host whose engine has two containers, is asked once, and then stops. */
async function withStoppedEngine(t: TestContext): Promise<Host> {
  const own = await host(t);
  await own.docker.host.run({ name: 'a', address: '127.0.6.1', env: env('a') });
  await own.docker.host.run({ name: 'b', address: '127.0.6.2', env: env('b') });
  assert.equal(await own.roleGiven('127.0.6.1'), arnOf('a'));
  assert.equal(await own.roleGiven('127.0.6.2'), arnOf('b'));
  const noticed = own.proxy.awaitLog(({ level, msg }) => level === 'warning' && msg.startsWith('cannot follow Docker events'));
  await own.docker.stop();
  await noticed;
  return own;
}

/** The engine is back, and the proxy knows its containers. */
async function restartEngine(own: Host): Promise<void> {
  const known = own.proxy.logs.next(({ msg }) => msg === 'containers known');
  await own.docker.listen();
  await known;
}

// Each has its own host and mostly waits for the next connection attempt.
describe('an engine that is away', { concurrency: 4 }, () => {
  test('known containers are served while the engine is away', async (t) => {
    const own = await withStoppedEngine(t);
    for (let times = 0; times < 3; times += 1) {
      assert.equal(await own.roleGiven('127.0.6.1'), arnOf('a'));
      assert.equal(await own.roleGiven('127.0.6.2'), arnOf('b'));
    }
  });

  test('while the engine is away an unknown address gets 503, and everything else is served', async (t) => {
    const own = await withStoppedEngine(t);
    const answer = await own.ask(UNKNOWN, SECURITY_CREDENTIALS);
    assert.equal(answer.status, 503);
    assert.match(answer.headers['retry-after'] ?? '', /^[1-9]\d*$/);
    assert.deepEqual(Object.keys(jsonOf(answer)), ['Code', 'Message']);
    assert.equal((await own.ask(UNKNOWN, INSTANCE_ID_PATH)).body, INSTANCE_ID);
    const ready = await own.askOperator('/readyz');
    assert.equal(ready.status, 503);
  });

  test('when the engine is back, new containers are served, and ended ones are not', async (t) => {
    const own = await withStoppedEngine(t);
    own.docker.host.remove('a');
    await restartEngine(own);
    assert.equal((await own.ask('127.0.6.1', SECURITY_CREDENTIALS)).status, 404);
    assert.equal(await own.roleGiven('127.0.6.2'), arnOf('b'));
    await own.docker.host.run({ name: 'c', address: '127.0.6.1', env: env('c') });
    assert.equal(await own.roleGiven('127.0.6.1'), arnOf('c'));
    await until(() => own.askOperator('/readyz'), ({ status }) => status === 200);
  });

  test('containers whose addresses were swapped while the engine was away have their own roles after it', async (t) => {
    const own = await withStoppedEngine(t);
    await own.docker.host.restart('b', { bridge: { address: '127.0.6.3' } });
    await own.docker.host.restart('a', { bridge: { address: '127.0.6.2' } });
    await own.docker.host.restart('b', { bridge: { address: '127.0.6.1' } });
    await restartEngine(own);
    assert.equal(await own.roleGiven('127.0.6.1'), arnOf('b'));
    assert.equal(await own.roleGiven('127.0.6.2'), arnOf('a'));
    assert.equal((await own.ask('127.0.6.3', SECURITY_CREDENTIALS)).status, 404);
  });

  test('when the engine is back, nothing old is used until the full resync', async (t) => {
    const own = await withStoppedEngine(t);
    const list = own.docker.fault('/containers/json', { kind: 'hold' });
    const connected = own.docker.subscriptions.next();
    await own.docker.listen();
    await connected;
    own.docker.host.remove('a');
    own.docker.host.startTakes = 250; // As long as a real engine takes.
    await own.docker.host.run({ name: 'c', address: '127.0.6.1', env: env('c') });
    const asked = own.roleGiven('127.0.6.1');
    await own.docker.requests.first(({ path }) => path === '/containers/json');
    list.lift();
    assert.equal(await asked, arnOf('c'));
  });

  test('while the stream is broken and the engine answers with errors, credentials are 503', async (t) => {
    const own = await host(t);
    await own.docker.host.run({ name: 'a', address: '127.0.6.1', env: env('a') });
    assert.equal(await own.roleGiven('127.0.6.1'), arnOf('a'));
    for (const path of ['/containers/json', '/events']) {
      const fault = own.docker.fault(path, { kind: 'status', status: 500 });
      const noticed = own.proxy.logs.next(({ level }) => level === 'warning');
      own.docker.dropSubscribers();
      await noticed;
      const answer = await own.ask('127.0.6.1', '/creds');
      assert.equal(answer.status, 503, path);
      assert.match(answer.headers['retry-after'] ?? '', /^[1-9]\d*$/);
      assert.deepEqual(Object.keys(jsonOf(answer)), ['Code', 'Message']);
      assert.equal((await own.ask('127.0.6.1', INSTANCE_ID_PATH)).body, INSTANCE_ID);
      const known = own.proxy.logs.next(({ msg }) => msg === 'containers known');
      fault.lift();
      await known;
      assert.equal(await own.roleGiven('127.0.6.1'), arnOf('a'));
    }
  });

  for (const kind of ['truncated', 'malformed', 'cut', 'reset'] as const) {
    test(`a list that is ${kind} is read again, and callers are undetermined meanwhile`, async (t) => {
      const docker = await DockerEngine.start();
      await docker.host.run({ name: 'a', address: '127.0.6.1', env: env('a') });
      const fault = docker.fault('/containers/json', { kind });
      const own = await host(t, { docker, synced: false });
      await own.proxy.awaitLog(({ level }) => level === 'warning');
      assert.equal((await own.ask('127.0.6.1', '/creds')).status, 503);
      fault.lift();
      await own.proxy.awaitLog('containers known');
      assert.equal(await own.roleGiven('127.0.6.1'), arnOf('a'));
    });
  }

  test('the proxy starts before Docker, serves everything but credentials, and logs a warning', async (t) => {
    const docker = await DockerEngine.start();
    await docker.stop();
    await docker.host.run({ name: 'a', address: '127.0.6.1', env: env('a') });
    const own = await host(t, { docker, synced: false });
    const warning = await own.proxy.awaitLog(({ level }) => level === 'warning');
    assert.match(warning.text, /Docker Engine/);
    assert.equal((await own.ask('127.0.6.1', INSTANCE_ID_PATH)).body, INSTANCE_ID);
    assert.equal((await own.ask('127.0.6.1', SECURITY_CREDENTIALS)).status, 503);
    const ready = await own.askOperator('/readyz');
    assert.equal(ready.status, 503);
    const { status, checks } = JSON.parse(ready.body) as { status: string; checks: Record<string, unknown> };
    assert.deepEqual([status, checks['docker']], ['not ready', { ok: false, detail: 'starting' }]);
    assert.equal((await own.askOperator('/healthz')).status, 200);

    await docker.listen();
    await own.proxy.awaitLog('containers known');
    assert.equal(await own.roleGiven('127.0.6.1'), arnOf('a'));
    const { body } = await until(() => own.askOperator('/readyz'), ({ status: code }) => code === 200);
    assert.deepEqual(JSON.parse(body), {
      status: 'ready',
      checks: { docker: { ok: true, detail: 'synced' }, credentials: { ok: true, detail: 'found' } },
    });
  });

  test('an engine that is away causes one warning, not one per attempt', async (t) => {
    const own = await withStoppedEngine(t);
    const noticed = own.proxy.logs.all(({ level }) => level === 'warning').length;
    for (let times = 0; times < 5; times += 1) {
      await own.ask(UNKNOWN, SECURITY_CREDENTIALS);
      await new Promise((resolve) => setTimeout(resolve, 110)); // A failed attempt counts for 100 ms.
    }
    assert.ok(own.proxy.logs.all(({ level }) => level === 'warning').length <= noticed + 1);
  });
});

// The endpoint

test('DOCKER_HOST names the engine as DOCKER_URL does, and a socket may have two slashes', async (t) => {
  const { socketPath } = docker;
  const variables = [
    { DOCKER_URL: undefined, DOCKER_HOST: docker.url }, { DOCKER_URL: `unix:/${socketPath}` },
    { DOCKER_URL: `unix:///${socketPath.slice(1)}` }, { DOCKER_URL: socketPath },
  ];
  await Promise.all(variables.map(async (variable) => {
    const own = await anotherProxy(t, shared, { env: variable });
    await until(() => own.askOperator('/readyz'), ({ status }) => status === 200);
  }));
});

test('an engine on TCP works', async (t) => {
  for (const scheme of ['tcp', 'http']) {
    const docker = await DockerEngine.start({ transport: 'tcp' });
    const own = await host(t, { docker, env: { DOCKER_URL: docker.url.replace('tcp', scheme) } });
    await docker.host.run({ name: 'a', address: '127.0.6.1', env: env('a') });
    assert.equal(await own.roleGiven('127.0.6.1'), arnOf('a'));
  }
});

const { ca, server, client } = makeCertificates();

function certificateDirectory(t: TestContext, files: Readonly<Record<string, string>>): string {
  const directory = mkdtempSync(join(tmpdir(), 'docker-certificates-'));
  t.after(() => rmSync(directory, { recursive: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
  return directory;
}

test('DOCKER_CERT_PATH means TLS with a client certificate', async (t) => {
  const certPath = certificateDirectory(t, { 'ca.pem': ca, 'cert.pem': client.cert, 'key.pem': client.key });
  for (const verify of [undefined, '1']) {
    const docker = await DockerEngine.start({ transport: 'tcp', tls: { ...server, ca } });
    const tls = { DOCKER_CERT_PATH: certPath, DOCKER_TLS_VERIFY: verify };
    const own = await host(t, { docker, synced: false, env: tls });
    const { text } = await own.proxy.awaitLog(({ msg, level }) => level === 'warning' || msg === 'containers known');
    assert.match(text, /containers known/);
    await docker.host.run({ name: 'a', address: '127.0.6.1', env: env('a') });
    assert.equal(await own.roleGiven('127.0.6.1'), arnOf('a'));
  }
});

test('an engine whose certificate another authority signed is rejected', async (t) => {
  const stranger = makeCertificates();
  const certPath = certificateDirectory(t, { 'ca.pem': ca, 'cert.pem': client.cert, 'key.pem': client.key });
  const docker = await DockerEngine.start({ transport: 'tcp', tls: stranger.server });
  const own = await host(t, { docker, synced: false, env: { DOCKER_CERT_PATH: certPath } });
  const { text } = await own.proxy.awaitLog(({ level }) => level === 'warning');
  assert.match(text, /certificate|signature/i);
  assert.doesNotMatch(text, /altnames/);
  assert.equal(docker.requests.entries.length, 0);
});
