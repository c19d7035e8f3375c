import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { describeContainer, DirectoryUnavailable, type Container } from '../../lib/docker/container.ts';
import { ContainerDirectory, type DirectoryState } from '../../lib/docker/directory.ts';
import { EngineFailure, EngineUnreachable } from '../../lib/docker/client.ts';
import { anEngineContainer } from './helpers/fixtures.ts';
import { ManualClock, settled } from './helpers/manual-clock.ts';
import { watch } from './helpers/promises.ts';
import {
  BRIDGE,
  connected,
  created,
  destroyed,
  died,
  disconnected,
  GATEWAY,
  OVERLAY,
  renamed,
  ScriptedEngine,
  started,
} from './helpers/scripted-engine.ts';

const NOTHING = { env: new Set<string>(), labels: new Set<string>() };
const IP = '172.17.0.2';
const OTHER_IP = '172.17.0.3';

/** A directory over an engine that the test commands. */
function setUp(t: TestContext) {
  const engine = new ScriptedEngine();
  const clock = new ManualClock();
  /** `known a`, `started a`, `ended a`. */
  const told: string[] = [];
  const states: { state: DirectoryState; count: number; error: string | undefined }[] = [];
  const directory = new ContainerDirectory({
    engine,
    describe: async (found) => describeContainer(found, { env: new Set(['IAM_ROLE']), labels: new Set() }),
    clock,
    random: () => 0.5,
    onKnown: ({ id }) => told.push(`known ${id}`),
    onStarted: ({ id }) => told.push(`started ${id}`),
    onEnded: ({ id }) => told.push(`ended ${id}`),
    onState: (state, { count, error }) => states.push({ state, count, error: error?.message }),
  });
  t.after(() => directory.close());
  /** Whom an address belongs to: an id, or what the request is told. */
  const whoHas = async (address: string): Promise<string | undefined> => {
    const asked = watch((async () => directory.resolve(address))());
    await settled();
    // Somebody might be told to have it.
    if (asked.state === 'pending') await clock.advance(400);
    if (asked.state !== 'rejected') return asked.value?.id;
    return asked.error instanceof DirectoryUnavailable ? 'unavailable' : String(asked.error);
  };
  /** Whom it belongs to at once, without a question to the engine. */
  const known = (address: string): string | undefined => {
    const found = directory.resolve(address);
    if (!(found instanceof Promise)) return found?.id;
    found.catch(() => {});
    return 'to be found out';
  };
  const running = (): string[] => [...directory.started()].map(({ container }) => container.id);
  return { engine, clock, directory, told, states, whoHas, known, running };
}

async function synced(t: TestContext, prepare: (engine: ScriptedEngine) => void = () => {}) {
  const parts = setUp(t);
  prepare(parts.engine);
  parts.directory.start();
  await settled();
  assert.equal(parts.directory.state, 'synced');
  return parts;
}

/** `docker run` as the engine does and tells it, in one go. */
function run(engine: ScriptedEngine, id: string, address: string, network = BRIDGE): void {
  engine.exists(id);
  engine.tell(created(id));
  engine.joins(id, network, address);
  engine.tell(connected(id, network));
  engine.runs(id);
  engine.tell(started(id));
}

/** The end of a container, as the engine does and tells it. */
function end(engine: ScriptedEngine, id: string, network = BRIDGE): void {
  engine.stops(id);
  engine.tell(died(id), disconnected(id, network));
}

// The first reading

test('containers that run already are known after the first reading', async (t) => {
  const { directory, known, states, told } = await synced(t, (engine) => {
    engine.runs('a', { [BRIDGE]: [IP, 'fd00::2'] }, { env: ['IAM_ROLE=app', 'OTHER=x'] });
    engine.runs('b', { [BRIDGE]: [OTHER_IP], 'other-network': ['172.18.0.2'] });
  });
  assert.deepEqual([IP, 'fd00::2', OTHER_IP, '172.18.0.2'].map(known), ['a', 'a', 'b', 'b']);
  assert.deepEqual([...(directory.resolve(IP) as Container).env], [['IAM_ROLE', 'app']]);
  assert.deepEqual(states, [{ state: 'synced', count: 2, error: undefined }]);
  assert.deepEqual(told.toSorted(), ['known a', 'known b', 'started a', 'started b']);
});

test('a first reading inspects no more than eight containers at once, and each of them once', async (t) => {
  const { engine, directory } = setUp(t);
  const ids = Array.from({ length: 30 }, (_, index) => `c${index}`);
  for (const id of ids) engine.runs(id, {});
  const holds = ids.map((id) => engine.holds(`inspect ${id}`));
  directory.start();
  await settled();
  const underWay = (): number => holds.filter(({ waiting }) => waiting > 0).length;
  assert.equal(underWay(), 8);
  for (const hold of holds) {
    hold.release();
    await settled();
    assert.ok(underWay() <= 8);
  }
  assert.equal(directory.state, 'synced');
  assert.ok(ids.every((id) => engine.count(`inspect ${id}`) === 1));
});

test('what happens during the first reading is not missed', async (t) => {
  const { engine, directory, whoHas, running } = setUp(t);
  engine.runs('a', { [BRIDGE]: [IP] });
  const list = engine.holds('list');
  directory.start();
  await settled();
  // The list that is on its way still has a.
  end(engine, 'a');
  run(engine, 'b', IP);
  await settled();
  list.release();
  await settled();
  assert.equal(directory.state, 'synced');
  assert.equal(await whoHas(IP), 'b');
  assert.deepEqual(running(), ['b']);
});

test('a container that goes while it is read does not keep the others from being known', async (t) => {
  const { engine, directory, known } = setUp(t);
  engine.runs('a', { [BRIDGE]: [IP] });
  engine.runs('b', { [BRIDGE]: [OTHER_IP] });
  const list = engine.holds('list');
  directory.start();
  await settled();
  engine.removes('a'); // Without an event, so that its inspect is what tells.
  list.release();
  await settled();
  assert.equal(directory.state, 'synced');
  assert.equal(known(OTHER_IP), 'b');
});

test('one container that cannot be inspected does not keep the others from being known', async (t) => {
  const { engine, directory, whoHas } = setUp(t);
  engine.runs('stuck', { [BRIDGE]: [IP] });
  engine.runs('b', { [BRIDGE]: [OTHER_IP] });
  engine.fails('inspect stuck');
  directory.start();
  await settled();
  assert.equal(await whoHas(OTHER_IP), 'b');
  assert.equal(await whoHas(IP), 'unavailable', 'nor is the stuck one taken for none');
});

// A container's life

test("a container's role is read when it is created, its address when it is connected, before it starts", async (t) => {
  const { engine, known, told } = await synced(t);
  engine.exists('a');
  engine.tell(created('a'));
  await settled();
  assert.deepEqual(told, ['known a']);
  // From here on its inspect waits for the start.
  const inspect = engine.holds('inspect a');
  engine.joins('a', BRIDGE, IP);
  engine.tell(connected('a', BRIDGE));
  await settled();
  assert.equal(inspect.waiting, 0);
  assert.equal(known(IP), 'a');
  assert.deepEqual(told, ['known a', 'started a']);
  engine.runs('a');
  engine.tell(started('a'));
  await settled();
  assert.deepEqual(told, ['known a', 'started a'], 'it has started once');
  assert.deepEqual(
    engine.calls.filter((call) => call === 'inspect a'),
    ['inspect a'],
  );
});

test('a request that comes while the address is looked up waits for it and asks nothing more', async (t) => {
  const { engine, directory } = await synced(t);
  engine.exists('a');
  engine.tell(created('a'));
  const network = engine.holds(`network ${BRIDGE}`);
  engine.joins('a', BRIDGE, IP);
  engine.tell(connected('a', BRIDGE));
  await settled();
  const answer = watch(Promise.resolve(directory.resolve(IP)));
  await settled();
  assert.equal(answer.state, 'pending');
  network.release();
  await settled();
  assert.equal(answer.value?.id, 'a');
  assert.equal(engine.count('list'), 1, 'the one of the first reading');
});

test('a request that comes while the container is inspected waits for that', async (t) => {
  const { engine, directory, known } = await synced(t);
  engine.exists('a');
  const inspect = engine.holds('inspect a');
  engine.tell(created('a'));
  engine.joins('a', BRIDGE, IP);
  engine.tell(connected('a', BRIDGE));
  await settled();
  assert.equal(known(IP), 'to be found out');
  const answer = watch(Promise.resolve(directory.resolve(IP)));
  inspect.release();
  await settled();
  assert.equal(answer.value?.id, 'a');
});

test('containers that are connected together share a look-up, and none is overlooked', async (t) => {
  const { engine, known } = await synced(t);
  const network = engine.holds(`network ${BRIDGE}`);
  for (let index = 1; index <= 20; index += 1) {
    engine.exists(`c${index}`);
    engine.joins(`c${index}`, BRIDGE, `10.0.0.${index}`);
    engine.tell(created(`c${index}`), connected(`c${index}`, BRIDGE));
  }
  await settled();
  assert.equal(network.waiting, 1);
  network.release();
  await settled();
  assert.equal(engine.count(`network ${BRIDGE}`), 2, 'one for the first, one for all who came during it');
  for (let index = 1; index <= 20; index += 1) assert.equal(known(`10.0.0.${index}`), `c${index}`);
});

test('what no earlier event has told is read at the start', async (t) => {
  const { engine, known, running } = await synced(t);
  engine.runs('a', { [BRIDGE]: [IP] });
  engine.tell(started('a'));
  await settled();
  assert.equal(known(IP), 'a');
  assert.deepEqual(running(), ['a']);
});

test('a look-up of addresses that fails is made good at the start', async (t) => {
  const { engine, known } = await synced(t);
  engine.fails(`network ${BRIDGE}`);
  run(engine, 'a', IP);
  await settled();
  assert.equal(known(IP), 'a');
});

test('a container may have any number of networks, and join one while it runs', async (t) => {
  const { engine, known } = await synced(t);
  run(engine, 'a', IP);
  await settled();
  engine.joins('a', 'second', '10.1.0.2', 'fd00::1:2');
  engine.tell(connected('a', 'second'));
  await settled();
  assert.deepEqual([IP, '10.1.0.2', 'fd00::1:2'].map(known), ['a', 'a', 'a']);
  engine.leaves('a', 'second');
  engine.tell(disconnected('a', 'second'));
  assert.deepEqual([IP, '10.1.0.2', 'fd00::1:2'].map(known), ['a', 'to be found out', 'to be found out']);
});

for (const driver of ['host', 'null']) {
  test(`on the network "${driver}" there is no address to look up`, async (t) => {
    const { engine } = await synced(t);
    engine.exists('a');
    engine.tell(created('a'), connected('a', `${driver}-id`, driver));
    await settled();
    assert.equal(engine.count(`network ${driver}-id`), 0);
  });
}

test('a container without an address of its own has started all the same', async (t) => {
  const { engine, told } = await synced(t);
  engine.runs('a', {}, { networkMode: 'container:b' });
  engine.tell(created('a'), started('a'));
  await settled();
  assert.deepEqual(told, ['known a', 'started a']);
});

test('a rename changes the name, and nothing else', async (t) => {
  const { engine, directory } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
  const before = directory.resolve(IP);
  engine.tell(renamed('a', 'new-name'), renamed('unknown', 'x'), renamed('a', ''));
  assert.equal(directory.resolve(IP), before);
  assert.equal((before as Container).name, 'new-name');
});

// Its end

for (const [what, event] of [
  ['dies', died('a')],
  ['is disconnected', disconnected('a', BRIDGE)],
  ['is destroyed', destroyed('a')],
] as const) {
  test(`the address of a container that ${what} is taken away at once`, async (t) => {
    const { engine, directory, known } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
    assert.equal(known(IP), 'a');
    engine.stops('a');
    engine.tell(event);
    assert.equal(directory.peek(IP), undefined);
    assert.equal(known(IP), 'to be found out');
  });
}

test('of several networks only the one that was disconnected is lost', async (t) => {
  const { engine, known } = await synced(t, (engine) =>
    engine.runs('a', { [BRIDGE]: [IP], second: ['10.1.0.2'] }),
  );
  engine.leaves('a', BRIDGE);
  engine.tell(disconnected('a', BRIDGE));
  assert.deepEqual([known(IP), known('10.1.0.2')], ['to be found out', 'a']);
});

test('its end is told once, however many events tell of it', async (t) => {
  const { engine, told, running } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
  end(engine, 'a');
  engine.removes('a');
  engine.tell(destroyed('a'), destroyed('a'), died('a'));
  await settled();
  assert.deepEqual(told, ['known a', 'started a', 'ended a']);
  assert.deepEqual(running(), []);
});

test('an address that is used again belongs to its new container alone', async (t) => {
  const { engine, directory, known } = await synced(t);
  for (const id of ['a', 'b', 'c']) {
    run(engine, id, IP);
    await settled();
    assert.equal(known(IP), id);
    end(engine, id);
    assert.equal(directory.peek(IP), undefined);
  }
});

test('an end that is told late does not take the address from its new container', async (t) => {
  const { engine, known } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
  engine.stops('a');
  run(engine, 'b', IP);
  await settled();
  assert.equal(known(IP), 'b');
  engine.tell(died('a'), disconnected('a', BRIDGE), destroyed('a'));
  assert.equal(known(IP), 'b');
});

test('an address that containers on different networks have is nobody\'s, until one has gone', async (t) => {
  const { engine, directory, known } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
  engine.exists('b');
  engine.joins('b', 'plugin', IP);
  engine.tell(created('b'), connected('b', 'plugin', 'a-plugin'), started('b'));
  await settled();
  await assert.rejects(async () => directory.resolve(IP), DirectoryUnavailable);
  engine.stops('b');
  engine.tell(died('b'));
  assert.equal(known(IP), 'a');
});

test('nor is it anybody\'s when everything is read anew', async (t) => {
  const { directory } = await synced(t, (engine) => {
    engine.runs('a', { [BRIDGE]: [IP] });
    engine.runs('b', { plugin: [IP] });
  });
  await assert.rejects(async () => directory.resolve(IP), DirectoryUnavailable);
});

for (const driver of ['overlay', 'macvlan', 'ipvlan']) {
  test(`an address on a network of the driver ${driver} takes it from nobody on a bridge`, async (t) => {
    const { engine, known } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
    engine.exists('b');
    engine.joins('b', 'elsewhere', IP);
    engine.tell(created('b'), connected('b', 'elsewhere', driver), started('b'));
    engine.leaves('b', 'elsewhere');
    await settled();
    assert.equal(known(IP), 'a');
  });
}

test('containers that are started and ended in one go leave nothing behind', async (t) => {
  const { engine, directory, told, running } = await synced(t);
  engine.exists('a');
  engine.joins('a', BRIDGE, IP);
  engine.tell(
    created('a'),
    connected('a', BRIDGE),
    started('a'),
    died('a'),
    disconnected('a', BRIDGE),
    destroyed('a'),
  );
  engine.removes('a');
  await settled();
  assert.equal(directory.peek(IP), undefined);
  assert.deepEqual(running(), []);
  const count = (event: string): number => told.filter((one) => one === event).length;
  assert.equal(count('started a'), count('ended a'));
});

test('a container whose start fails after it was connected has ended', async (t) => {
  const { engine, told, running } = await synced(t);
  engine.exists('a');
  engine.tell(created('a'));
  engine.joins('a', BRIDGE, IP);
  engine.tell(connected('a', BRIDGE));
  await settled();
  engine.leaves('a', BRIDGE);
  engine.tell(disconnected('a', BRIDGE));
  await settled();
  assert.deepEqual(told, ['known a', 'started a', 'ended a']);
  assert.deepEqual(running(), []);
});

// Starting again

test('a container that starts again is known still, under whatever address it gets', async (t) => {
  const { engine, known, told } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
  end(engine, 'a');
  await settled();
  engine.joins('a', BRIDGE, OTHER_IP);
  engine.tell(connected('a', BRIDGE));
  engine.runs('a');
  engine.tell(started('a'));
  await settled();
  assert.deepEqual([known(OTHER_IP), known(IP)], ['a', 'to be found out']);
  assert.deepEqual(told, ['known a', 'started a', 'ended a', 'started a']);
  assert.equal(engine.count('inspect a'), 1);
});

test('a thousand ended containers are remembered, the ones that ended first are forgotten', async (t) => {
  const { engine } = await synced(t, (engine) => {
    for (let index = 0; index <= 1000; index += 1) engine.runs(`c${index}`, {});
  });
  for (let index = 0; index <= 1000; index += 1) engine.tell(died(`c${index}`));
  engine.tell(started('c1'), started('c0'));
  await settled();
  assert.deepEqual([engine.count('inspect c0'), engine.count('inspect c1')], [2, 2]);
  engine.tell(connected('c1000', 'x'), connected('c2', 'x'));
  await settled();
  assert.deepEqual(
    [engine.count('inspect c1000'), engine.count('inspect c2')],
    [1, 1],
    'these two were remembered',
  );
});

// Answers that are older than the events

test('an address is not believed of a container that ended while the answer was on its way', async (t) => {
  for (const events of [[died('a')], [disconnected('a', BRIDGE)], [destroyed('a')]]) {
    const { engine, directory, running } = await synced(t);
    engine.exists('a');
    engine.tell(created('a'));
    engine.joins('a', BRIDGE, IP);
    const network = engine.holds(`network ${BRIDGE}`);
    engine.tell(connected('a', BRIDGE));
    await settled();
    assert.equal(network.waiting, 1);
    engine.stops('a');
    engine.tell(...events);
    network.release();
    await settled();
    assert.equal(directory.peek(IP), undefined, events[0]?.kind);
    assert.deepEqual(running(), []);
  }
});

test('an old address is not believed of a container that started again while the answer was on its way', async (t) => {
  const { engine, directory, known } = await synced(t, (engine) => engine.exists('a'));
  engine.joins('a', BRIDGE, IP);
  const network = engine.holds(`network ${BRIDGE}`);
  engine.tell(connected('a', BRIDGE));
  await settled();
  end(engine, 'a');
  engine.joins('a', BRIDGE, OTHER_IP);
  engine.tell(connected('a', BRIDGE));
  engine.runs('a');
  engine.tell(started('a'));
  await settled();
  network.release();
  await settled();
  assert.equal(directory.peek(IP), undefined);
  assert.equal(known(OTHER_IP), 'a');
});

test('an inspect that shows the address of a container that ended meanwhile is not believed', async (t) => {
  const { engine, directory, running } = await synced(t);
  engine.runs('a', { [BRIDGE]: [IP] });
  const inspect = engine.holds('inspect a');
  engine.tell(started('a'));
  await settled();
  end(engine, 'a');
  inspect.release();
  await settled();
  assert.equal(directory.peek(IP), undefined);
  assert.deepEqual(running(), []);
});

test('a rescan that began before a container ended does not bring it back', async (t) => {
  const { engine, clock, directory, whoHas, running } = await synced(t, (engine) =>
    engine.runs('a', { [BRIDGE]: [IP] }),
  );
  await clock.advance(1000);
  const list = engine.holds('list');
  const nobody = watch(Promise.resolve(directory.resolve('10.9.9.9')));
  await settled();
  assert.equal(list.waiting, 1);
  end(engine, 'a');
  run(engine, 'b', IP);
  await settled();
  list.release();
  await clock.advance(400);
  assert.equal(nobody.state, 'fulfilled');
  assert.equal(await whoHas(IP), 'b');
  assert.deepEqual(running(), ['b']);
});

test('a rescan that began before a network was disconnected does not bring its address back', async (t) => {
  const { engine, clock, directory, known } = await synced(t, (engine) => {
    engine.runs('a', { [BRIDGE]: [IP], second: ['10.1.0.2'] });
  });
  await clock.advance(1000);
  const list = engine.holds('list');
  void directory.resolve('10.9.9.9');
  await settled();
  engine.leaves('a', BRIDGE);
  engine.tell(disconnected('a', BRIDGE));
  list.release();
  await settled();
  assert.equal(directory.peek(IP), undefined);
  assert.equal(known('10.1.0.2'), 'a');
});

test('of a container that was destroyed while it was inspected nothing is kept', async (t) => {
  const { engine, told } = await synced(t);
  engine.exists('a');
  const inspect = engine.holds('inspect a');
  engine.tell(created('a'));
  await settled();
  engine.removes('a');
  engine.tell(destroyed('a'));
  inspect.release();
  await settled();
  assert.deepEqual(told, []);
});

test('an answer from before a re-sync does not start what the re-sync has ended', async (t) => {
  const { engine, clock, directory, told, running } = await synced(t, (engine) =>
    engine.runs('a', { [BRIDGE]: [IP] }),
  );
  await clock.advance(1000);
  const list = engine.holds('list');
  directory.peek(IP);
  void Promise.resolve(directory.resolve('10.9.9.9')).catch(() => {});
  await settled();
  assert.equal(list.waiting, 1);
  const late = list;
  engine.holds('list').release(); // What is asked from now on is answered at once.
  engine.removes('a');
  engine.breaksStream();
  await settled();
  assert.equal(directory.state, 'synced');
  assert.deepEqual(told, ['known a', 'started a', 'ended a']);
  late.release();
  await settled();
  assert.equal(directory.peek(IP), undefined);
  assert.deepEqual(running(), []);
  assert.deepEqual(told, ['known a', 'started a', 'ended a']);
});

// Addresses that nobody knows

test('an address that nobody knows makes the engine list its containers once, then it is nobody', async (t) => {
  const { engine, clock, whoHas } = await synced(t);
  await clock.advance(1000);
  assert.equal(await whoHas('10.9.9.9'), undefined);
  assert.equal(engine.count('list'), 2);
});

test('a container that no event has told of is found by that', async (t) => {
  const { engine, clock, whoHas, told } = await synced(t);
  await clock.advance(1000);
  engine.runs('a', { [BRIDGE]: [IP] });
  assert.equal(await whoHas(IP), 'a');
  assert.deepEqual(told, ['known a', 'started a']);
});

test('who asks from an address before the engine tells of it waits for that, 0.4 s at the most', async (t) => {
  const { engine, clock, directory } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [OTHER_IP] }));
  await clock.advance(1000);
  const early = watch(Promise.resolve(directory.resolve(IP)));
  const tooEarly = watch(Promise.resolve(directory.resolve('10.9.9.9')));
  await clock.advance(399);
  assert.deepEqual([early.state, tooEarly.state], ['pending', 'pending']);
  engine.joins('a', 'second', IP);
  engine.tell(connected('a', 'second'));
  await settled();
  assert.equal(early.value?.id, 'a');
  await clock.advance(1);
  assert.deepEqual([tooEarly.state, tooEarly.value], ['fulfilled', undefined]);
  assert.equal(engine.count('list'), 2);
});

test('who was nobody is told so again without that wait, until somebody has had the address', async (t) => {
  const { engine, clock, directory, known } = await synced(t);
  await clock.advance(1000);
  assert.equal((await asked(directory, clock, 400)).state, 'fulfilled');
  await clock.advance(1000);
  assert.equal((await asked(directory, clock, 0)).state, 'fulfilled');
  run(engine, 'a', IP);
  await settled();
  assert.equal(known(IP), 'a');
  end(engine, 'a');
  await clock.advance(1000);
  assert.equal((await asked(directory, clock, 399)).state, 'pending');
});

/** The state of a question for IP after some milliseconds. */
async function asked(directory: ContainerDirectory, clock: ManualClock, milliseconds: number) {
  const answer = watch(Promise.resolve(directory.resolve(IP)));
  await clock.advance(milliseconds);
  return answer;
}

test('a thousand requests from unknown addresses share a rescan, and there are at most two a second', async (t) => {
  const { engine, clock, directory } = await synced(t);
  await clock.advance(10_000);
  const answers = Array.from({ length: 1000 }, (_, index) => {
    return watch(Promise.resolve(directory.resolve(`10.9.${index >> 8}.${index & 255}`)));
  });
  await settled();
  assert.equal(engine.count('list'), 2);
  await clock.advance(400);
  assert.ok(answers.every(({ state, value }) => state === 'fulfilled' && value === undefined));
  for (let request = 0; request < 100; request += 1) {
    void directory.resolve('10.9.9.9');
    await clock.advance(50);
  }
  assert.ok(engine.count('list') <= 2 + 11, `${engine.count('list')} lists in 5 s`);
  assert.ok(engine.count('list') >= 2 + 9, 'and yet nobody is forgotten');
});

test('who asks during a rescan is answered by the next one, which began later', async (t) => {
  const { engine, clock, directory } = await synced(t);
  await clock.advance(1000);
  const list = engine.holds('list');
  const first = watch(Promise.resolve(directory.resolve(IP)));
  await settled();
  engine.runs('a', { [BRIDGE]: [IP] }); // Too late for the list that is under way.
  const second = watch(Promise.resolve(directory.resolve(IP)));
  list.release();
  await clock.advance(400);
  assert.deepEqual([first.state, first.value], ['fulfilled', undefined]);
  assert.equal(second.state, 'pending');
  await clock.advance(100);
  assert.equal(second.value?.id, 'a');
});

test('the engine rests between rescans for as long as one took', async (t) => {
  const { engine, clock, directory } = await synced(t);
  await clock.advance(1000);
  const list = engine.holds('list');
  void Promise.resolve(directory.resolve(IP)).catch(() => {});
  await clock.advance(900);
  list.release();
  await settled();
  void Promise.resolve(directory.resolve(OTHER_IP)).catch(() => {});
  const lists = engine.count('list');
  await clock.advance(899);
  assert.equal(engine.count('list'), lists);
  await clock.advance(1);
  assert.equal(engine.count('list'), lists + 1);
});

test('when the rescan fails it cannot be told who asks, which is not the same as nobody', async (t) => {
  const { engine, clock, whoHas } = await synced(t);
  await clock.advance(1000);
  engine.fails('list');
  assert.equal(await whoHas('10.9.9.9'), 'unavailable');
  engine.mends('list');
  await clock.advance(1000);
  assert.equal(await whoHas('10.9.9.9'), undefined);
});

test('nobody waits longer than five seconds for an engine that hangs', async (t) => {
  const { engine, clock, directory } = await synced(t);
  await clock.advance(1000);
  engine.holds('list');
  const answer = watch(Promise.resolve(directory.resolve(IP)));
  await clock.advance(4_999);
  assert.equal(answer.state, 'pending');
  await clock.advance(1);
  assert.ok(answer.error instanceof DirectoryUnavailable);
});

test('while an engine hangs, what is known is answered at once', async (t) => {
  const { engine, clock, directory, known } = await synced(t, (engine) =>
    engine.runs('a', { [BRIDGE]: [IP] }),
  );
  await clock.advance(1000);
  engine.holds('list');
  void Promise.resolve(directory.resolve(OTHER_IP)).catch(() => {});
  await settled();
  assert.equal(known(IP), 'a');
});

// Swarm

test("a Swarm container's address is the one on the gateway bridge, which no inspect shows", async (t) => {
  const { engine, known, running } = await synced(t, (engine) => {
    engine.runs('before', { [OVERLAY]: ['10.0.1.2'], [GATEWAY]: ['172.19.0.2'] });
  });
  assert.equal(known('172.19.0.2'), 'before');
  engine.exists('a');
  engine.tell(created('a'));
  engine.joins('a', OVERLAY, '10.0.1.3');
  engine.tell(connected('a', OVERLAY, 'overlay'));
  engine.joins('a', GATEWAY, '172.19.0.3');
  engine.runs('a');
  engine.tell(started('a'));
  await settled();
  assert.equal(known('172.19.0.3'), 'a');
  assert.deepEqual(running(), ['before', 'a']);
});

test('it is taken away with the overlay network, or with the container', async (t) => {
  for (const event of [disconnected('a', OVERLAY, 'overlay'), died('a')]) {
    const { engine, directory } = await synced(t, (engine) => {
      engine.runs('a', { [OVERLAY]: ['10.0.1.2'], [GATEWAY]: ['172.19.0.2'] });
    });
    assert.equal(directory.peek('172.19.0.2')?.id, 'a');
    engine.stops('a');
    engine.tell(event);
    assert.equal(directory.peek('172.19.0.2'), undefined);
    await settled();
    assert.equal(directory.peek('172.19.0.2'), undefined);
  }
});

test('a container that leaves one of its overlay networks keeps its address on the gateway bridge', async (t) => {
  const { engine, known } = await synced(t, (engine) => {
    engine.runs('a', { [OVERLAY]: ['10.0.1.2'], second: ['10.0.2.2'], [GATEWAY]: ['172.19.0.2'] });
  });
  engine.leaves('a', 'second');
  engine.tell(disconnected('a', 'second', 'overlay'));
  await settled();
  assert.equal(known('172.19.0.2'), 'a');
});

test('a dead container is not brought back by the disconnect from its overlay network', async (t) => {
  const { engine, directory, running } = await synced(t, (engine) => {
    engine.runs('a', { [OVERLAY]: ['10.0.1.2'], [GATEWAY]: ['172.19.0.2'] });
  });
  // The engine still shows the endpoint on the gateway bridge.
  engine.tell(died('a'), disconnected('a', OVERLAY, 'overlay'));
  await settled();
  assert.equal(directory.peek('172.19.0.2'), undefined);
  assert.deepEqual(running(), []);
});

test('a rescan takes no address away that an event has told of meanwhile', async (t) => {
  const { engine, clock, directory } = await synced(t);
  await clock.advance(1000);
  const [list, gateway] = [engine.holds('list'), engine.holds(`network ${GATEWAY}`)];
  engine.runs('a', { [OVERLAY]: ['10.0.1.2'] }); // On the list, but not on the gateway bridge yet.
  void directory.resolve('10.9.9.9');
  await settled();
  assert.equal(gateway.waiting, 1);
  engine.holds(`network ${GATEWAY}`).release();
  engine.joins('a', GATEWAY, '172.19.0.2');
  engine.tell(created('a'), connected('a', OVERLAY, 'overlay'), started('a'));
  await settled();
  assert.equal(directory.peek('172.19.0.2')?.id, 'a');
  gateway.release();
  list.release();
  await settled();
  assert.equal(directory.peek('172.19.0.2')?.id, 'a');
});

// Without the stream of events

test('before Docker has answered nobody can be told apart', async (t) => {
  const { engine, clock, directory, states, whoHas } = setUp(t);
  engine.failure = new EngineUnreachable('no socket');
  directory.start();
  await settled();
  assert.equal(directory.state, 'starting');
  assert.equal(await whoHas(IP), 'unavailable');
  assert.deepEqual(states, [{ state: 'starting', count: 0, error: 'no socket' }]);
  engine.failure = undefined;
  engine.runs('a', { [BRIDGE]: [IP] });
  await clock.advance(10_000);
  assert.equal(directory.state, 'synced');
  assert.equal(await whoHas(IP), 'a');
});

test('the same trouble is told once', async (t) => {
  const { engine, clock, directory, states } = setUp(t);
  engine.failure = new EngineUnreachable('no socket');
  directory.start();
  await clock.advance(60_000);
  engine.failure = new EngineFailure('permission denied');
  await clock.advance(60_000);
  assert.deepEqual(
    states.map(({ error }) => error),
    ['no socket', 'permission denied'],
  );
});

test('an engine that is away is asked again soon, then less often, but at least every second', async (t) => {
  const { engine, clock, directory } = setUp(t);
  engine.failure = new EngineUnreachable('no socket');
  directory.start();
  await clock.advance(500);
  assert.ok(engine.count('events') >= 2);
  await clock.advance(60_000);
  const before = engine.count('events');
  assert.ok(before < 100, `${before} attempts in a minute`);
  await clock.advance(1_000);
  assert.ok(engine.count('events') > before);
});

test('when the stream of events breaks off it is opened again, and everything is read anew', async (t) => {
  const { engine, directory, states, known, told } = await synced(t, (engine) => {
    engine.runs('a', { [BRIDGE]: [IP] });
    engine.runs('b', { [BRIDGE]: [OTHER_IP] });
  });
  engine.stops('a');
  engine.joins('b', BRIDGE, '172.17.0.9');
  engine.runs('c', { [BRIDGE]: [IP] });
  engine.breaksStream();
  assert.equal(engine.followers, 0);
  await settled();
  assert.equal(engine.followers, 1);
  assert.deepEqual([IP, '172.17.0.9', OTHER_IP].map(known), ['c', 'b', 'to be found out']);
  assert.deepEqual(told.slice(-3).toSorted(), ['ended a', 'known c', 'started c']);
  assert.deepEqual(
    states.map(({ state }) => state),
    ['synced', 'disconnected', 'synced'],
  );
  assert.equal(engine.count('inspect b'), 1, 'who a container is, is known for good');
  directory.close();
});

test('while the stream is broken and the engine answers, nothing old is used until everything is read', async (t) => {
  const { engine, directory, known } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
  const list = engine.holds('list');
  engine.stops('a');
  engine.runs('b', { [BRIDGE]: [IP] });
  engine.breaksStream();
  await settled();
  assert.equal(directory.state, 'disconnected');
  const answer = watch(Promise.resolve(directory.resolve(IP)));
  await settled();
  assert.equal(answer.state, 'pending');
  // The list that is held was made after the change.
  list.release();
  await settled();
  assert.equal(answer.value?.id, 'b');
  assert.equal(known(IP), 'b');
});

test('while the engine cannot be reached at all, what is known holds: it can start nothing', async (t) => {
  const { engine, clock, directory, whoHas } = await synced(t, (engine) =>
    engine.runs('a', { [BRIDGE]: [IP] }),
  );
  engine.failure = new EngineUnreachable('connection refused');
  engine.breaksStream();
  await settled();
  assert.equal(directory.state, 'disconnected');
  assert.equal(await whoHas(IP), 'a');
  assert.equal(await whoHas(OTHER_IP), 'unavailable', 'what is not known cannot be told');
  await clock.advance(3_600_000);
  assert.equal(await whoHas(IP), 'a');
});

test('while the engine is there but fails, nothing old is used', async (t) => {
  const { engine, clock, whoHas } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
  engine.failure = new EngineFailure('500');
  engine.breaksStream();
  await settled();
  assert.equal(await whoHas(IP), 'unavailable');
  await clock.advance(3_600_000);
  assert.equal(await whoHas(IP), 'unavailable');
  engine.failure = undefined;
  await clock.advance(5_000);
  assert.equal(await whoHas(IP), 'a');
});

test('a request notices at once that the engine is back', async (t) => {
  const { engine, clock, directory, whoHas } = await synced(t, (engine) =>
    engine.runs('a', { [BRIDGE]: [IP] }),
  );
  engine.failure = new EngineUnreachable('connection refused');
  engine.breaksStream();
  await clock.advance(60_000);
  assert.equal(await whoHas(IP), 'a');
  engine.failure = undefined;
  engine.stops('a');
  engine.runs('b', { [BRIDGE]: [IP] });
  await clock.advance(100);
  assert.equal(await whoHas(IP), 'b');
  assert.equal(directory.state, 'synced');
});

test('a burst of requests without the engine makes one attempt each tenth of a second', async (t) => {
  const { engine, clock, directory } = await synced(t);
  engine.failure = new EngineUnreachable('connection refused');
  engine.breaksStream();
  await clock.advance(60_000);
  const before = engine.count('events');
  for (let request = 0; request < 100; request += 1) void Promise.resolve(directory.resolve(IP)).catch(() => {});
  await settled();
  assert.ok(engine.count('events') <= before + 1);
});

test('once the engine was back, nothing old is used even if it goes away again before everything is read', async (t) => {
  const { engine, clock, whoHas } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
  engine.failure = new EngineUnreachable('connection refused');
  engine.breaksStream();
  await clock.advance(1000);
  assert.equal(await whoHas(IP), 'a');
  // It is back for long enough to open the stream, and to start b with the address of a.
  engine.stops('a');
  engine.runs('b', { [BRIDGE]: [IP] });
  engine.failure = undefined;
  engine.fails('list');
  await clock.advance(10_000);
  assert.equal(await whoHas(IP), 'unavailable');
  engine.failure = new EngineUnreachable('connection refused');
  await clock.advance(10_000);
  assert.equal(await whoHas(IP), 'unavailable');
});

test('what the stream told before it broke during a re-sync is not forgotten', async (t) => {
  const { engine, clock, whoHas } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
  const list = engine.holds('list');
  engine.breaksStream();
  await settled();
  assert.equal(list.waiting, 1);
  end(engine, 'a');
  run(engine, 'b', IP);
  engine.breaksStream();
  engine.failure = new EngineUnreachable('connection refused');
  list.release();
  await clock.advance(1000);
  assert.notEqual(await whoHas(IP), 'a');
});

test('a look-up that is under way when the stream breaks off does not answer from the past', async (t) => {
  const { engine, clock, directory } = await synced(t, (engine) => engine.runs('b', {}));
  await clock.advance(1000);
  engine.joins('b', BRIDGE, OTHER_IP); // Told by no event.
  const list = engine.holds('list');
  const answer = watch(Promise.resolve(directory.resolve(OTHER_IP)));
  await settled();
  assert.equal(list.waiting, 1);
  engine.stops('b');
  engine.runs('c', { [BRIDGE]: [OTHER_IP] });
  engine.failure = new EngineFailure('500');
  engine.breaksStream();
  await settled();
  list.release();
  await settled();
  assert.ok(answer.error instanceof DirectoryUnavailable, `${answer.state} ${answer.value?.id}`);
});

test('an address that was looked up before a re-sync does not push out the one of the re-sync', async (t) => {
  const { engine, directory, known } = await synced(t, (engine) => engine.exists('a'));
  engine.joins('a', BRIDGE, IP);
  const network = engine.holds(`network ${BRIDGE}`);
  engine.tell(connected('a', BRIDGE));
  await settled();
  engine.stops('a');
  engine.runs('b', { [BRIDGE]: [IP] });
  engine.breaksStream();
  await settled();
  assert.equal(known(IP), 'b');
  network.release();
  await settled();
  assert.equal(known(IP), 'b');
  assert.equal(directory.peek(IP)?.id, 'b');
});

test('what is gone at a re-sync has ended, and what runs still has not', async (t) => {
  const { engine, told, running } = await synced(t, (engine) => {
    for (const id of ['a', 'b', 'c']) engine.runs(id, { [BRIDGE]: [`10.0.0.${id.charCodeAt(0)}`] });
  });
  engine.removes('a');
  engine.stops('b');
  engine.breaksStream();
  await settled();
  assert.deepEqual(told.filter((event) => event.startsWith('ended')).toSorted(), ['ended a', 'ended b']);
  assert.deepEqual(running(), ['c']);
});

test('a container that was renamed while nobody followed the events has its new name after the re-sync', async (t) => {
  const { engine, directory } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
  engine.runs('a', {}, { name: 'new-name' });
  engine.breaksStream();
  await settled();
  assert.equal(directory.peek(IP)?.name, 'new-name');
});

test('a stream that breaks during the first reading is not taken for a success', async (t) => {
  const { engine, clock, directory } = setUp(t);
  const list = engine.holds('list');
  directory.start();
  await settled();
  engine.breaksStream();
  list.release();
  await settled();
  assert.equal(directory.state, 'starting');
  await clock.advance(1000);
  assert.equal(directory.state, 'synced');
  assert.equal(engine.followers, 1);
});

test('a reading that fails closes the stream that was opened for it', async (t) => {
  const { engine, clock, directory } = setUp(t);
  engine.fails('list');
  directory.start();
  await clock.advance(60_000);
  assert.equal(engine.followers, 0);
  engine.mends('list');
  await clock.advance(5_000);
  assert.equal(engine.followers, 1);
});

test('after the end nothing is followed any more', async (t) => {
  const { engine, clock, directory } = await synced(t);
  directory.close();
  await clock.advance(60_000);
  assert.equal(engine.followers, 0);
  assert.equal(engine.count('events'), 1);
});

// Podman, which needs no daemon to start containers, and whose events come late

async function isPodman(t: TestContext) {
  return synced(t, (engine) => {
    engine.isPodman = true;
    engine.runs('a', { [BRIDGE]: [IP] });
  });
}

test('Podman is asked before each answer whether an address is still where it was', async (t) => {
  const { engine, whoHas } = await isPodman(t);
  assert.equal(await whoHas(IP), 'a');
  // No event tells of it yet.
  engine.stops('a');
  engine.runs('b', { [BRIDGE]: [IP] });
  assert.equal(await whoHas(IP), 'b');
});

test("a network that is called label has no container's claims, but its addresses", async (t) => {
  const { engine, whoHas } = await synced(t, (all) => {
    all.isPodman = true;
    all.runs('a', { label: [IP] });
  });
  engine.stops('a');
  assert.equal(await whoHas(IP), undefined);
});

test('who asks while Podman is asked about an address waits for the next asking, all for the same one', async (t) => {
  const { engine, whoHas } = await isPodman(t);
  const before = engine.count('inspect a');
  const answers = Array.from({ length: 100 }, () => whoHas(IP));
  assert.deepEqual(new Set(await Promise.all(answers)), new Set(['a']));
  assert.equal(engine.count('inspect a') - before, 2);
});

test('an address that Podman has moved within a container does not stay where it was', async (t) => {
  const { engine, whoHas } = await isPodman(t);
  engine.joins('a', BRIDGE, OTHER_IP);
  assert.equal(await whoHas(IP), undefined);
  assert.equal(await whoHas(OTHER_IP), 'a');
});

test("while Podman's service is away nobody is believed to have an address: containers start without it", async (t) => {
  const { engine, clock, whoHas } = await isPodman(t);
  engine.failure = new EngineUnreachable('no socket');
  engine.breaksStream();
  assert.equal(await whoHas(IP), 'unavailable');
  engine.failure = undefined;
  await clock.advance(5_000);
  assert.equal(await whoHas(IP), 'a');
});

test('when Podman says that a network of a container has changed, its addresses are read', async (t) => {
  const { engine, directory } = await isPodman(t);
  engine.joins('a', BRIDGE, OTHER_IP);
  engine.tell({ kind: 'networksChanged', container: 'a' });
  await settled();
  assert.equal(directory.peek(OTHER_IP)?.id, 'a');
  assert.equal(directory.peek(IP), undefined);
});

// Who shares a container's network

const SHARING = { networkMode: 'container:owner' };

/** An owner that runs, and how it goes with who shares its network: `known`, `pending` or `unavailable`. */
async function owner(t: TestContext, prepare: (engine: ScriptedEngine) => void = () => {}) {
  const parts = await synced(t, (engine) => {
    engine.runs('owner', { [BRIDGE]: [IP] });
    prepare(engine);
  });
  const { directory } = parts;
  const ask = async () => {
    const known = directory.peersKnown(directory.peek(IP) ?? assert.fail('the owner has its address'));
    if (!known) return () => 'known';
    const asked = watch(known);
    await settled();
    return (): string => {
      if (asked.state === 'rejected') return asked.error instanceof DirectoryUnavailable ? 'unavailable' : 'thrown';
      return asked.state === 'pending' ? 'pending' : 'known';
    };
  };
  return { ...parts, ask };
}

async function createSharer(engine: ScriptedEngine): Promise<void> {
  engine.exists('sharer', SHARING);
  engine.tell(created('sharer'));
  await settled();
}

test('nobody is waited for where nobody can be about to share a network', async (t) => {
  const { engine, ask, directory } = await owner(t, (all) => {
    all.runs('sharer', {}, SHARING);
    all.exists('not-started', { networkMode: 'container:other' });
  });
  const calls = engine.calls.length;
  assert.equal((await ask())(), 'known');
  assert.equal(directory.peersKnown(describeContainer(anEngineContainer({ id: 'x' }), NOTHING)), undefined);
  assert.equal(engine.calls.length, calls);
});

test('one that was created to share a network is waited for until it starts', async (t) => {
  const { engine, ask, told } = await owner(t);
  await createSharer(engine);
  const waits = await ask();
  assert.equal(waits(), 'pending');
  engine.runs('sharer');
  engine.tell(started('sharer'));
  await settled();
  assert.deepEqual([waits(), told.at(-1)], ['known', 'started sharer']);
  assert.equal((await ask())(), 'known');
});

test('of two that were created the one that starts does not end the wait for the other one', async (t) => {
  const { engine, ask } = await owner(t);
  for (const id of ['one', 'two']) engine.exists(id, SHARING);
  engine.tell(created('one'), created('two'));
  await settled();
  const waits = await ask();
  engine.runs('one');
  engine.tell(started('one'));
  await settled();
  assert.equal(waits(), 'pending');
  engine.runs('two');
  engine.tell(started('two'));
  await settled();
  assert.equal(waits(), 'known');
});

test('one that does not start is waited for 0.4 s, and then not again for 5 s', async (t) => {
  const { engine, clock, ask } = await owner(t);
  await createSharer(engine);
  const waits = await ask();
  await clock.advance(399);
  assert.equal(waits(), 'pending');
  await clock.advance(1);
  assert.equal(waits(), 'known');
  assert.equal((await ask())(), 'known');
  await clock.advance(5_001);
  assert.equal((await ask())(), 'pending');
});

for (const [news, happen] of [
  ['another one is created', (engine: ScriptedEngine) => {
    engine.exists('other', SHARING);
    engine.tell(created('other'));
  }],
  ['one that ran has ended', (engine: ScriptedEngine) => {
    engine.stops('running');
    engine.tell(died('running'));
  }],
] as const) {
  test(`but it is when ${news}`, async (t) => {
    const { engine, clock, ask } = await owner(t, (all) => all.runs('running', {}, SHARING));
    await createSharer(engine);
    await ask();
    await clock.advance(400);
    assert.equal((await ask())(), 'known');
    happen(engine);
    await settled();
    assert.equal((await ask())(), 'pending');
  });
}

test('one that was created before the first reading is waited for, but not one that is gone', async (t) => {
  const { engine, ask } = await owner(t, (all) => all.exists('sharer', SHARING));
  const waits = await ask();
  assert.equal(waits(), 'pending');
  engine.removes('sharer');
  engine.tell(destroyed('sharer'));
  await settled();
  assert.equal((await ask())(), 'known');
});

test('one that has ended is waited for: it may be starting again', async (t) => {
  const { engine, ask } = await owner(t, (all) => all.runs('sharer', {}, SHARING));
  engine.stops('sharer');
  engine.tell(died('sharer'));
  await settled();
  const waits = await ask();
  assert.equal(waits(), 'pending');
  engine.runs('sharer');
  engine.tell(started('sharer'));
  await settled();
  assert.equal(waits(), 'known');
});

test('whoever is being inspected may turn out to share the network', async (t) => {
  const { engine, ask } = await owner(t);
  const inspects = ['sharer', 'stranger'].map((id) => {
    engine.exists(id, id === 'sharer' ? SHARING : {});
    return engine.holds(`inspect ${id}`);
  });
  engine.tell(created('sharer'), created('stranger'));
  await settled();
  const waits = await ask();
  for (const inspect of inspects) {
    assert.equal(waits(), 'pending');
    inspect.release();
    await settled();
  }
  assert.equal(waits(), 'pending', 'the sharer has not started');
  engine.runs('sharer');
  engine.tell(started('sharer'));
  await settled();
  assert.equal(waits(), 'known');
});

test('one that was not known when it started is waited for while it is inspected', async (t) => {
  const { engine, ask, running } = await owner(t);
  engine.runs('sharer', {}, SHARING);
  const inspect = engine.holds('inspect sharer');
  engine.tell(started('sharer'));
  await settled();
  const waits = await ask();
  assert.equal(waits(), 'pending');
  inspect.release();
  await settled();
  assert.deepEqual([waits(), running()], ['known', ['owner', 'sharer']]);
});

test('one that had ended before the first reading is waited for, but not one that no re-sync shows', async (t) => {
  const { engine, ask, clock } = await owner(t, (all) => {
    all.runs('sharer', {}, SHARING);
    all.stops('sharer');
  });
  assert.equal((await ask())(), 'pending');
  engine.breaksStream();
  engine.removes('sharer');
  await clock.advance(6_000);
  assert.equal((await ask())(), 'known');
});

test('a stream that breaks while a sharer is waited for leaves it open who shares the network', async (t) => {
  const { engine, clock, ask } = await owner(t, (all) => all.exists('sharer', SHARING));
  const waits = await ask();
  engine.failure = new EngineUnreachable('away');
  engine.breaksStream();
  await clock.advance(400);
  assert.equal(waits(), 'unavailable');
});

test('who was waited for in vain is not what keeps a new one from being waited for', async (t) => {
  const { engine, clock, ask } = await owner(t, (all) => all.exists('old', SHARING));
  await ask();
  await clock.advance(500);
  engine.exists('new', SHARING);
  const inspect = engine.holds('inspect new');
  engine.tell(created('new'));
  await settled();
  const waits = await ask();
  assert.equal(waits(), 'pending');
  inspect.release();
  await settled();
  assert.equal(waits(), 'pending', 'until it starts');
});

test('an inspect that hangs is waited for 0.4 s, and then not again for 5 s', async (t) => {
  const { engine, clock, ask } = await owner(t);
  engine.exists('stuck');
  engine.holds('inspect stuck');
  engine.tell(created('stuck'));
  await settled();
  const waits = await ask();
  await clock.advance(400);
  assert.equal(waits(), 'known');
  assert.equal((await ask())(), 'known');
});

test('without a daemon the engine is asked who shares a network now: it tells of starts and ends late', async (t) => {
  const { engine, clock, ask, running } = await owner(t, (all) => {
    all.isPodman = true;
    all.runs('before', {}, SHARING);
  });
  engine.stops('before');
  engine.runs('now', {}, SHARING);
  let waits = await ask();
  assert.deepEqual([waits(), running()], ['pending', ['owner', 'now']]);
  engine.removes('before');
  engine.tell(destroyed('before'));
  await clock.advance(100);
  assert.equal(waits(), 'known', 'what is gone does not start again');
  engine.exists('next', SHARING);
  waits = await ask();
  await clock.advance(100);
  assert.equal(waits(), 'pending');
  engine.runs('next');
  await clock.advance(100);
  assert.deepEqual([waits(), running()], ['known', ['owner', 'now', 'next']]);
});

test('without a daemon a sharer is waited for as long after a list that took long', async (t) => {
  const { engine, clock, ask, running } = await owner(t, (all) => void (all.isPodman = true));
  engine.exists('sharer', SHARING);
  const list = engine.holds('list');
  const waits = await ask();
  await clock.advance(450);
  list.release();
  await settled();
  assert.equal(waits(), 'pending');
  engine.runs('sharer');
  await clock.advance(450);
  assert.deepEqual([waits(), running()], ['known', ['owner', 'sharer']]);
});

test('without a daemon a container that cannot be inspected, and does not run, holds up no list', async (t) => {
  const { engine, clock, ask, whoHas } = await owner(t, (all) => void (all.isPodman = true));
  engine.exists('stuck');
  engine.holds('inspect stuck');
  const waits = await ask();
  await clock.advance(400);
  assert.equal(waits(), 'known');
  engine.runs('other', { [BRIDGE]: [OTHER_IP] });
  assert.equal(await whoHas(OTHER_IP), 'other');
});

test('without a daemon a list does not end what has started again since', async (t) => {
  const { engine, ask, told, running } = await owner(t, (all) => {
    all.isPodman = true;
    all.runs('sharer', {}, SHARING);
  });
  engine.stops('sharer');
  const list = engine.holds('list');
  await ask();
  engine.runs('sharer');
  engine.tell(died('sharer'), started('sharer'));
  await settled();
  const before = told.length;
  list.release();
  await settled();
  assert.deepEqual([told.slice(before), running()], [[], ['owner', 'sharer']]);
});

test('without a daemon it cannot be told who shares a network when the engine does not answer', async (t) => {
  const { engine, ask } = await owner(t, (all) => void (all.isPodman = true));
  engine.fails('list');
  assert.equal((await ask())(), 'unavailable');
});

// By id

test('a container without an address is known by its id, and the engine asked about one that is not', async (t) => {
  const { engine, directory, told } = await synced(t, (all) => all.runs('a', {}, { networkMode: 'host' }));
  const calls = engine.calls.length;
  assert.equal((await directory.byId('a'))?.network, 'host');
  assert.deepEqual([engine.calls.length, told], [calls, ['known a', 'started a']]);
  engine.runs('b', {}, { networkMode: 'host' });
  assert.equal((await directory.byId('b'))?.id, 'b');
  assert.equal(await directory.byId('c'), undefined);
  assert.deepEqual(engine.calls.slice(calls), ['inspect b', 'inspect c']);
});

test('a known container stays known by its id while the engine is away; of others it cannot be told', async (t) => {
  const { engine, directory } = await synced(t, (all) => all.runs('a'));
  engine.breaksStream();
  engine.failure = new EngineUnreachable('away');
  await settled();
  assert.equal((await directory.byId('a'))?.id, 'a');
  await assert.rejects(directory.byId('b'), DirectoryUnavailable);
});
