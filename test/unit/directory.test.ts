import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { describeContainer, DirectoryUnavailable, type Container } from '../../lib/docker/container.ts';
import { ContainerDirectory, type DirectoryState } from '../../lib/docker/directory.ts';
import { EngineFailure, EngineUnreachable } from '../../lib/docker/engine.ts';
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

const NO_FIELDS = { env: new Set<string>(), labels: new Set<string>() };
const IP = '172.17.0.2';
const OTHER_IP = '172.17.0.3';

/** A directory over an engine that the test controls. */
function setUp(t: TestContext) {
  const engine = new ScriptedEngine();
  const clock = new ManualClock();
  /** `known a`, `started a`, `ended a`, in order. */
  const reported: string[] = [];
  const states: { state: DirectoryState; count: number; error: string | undefined }[] = [];
  const directory = new ContainerDirectory({
    engine,
    describe: async (found) => describeContainer(found, { env: new Set(['IAM_ROLE']), labels: new Set() }),
    clock,
    random: () => 0.5,
    events: {
      directoryStateChanged: (state, { count, error }) => states.push({ state, count, error: error?.message }),
    },
  });
  directory.subscribe({
    known: ({ id }) => reported.push(`known ${id}`),
    started: ({ id }) => reported.push(`started ${id}`),
    ended: ({ id }) => reported.push(`ended ${id}`),
  });
  t.after(() => directory.close());
  /** The id of the container that has an address, or 'unavailable'; waits as long as a request would. */
  const ownerOf = async (address: string): Promise<string | undefined> => {
    const asked = watch((async () => directory.resolve(address))());
    await settled();
    // A request from an unknown address waits for its event.
    if (asked.state === 'pending') await clock.advance(400);
    if (asked.state !== 'rejected') return asked.value?.id;
    return asked.error instanceof DirectoryUnavailable ? 'unavailable' : String(asked.error);
  };
  /** The id that the directory gives synchronously. */
  const known = (address: string): string | undefined => {
    const found = directory.resolve(address);
    if (!(found instanceof Promise)) return found?.id;
    found.catch(() => {});
    return 'not known yet';
  };
  const running = (): string[] => [...directory.started()].map(({ container }) => container.id);
  return { engine, clock, directory, reported, states, ownerOf, known, running };
}

async function synced(t: TestContext, prepare: (engine: ScriptedEngine) => void = () => {}) {
  const parts = setUp(t);
  prepare(parts.engine);
  parts.directory.start();
  await settled();
  assert.equal(parts.directory.state, 'synced');
  return parts;
}

/** `docker run`, with its events, in one burst. */
function run(engine: ScriptedEngine, id: string, address: string, network = BRIDGE): void {
  engine.exists(id);
  engine.emit(created(id));
  engine.joins(id, network, address);
  engine.emit(connected(id, network));
  engine.runs(id);
  engine.emit(started(id));
}

/** The end of a container, with its events. */
function end(engine: ScriptedEngine, id: string, network = BRIDGE): void {
  engine.stops(id);
  engine.emit(died(id), disconnected(id, network));
}

// The first read

test('running containers are known after the first read', async (t) => {
  const { directory, known, states, reported } = await synced(t, (engine) => {
    engine.runs('a', { [BRIDGE]: [IP, 'fd00::2'] }, { env: ['IAM_ROLE=app', 'OTHER=x'] });
    engine.runs('b', { [BRIDGE]: [OTHER_IP], 'other-network': ['172.18.0.2'] });
  });
  assert.deepEqual([IP, 'fd00::2', OTHER_IP, '172.18.0.2'].map(known), ['a', 'a', 'b', 'b']);
  assert.deepEqual([...(directory.resolve(IP) as Container).env], [['IAM_ROLE', 'app']]);
  assert.deepEqual(states, [{ state: 'synced', count: 2, error: undefined }]);
  assert.deepEqual(reported.toSorted(), ['known a', 'known b', 'started a', 'started b']);
});

test('a first read inspects at most eight containers concurrently, and each once', async (t) => {
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

test('events during the first read are applied after it', async (t) => {
  const { engine, directory, ownerOf, running } = setUp(t);
  engine.runs('a', { [BRIDGE]: [IP] });
  const list = engine.holds('list');
  directory.start();
  await settled();
  // The list in flight still has a.
  end(engine, 'a');
  run(engine, 'b', IP);
  await settled();
  list.release();
  await settled();
  assert.equal(directory.state, 'synced');
  assert.equal(await ownerOf(IP), 'b');
  assert.deepEqual(running(), ['b']);
});

test('a container that is removed during the read does not delay the others', async (t) => {
  const { engine, directory, known } = setUp(t);
  engine.runs('a', { [BRIDGE]: [IP] });
  engine.runs('b', { [BRIDGE]: [OTHER_IP] });
  const list = engine.holds('list');
  directory.start();
  await settled();
  engine.removes('a'); // Without an event: only its inspect shows it.
  list.release();
  await settled();
  assert.equal(directory.state, 'synced');
  assert.equal(known(OTHER_IP), 'b');
});

test('a container that cannot be inspected does not delay the others', async (t) => {
  const { engine, directory, ownerOf } = setUp(t);
  engine.runs('stuck', { [BRIDGE]: [IP] });
  engine.runs('b', { [BRIDGE]: [OTHER_IP] });
  engine.fails('inspect stuck');
  directory.start();
  await settled();
  assert.equal(await ownerOf(OTHER_IP), 'b');
  assert.equal(await ownerOf(IP), 'unavailable', 'the stuck one is undetermined, not unknown');
});

// A container's life

test("a container's role is read at create and its address at network connect, before it starts", async (t) => {
  const { engine, known, reported } = await synced(t);
  engine.exists('a');
  engine.emit(created('a'));
  await settled();
  assert.deepEqual(reported, ['known a']);
  // The real engine holds the inspect until the start.
  const inspect = engine.holds('inspect a');
  engine.joins('a', BRIDGE, IP);
  engine.emit(connected('a', BRIDGE));
  await settled();
  assert.equal(inspect.waiting, 0);
  assert.equal(known(IP), 'a');
  assert.deepEqual(reported, ['known a', 'started a']);
  engine.runs('a');
  engine.emit(started('a'));
  await settled();
  assert.deepEqual(reported, ['known a', 'started a'], 'it is reported as started once');
  assert.deepEqual(
    engine.calls.filter((call) => call === 'inspect a'),
    ['inspect a'],
  );
});

test('a request during the address lookup waits for it and causes no other call', async (t) => {
  const { engine, directory } = await synced(t);
  engine.exists('a');
  engine.emit(created('a'));
  const network = engine.holds(`network ${BRIDGE}`);
  engine.joins('a', BRIDGE, IP);
  engine.emit(connected('a', BRIDGE));
  await settled();
  const answer = watch(Promise.resolve(directory.resolve(IP)));
  await settled();
  assert.equal(answer.state, 'pending');
  network.release();
  await settled();
  assert.equal(answer.value?.id, 'a');
  assert.equal(engine.count('list'), 1, 'the one of the first read');
});

test('a request during the inspect waits for it', async (t) => {
  const { engine, directory, known } = await synced(t);
  engine.exists('a');
  const inspect = engine.holds('inspect a');
  engine.emit(created('a'));
  engine.joins('a', BRIDGE, IP);
  engine.emit(connected('a', BRIDGE));
  await settled();
  assert.equal(known(IP), 'not known yet');
  const answer = watch(Promise.resolve(directory.resolve(IP)));
  inspect.release();
  await settled();
  assert.equal(answer.value?.id, 'a');
});

test('containers connected at the same time share a network lookup, and none is missed', async (t) => {
  const { engine, known } = await synced(t);
  const network = engine.holds(`network ${BRIDGE}`);
  for (let index = 1; index <= 20; index += 1) {
    engine.exists(`c${index}`);
    engine.joins(`c${index}`, BRIDGE, `10.0.0.${index}`);
    engine.emit(created(`c${index}`), connected(`c${index}`, BRIDGE));
  }
  await settled();
  assert.equal(network.waiting, 1);
  network.release();
  await settled();
  assert.equal(engine.count(`network ${BRIDGE}`), 2, 'one for the first, one for all that came during it');
  for (let index = 1; index <= 20; index += 1) assert.equal(known(`10.0.0.${index}`), `c${index}`);
});

test('the start event reads what no earlier event has announced', async (t) => {
  const { engine, known, running } = await synced(t);
  engine.runs('a', { [BRIDGE]: [IP] });
  engine.emit(started('a'));
  await settled();
  assert.equal(known(IP), 'a');
  assert.deepEqual(running(), ['a']);
});

test('the start event repairs a failed address lookup', async (t) => {
  const { engine, known } = await synced(t);
  engine.fails(`network ${BRIDGE}`);
  run(engine, 'a', IP);
  await settled();
  assert.equal(known(IP), 'a');
});

test('a container may be on several networks and join another while it runs', async (t) => {
  const { engine, known } = await synced(t);
  run(engine, 'a', IP);
  await settled();
  engine.joins('a', 'second', '10.1.0.2', 'fd00::1:2');
  engine.emit(connected('a', 'second'));
  await settled();
  assert.deepEqual([IP, '10.1.0.2', 'fd00::1:2'].map(known), ['a', 'a', 'a']);
  engine.leaves('a', 'second');
  engine.emit(disconnected('a', 'second'));
  assert.deepEqual([IP, '10.1.0.2', 'fd00::1:2'].map(known), ['a', 'not known yet', 'not known yet']);
});

for (const driver of ['host', 'null']) {
  test(`a connect to a network of the driver "${driver}" causes no lookup`, async (t) => {
    const { engine } = await synced(t);
    engine.exists('a');
    engine.emit(created('a'), connected('a', `${driver}-id`, driver));
    await settled();
    assert.equal(engine.count(`network ${driver}-id`), 0);
  });
}

test('a container without an address of its own starts with its start event', async (t) => {
  const { engine, reported } = await synced(t);
  engine.runs('a', {}, { networkMode: 'container:b' });
  engine.emit(created('a'), started('a'));
  await settled();
  assert.deepEqual(reported, ['known a', 'started a']);
});

test('a rename changes only the name', async (t) => {
  const { engine, directory } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
  const before = directory.resolve(IP);
  engine.emit(renamed('a', 'new-name'), renamed('unknown', 'x'), renamed('a', ''));
  assert.equal(directory.resolve(IP), before);
  assert.equal((before as Container).name, 'new-name');
});

// Its end: removal

for (const [what, event] of [
  ['dies', died('a')],
  ['is disconnected', disconnected('a', BRIDGE)],
  ['is destroyed', destroyed('a')],
] as const) {
  test(`the address of a container that ${what} is removed at once`, async (t) => {
    const { engine, directory, known } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
    assert.equal(known(IP), 'a');
    engine.stops('a');
    engine.emit(event);
    assert.equal(directory.peek(IP), undefined);
    assert.equal(known(IP), 'not known yet');
  });
}

test('a disconnect from one of several networks removes only that address', async (t) => {
  const { engine, known } = await synced(t, (engine) =>
    engine.runs('a', { [BRIDGE]: [IP], second: ['10.1.0.2'] }),
  );
  engine.leaves('a', BRIDGE);
  engine.emit(disconnected('a', BRIDGE));
  assert.deepEqual([known(IP), known('10.1.0.2')], ['not known yet', 'a']);
});

test('a container is reported as ended once, however many events say so', async (t) => {
  const { engine, reported, running } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
  end(engine, 'a');
  engine.removes('a');
  engine.emit(destroyed('a'), destroyed('a'), died('a'));
  await settled();
  assert.deepEqual(reported, ['known a', 'started a', 'ended a']);
  assert.deepEqual(running(), []);
});

test('a reused address belongs only to its new container', async (t) => {
  const { engine, directory, known } = await synced(t);
  for (const id of ['a', 'b', 'c']) {
    run(engine, id, IP);
    await settled();
    assert.equal(known(IP), id);
    end(engine, id);
    assert.equal(directory.peek(IP), undefined);
  }
});

test('a late end of the old container does not remove the address from the new one', async (t) => {
  const { engine, known } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
  engine.stops('a');
  run(engine, 'b', IP);
  await settled();
  assert.equal(known(IP), 'b');
  engine.emit(died('a'), disconnected('a', BRIDGE), destroyed('a'));
  assert.equal(known(IP), 'b');
});

test('an address assigned on two networks identifies no container until one has gone', async (t) => {
  const { engine, directory, known } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
  engine.exists('b');
  engine.joins('b', 'plugin', IP);
  engine.emit(created('b'), connected('b', 'plugin', 'a-plugin'), started('b'));
  await settled();
  await assert.rejects(async () => directory.resolve(IP), DirectoryUnavailable);
  engine.stops('b');
  engine.emit(died('b'));
  assert.equal(known(IP), 'a');
});

test('an address assigned on two networks identifies no container after a full read either', async (t) => {
  const { directory } = await synced(t, (engine) => {
    engine.runs('a', { [BRIDGE]: [IP] });
    engine.runs('b', { plugin: [IP] });
  });
  await assert.rejects(async () => directory.resolve(IP), DirectoryUnavailable);
});

for (const driver of ['overlay', 'macvlan', 'ipvlan']) {
  test(`an address on a network of the driver ${driver} does not replace the same one on a bridge`, async (t) => {
    const { engine, known } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
    engine.exists('b');
    engine.joins('b', 'elsewhere', IP);
    engine.emit(created('b'), connected('b', 'elsewhere', driver), started('b'));
    engine.leaves('b', 'elsewhere');
    await settled();
    assert.equal(known(IP), 'a');
  });
}

test('a container that starts and ends in one burst of events leaves nothing behind', async (t) => {
  const { engine, directory, reported, running } = await synced(t);
  engine.exists('a');
  engine.joins('a', BRIDGE, IP);
  engine.emit(
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
  const count = (event: string): number => reported.filter((one) => one === event).length;
  assert.equal(count('started a'), count('ended a'));
});

test('a container whose start fails after its connect has ended', async (t) => {
  const { engine, reported, running } = await synced(t);
  engine.exists('a');
  engine.emit(created('a'));
  engine.joins('a', BRIDGE, IP);
  engine.emit(connected('a', BRIDGE));
  await settled();
  engine.leaves('a', BRIDGE);
  engine.emit(disconnected('a', BRIDGE));
  await settled();
  assert.deepEqual(reported, ['known a', 'started a', 'ended a']);
  assert.deepEqual(running(), []);
});

// Starting again

test('a restarted container is known without another inspect, under its new address', async (t) => {
  const { engine, known, reported } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
  end(engine, 'a');
  await settled();
  engine.joins('a', BRIDGE, OTHER_IP);
  engine.emit(connected('a', BRIDGE));
  engine.runs('a');
  engine.emit(started('a'));
  await settled();
  assert.deepEqual([known(OTHER_IP), known(IP)], ['a', 'not known yet']);
  assert.deepEqual(reported, ['known a', 'started a', 'ended a', 'started a']);
  assert.equal(engine.count('inspect a'), 1);
});

test('a thousand ended containers are kept; the ones that ended first are forgotten', async (t) => {
  const { engine } = await synced(t, (engine) => {
    for (let index = 0; index <= 1000; index += 1) engine.runs(`c${index}`, {});
  });
  for (let index = 0; index <= 1000; index += 1) engine.emit(died(`c${index}`));
  engine.emit(started('c1'), started('c0'));
  await settled();
  assert.deepEqual([engine.count('inspect c0'), engine.count('inspect c1')], [2, 2]);
  engine.emit(connected('c1000', 'x'), connected('c2', 'x'));
  await settled();
  assert.deepEqual(
    [engine.count('inspect c1000'), engine.count('inspect c2')],
    [1, 1],
    'these two were kept',
  );
});

// Answers that are older than the events (tombstones)

test('a network lookup does not bring back a container that ended during it', async (t) => {
  for (const events of [[died('a')], [disconnected('a', BRIDGE)], [destroyed('a')]]) {
    const { engine, directory, running } = await synced(t);
    engine.exists('a');
    engine.emit(created('a'));
    engine.joins('a', BRIDGE, IP);
    const network = engine.holds(`network ${BRIDGE}`);
    engine.emit(connected('a', BRIDGE));
    await settled();
    assert.equal(network.waiting, 1);
    engine.stops('a');
    engine.emit(...events);
    network.release();
    await settled();
    assert.equal(directory.peek(IP), undefined, events[0]?.kind);
    assert.deepEqual(running(), []);
  }
});

test('a container that dies while it waits for a network lookup gets no address from it', async (t) => {
  const { engine, directory, running } = await synced(t);
  const network = engine.holds(`network ${BRIDGE}`);
  for (const [id, address] of [['a', IP], ['b', OTHER_IP]] as const) {
    engine.exists(id);
    engine.joins(id, BRIDGE, address);
    engine.emit(created(id), connected(id, BRIDGE));
    await settled();
  }
  // Until its disconnect the engine still shows the endpoint of b.
  engine.emit(died('b'));
  network.release();
  await settled();
  assert.equal(directory.peek(OTHER_IP), undefined);
  assert.deepEqual(running(), ['a']);
});

test('a network lookup does not bring back the old address of a container that restarted during it', async (t) => {
  const { engine, directory, known } = await synced(t, (engine) => engine.exists('a'));
  engine.joins('a', BRIDGE, IP);
  const network = engine.holds(`network ${BRIDGE}`);
  engine.emit(connected('a', BRIDGE));
  await settled();
  end(engine, 'a');
  engine.joins('a', BRIDGE, OTHER_IP);
  engine.emit(connected('a', BRIDGE));
  engine.runs('a');
  engine.emit(started('a'));
  await settled();
  network.release();
  await settled();
  assert.equal(directory.peek(IP), undefined);
  assert.equal(known(OTHER_IP), 'a');
});

test('an inspect does not bring back a container that ended during it', async (t) => {
  const { engine, directory, running } = await synced(t);
  engine.runs('a', { [BRIDGE]: [IP] });
  const inspect = engine.holds('inspect a');
  engine.emit(started('a'));
  await settled();
  end(engine, 'a');
  inspect.release();
  await settled();
  assert.equal(directory.peek(IP), undefined);
  assert.deepEqual(running(), []);
});

test('a rescan that began before a container ended does not bring it back', async (t) => {
  const { engine, clock, directory, ownerOf, running } = await synced(t, (engine) =>
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
  assert.equal(await ownerOf(IP), 'b');
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
  engine.emit(disconnected('a', BRIDGE));
  list.release();
  await settled();
  assert.equal(directory.peek(IP), undefined);
  assert.equal(known('10.1.0.2'), 'a');
});

test('a container that is destroyed during its inspect is forgotten', async (t) => {
  const { engine, reported } = await synced(t);
  engine.exists('a');
  const inspect = engine.holds('inspect a');
  engine.emit(created('a'));
  await settled();
  engine.removes('a');
  engine.emit(destroyed('a'));
  inspect.release();
  await settled();
  assert.deepEqual(reported, []);
});

test('a rescan from before a full resync does not start what the resync has ended', async (t) => {
  const { engine, clock, directory, reported, running } = await synced(t, (engine) =>
    engine.runs('a', { [BRIDGE]: [IP] }),
  );
  await clock.advance(1000);
  const list = engine.holds('list');
  directory.peek(IP);
  void Promise.resolve(directory.resolve('10.9.9.9')).catch(() => {});
  await settled();
  assert.equal(list.waiting, 1);
  const late = list;
  engine.holds('list').release(); // Later lists are answered at once.
  engine.removes('a');
  engine.breaksStream();
  await settled();
  assert.equal(directory.state, 'synced');
  assert.deepEqual(reported, ['known a', 'started a', 'ended a']);
  late.release();
  await settled();
  assert.equal(directory.peek(IP), undefined);
  assert.deepEqual(running(), []);
  assert.deepEqual(reported, ['known a', 'started a', 'ended a']);
});

// Unknown addresses

test('an unknown address causes one list, then no container has it', async (t) => {
  const { engine, clock, ownerOf } = await synced(t);
  await clock.advance(1000);
  assert.equal(await ownerOf('10.9.9.9'), undefined);
  assert.equal(engine.count('list'), 2);
});

test('the list finds a container that no event has announced', async (t) => {
  const { engine, clock, ownerOf, reported } = await synced(t);
  await clock.advance(1000);
  engine.runs('a', { [BRIDGE]: [IP] });
  assert.equal(await ownerOf(IP), 'a');
  assert.deepEqual(reported, ['known a', 'started a']);
});

test('a request from an unknown address waits at most 0.4 s for its event', async (t) => {
  const { engine, clock, directory } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [OTHER_IP] }));
  await clock.advance(1000);
  const early = watch(Promise.resolve(directory.resolve(IP)));
  const tooEarly = watch(Promise.resolve(directory.resolve('10.9.9.9')));
  await clock.advance(399);
  assert.deepEqual([early.state, tooEarly.state], ['pending', 'pending']);
  engine.joins('a', 'second', IP);
  engine.emit(connected('a', 'second'));
  await settled();
  assert.equal(early.value?.id, 'a');
  await clock.advance(1);
  assert.deepEqual([tooEarly.state, tooEarly.value], ['fulfilled', undefined]);
  assert.equal(engine.count('list'), 2);
});

test('the negative cache saves the wait until a container gets the address', async (t) => {
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

/** The state of a request for IP after some milliseconds. */
async function asked(directory: ContainerDirectory, clock: ManualClock, milliseconds: number) {
  const answer = watch(Promise.resolve(directory.resolve(IP)));
  await clock.advance(milliseconds);
  return answer;
}

test('a thousand requests from unknown addresses share a rescan, and there are at most two per second', async (t) => {
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
  assert.ok(engine.count('list') >= 2 + 9, 'and every request gets one');
});

test('a request during a rescan is answered by the next one, which begins later', async (t) => {
  const { engine, clock, directory } = await synced(t);
  await clock.advance(1000);
  const list = engine.holds('list');
  const first = watch(Promise.resolve(directory.resolve(IP)));
  await settled();
  engine.runs('a', { [BRIDGE]: [IP] }); // Too late for the list in flight.
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

test('a failed rescan makes the caller undetermined, not unknown', async (t) => {
  const { engine, clock, ownerOf } = await synced(t);
  await clock.advance(1000);
  engine.fails('list');
  assert.equal(await ownerOf('10.9.9.9'), 'unavailable');
  engine.mends('list');
  await clock.advance(1000);
  assert.equal(await ownerOf('10.9.9.9'), undefined);
});

test('a request waits at most five seconds for an engine that hangs', async (t) => {
  const { engine, clock, directory } = await synced(t);
  await clock.advance(1000);
  engine.holds('list');
  const answer = watch(Promise.resolve(directory.resolve(IP)));
  await clock.advance(4_999);
  assert.equal(answer.state, 'pending');
  await clock.advance(1);
  assert.ok(answer.error instanceof DirectoryUnavailable);
});

test('a known address is answered at once while the engine hangs', async (t) => {
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
  engine.emit(created('a'));
  engine.joins('a', OVERLAY, '10.0.1.3');
  engine.emit(connected('a', OVERLAY, 'overlay'));
  engine.joins('a', GATEWAY, '172.19.0.3');
  engine.runs('a');
  engine.emit(started('a'));
  await settled();
  assert.equal(known('172.19.0.3'), 'a');
  assert.deepEqual(running(), ['before', 'a']);
});

test('the address on the gateway bridge is removed with the overlay network or the container', async (t) => {
  for (const event of [disconnected('a', OVERLAY, 'overlay'), died('a')]) {
    const { engine, directory } = await synced(t, (engine) => {
      engine.runs('a', { [OVERLAY]: ['10.0.1.2'], [GATEWAY]: ['172.19.0.2'] });
    });
    assert.equal(directory.peek('172.19.0.2')?.id, 'a');
    engine.stops('a');
    engine.emit(event);
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
  engine.emit(disconnected('a', 'second', 'overlay'));
  await settled();
  assert.equal(known('172.19.0.2'), 'a');
});

test('the disconnect from its overlay network does not bring back a dead container', async (t) => {
  const { engine, directory, running } = await synced(t, (engine) => {
    engine.runs('a', { [OVERLAY]: ['10.0.1.2'], [GATEWAY]: ['172.19.0.2'] });
  });
  // The engine still shows the endpoint on the gateway bridge.
  engine.emit(died('a'), disconnected('a', OVERLAY, 'overlay'));
  await settled();
  assert.equal(directory.peek('172.19.0.2'), undefined);
  assert.deepEqual(running(), []);
});

test('a task gets the address that appears on the gateway bridge later, unless it has died', async (t) => {
  for (const dies of [false, true]) {
    const { engine, clock, directory, running } = await synced(t);
    engine.exists('a');
    engine.joins('a', OVERLAY, '10.0.1.2');
    engine.emit(created('a'), connected('a', OVERLAY, 'overlay'));
    await settled();
    engine.joins('a', GATEWAY, '172.19.0.2');
    if (dies) engine.emit(died('a'));
    await clock.advance(25);
    assert.equal(directory.peek('172.19.0.2')?.id, dies ? undefined : 'a');
    assert.deepEqual(running(), dies ? [] : ['a']);
  }
});

test('a rescan does not remove an address that an event has announced during it', async (t) => {
  const { engine, clock, directory } = await synced(t);
  await clock.advance(1000);
  const [list, gateway] = [engine.holds('list'), engine.holds(`network ${GATEWAY}`)];
  engine.runs('a', { [OVERLAY]: ['10.0.1.2'] }); // On the list, but not on the gateway bridge yet.
  void directory.resolve('10.9.9.9');
  await settled();
  assert.equal(gateway.waiting, 1);
  engine.holds(`network ${GATEWAY}`).release();
  engine.joins('a', GATEWAY, '172.19.0.2');
  engine.emit(created('a'), connected('a', OVERLAY, 'overlay'), started('a'));
  await settled();
  assert.equal(directory.peek('172.19.0.2')?.id, 'a');
  gateway.release();
  list.release();
  await settled();
  assert.equal(directory.peek('172.19.0.2')?.id, 'a');
});

// Without the event stream

test('before Docker has answered, every caller is undetermined', async (t) => {
  const { engine, clock, directory, states, ownerOf } = setUp(t);
  engine.failure = new EngineUnreachable('no socket');
  directory.start();
  await settled();
  assert.equal(directory.state, 'starting');
  assert.equal(await ownerOf(IP), 'unavailable');
  assert.deepEqual(states, [{ state: 'starting', count: 0, error: 'no socket' }]);
  engine.failure = undefined;
  engine.runs('a', { [BRIDGE]: [IP] });
  await clock.advance(10_000);
  assert.equal(directory.state, 'synced');
  assert.equal(await ownerOf(IP), 'a');
});

test('the same connection error is reported once', async (t) => {
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

test('reconnects back off, to at most a second', async (t) => {
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

test('a broken event stream is reopened, followed by a full resync', async (t) => {
  const { engine, directory, states, known, reported } = await synced(t, (engine) => {
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
  assert.deepEqual([IP, '172.17.0.9', OTHER_IP].map(known), ['c', 'b', 'not known yet']);
  assert.deepEqual(reported.slice(-3).toSorted(), ['ended a', 'known c', 'started c']);
  assert.deepEqual(
    states.map(({ state }) => state),
    ['synced', 'disconnected', 'synced'],
  );
  assert.equal(engine.count('inspect b'), 1, 'a known container is not inspected again');
  directory.close();
});

test('between reconnect and full read nothing old is used', async (t) => {
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
  // The held list was made after the change.
  list.release();
  await settled();
  assert.equal(answer.value?.id, 'b');
  assert.equal(known(IP), 'b');
});

test('known addresses stay valid while the engine is unreachable: it can start nothing', async (t) => {
  const { engine, clock, directory, ownerOf } = await synced(t, (engine) =>
    engine.runs('a', { [BRIDGE]: [IP] }),
  );
  engine.failure = new EngineUnreachable('connection refused');
  engine.breaksStream();
  await settled();
  assert.equal(directory.state, 'disconnected');
  assert.equal(await ownerOf(IP), 'a');
  assert.equal(await ownerOf(OTHER_IP), 'unavailable', 'an unknown address is undetermined');
  await clock.advance(3_600_000);
  assert.equal(await ownerOf(IP), 'a');
});

test('nothing old is used while the engine is running but fails', async (t) => {
  const { engine, clock, ownerOf } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
  engine.failure = new EngineFailure('500');
  engine.breaksStream();
  await settled();
  assert.equal(await ownerOf(IP), 'unavailable');
  await clock.advance(3_600_000);
  assert.equal(await ownerOf(IP), 'unavailable');
  engine.failure = undefined;
  await clock.advance(5_000);
  assert.equal(await ownerOf(IP), 'a');
});

test('a request reconnects to an engine that is back', async (t) => {
  const { engine, clock, directory, ownerOf } = await synced(t, (engine) =>
    engine.runs('a', { [BRIDGE]: [IP] }),
  );
  engine.failure = new EngineUnreachable('connection refused');
  engine.breaksStream();
  await clock.advance(60_000);
  assert.equal(await ownerOf(IP), 'a');
  engine.failure = undefined;
  engine.stops('a');
  engine.runs('b', { [BRIDGE]: [IP] });
  await clock.advance(100);
  assert.equal(await ownerOf(IP), 'b');
  assert.equal(directory.state, 'synced');
});

test('a burst of requests without the engine makes one connection attempt per 100 ms', async (t) => {
  const { engine, clock, directory } = await synced(t);
  engine.failure = new EngineUnreachable('connection refused');
  engine.breaksStream();
  await clock.advance(60_000);
  const before = engine.count('events');
  for (let request = 0; request < 100; request += 1) void Promise.resolve(directory.resolve(IP)).catch(() => {});
  await settled();
  assert.ok(engine.count('events') <= before + 1);
});

test('nothing old is used if the engine goes away again between reconnect and full read', async (t) => {
  const { engine, clock, ownerOf } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
  engine.failure = new EngineUnreachable('connection refused');
  engine.breaksStream();
  await clock.advance(1000);
  assert.equal(await ownerOf(IP), 'a');
  // It is back long enough to open the stream and to start b with the address of a.
  engine.stops('a');
  engine.runs('b', { [BRIDGE]: [IP] });
  engine.failure = undefined;
  engine.fails('list');
  await clock.advance(10_000);
  assert.equal(await ownerOf(IP), 'unavailable');
  engine.failure = new EngineUnreachable('connection refused');
  await clock.advance(10_000);
  assert.equal(await ownerOf(IP), 'unavailable');
});

test('events of a stream that broke during a full resync are not forgotten', async (t) => {
  const { engine, clock, ownerOf } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
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
  assert.notEqual(await ownerOf(IP), 'a');
});

test('a lookup that is in flight when the stream breaks does not give an old answer', async (t) => {
  const { engine, clock, directory } = await synced(t, (engine) => engine.runs('b', {}));
  await clock.advance(1000);
  engine.joins('b', BRIDGE, OTHER_IP); // No event announces it.
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

test('a network lookup from before a full resync does not replace its addresses', async (t) => {
  const { engine, directory, known } = await synced(t, (engine) => engine.exists('a'));
  engine.joins('a', BRIDGE, IP);
  const network = engine.holds(`network ${BRIDGE}`);
  engine.emit(connected('a', BRIDGE));
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

test('a full resync ends exactly the containers that do not run any more', async (t) => {
  const { engine, reported, running } = await synced(t, (engine) => {
    for (const id of ['a', 'b', 'c']) engine.runs(id, { [BRIDGE]: [`10.0.0.${id.charCodeAt(0)}`] });
  });
  engine.removes('a');
  engine.stops('b');
  engine.breaksStream();
  await settled();
  assert.deepEqual(reported.filter((event) => event.startsWith('ended')).toSorted(), ['ended a', 'ended b']);
  assert.deepEqual(running(), ['c']);
});

test('a full resync updates the name of a container that was renamed without the stream', async (t) => {
  const { engine, directory } = await synced(t, (engine) => engine.runs('a', { [BRIDGE]: [IP] }));
  engine.runs('a', {}, { name: 'new-name' });
  engine.breaksStream();
  await settled();
  assert.equal(directory.peek(IP)?.name, 'new-name');
});

test('a stream that breaks during the first read does not count as synced', async (t) => {
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

test('a failed read closes the stream that was opened for it', async (t) => {
  const { engine, clock, directory } = setUp(t);
  engine.fails('list');
  directory.start();
  await clock.advance(60_000);
  assert.equal(engine.followers, 0);
  engine.mends('list');
  await clock.advance(5_000);
  assert.equal(engine.followers, 1);
});

test('a closed directory follows nothing', async (t) => {
  const { engine, clock, directory } = await synced(t);
  directory.close();
  await clock.advance(60_000);
  assert.equal(engine.followers, 0);
  assert.equal(engine.count('events'), 1);
});

// Podman: its containers start without its service, and its events are late

async function onPodman(t: TestContext) {
  return synced(t, (engine) => {
    engine.isPodman = true;
    engine.runs('a', { [BRIDGE]: [IP] });
  });
}

test('Podman confirms before each answer that the container still has the address', async (t) => {
  const { engine, ownerOf } = await onPodman(t);
  assert.equal(await ownerOf(IP), 'a');
  // The events are still to come.
  engine.stops('a');
  engine.runs('b', { [BRIDGE]: [IP] });
  assert.equal(await ownerOf(IP), 'b');
});

test('a network named "label" is a network, not a label claim', async (t) => {
  const { engine, ownerOf } = await synced(t, (all) => {
    all.isPodman = true;
    all.runs('a', { label: [IP] });
  });
  engine.stops('a');
  assert.equal(await ownerOf(IP), undefined);
});

test('requests during a confirmation by Podman share the next one', async (t) => {
  const { engine, ownerOf } = await onPodman(t);
  const before = engine.count('inspect a');
  const answers = Array.from({ length: 100 }, () => ownerOf(IP));
  assert.deepEqual(new Set(await Promise.all(answers)), new Set(['a']));
  assert.equal(engine.count('inspect a') - before, 2);
});

test('an address that a Podman container has lost is removed, and its new one is found', async (t) => {
  const { engine, ownerOf } = await onPodman(t);
  engine.joins('a', BRIDGE, OTHER_IP);
  assert.equal(await ownerOf(IP), undefined);
  assert.equal(await ownerOf(OTHER_IP), 'a');
});

test("known addresses are not valid while Podman's service is away: containers start without it", async (t) => {
  const { engine, clock, directory, ownerOf } = await onPodman(t);
  engine.failure = new EngineUnreachable('no socket');
  engine.breaksStream();
  assert.equal(await ownerOf(IP), 'unavailable');
  assert.equal(directory.state, 'disconnected');
  assert.equal(await ownerOf(IP), 'unavailable');
  engine.failure = undefined;
  await clock.advance(5_000);
  assert.equal(await ownerOf(IP), 'a');
});

test('a stream that breaks while Podman confirms an address leaves the caller undetermined', async (t) => {
  const { engine, directory } = await onPodman(t);
  const inspect = engine.holds('inspect a');
  const answer = watch(Promise.resolve(directory.resolve(IP)));
  await settled();
  assert.equal(inspect.waiting, 1);
  engine.failure = new EngineUnreachable('no socket');
  engine.breaksStream();
  await settled();
  inspect.release();
  await settled();
  assert.ok(answer.error instanceof DirectoryUnavailable, answer.state);
});

test("Podman's event of a network change reads the container's addresses", async (t) => {
  const { engine, directory } = await onPodman(t);
  engine.joins('a', BRIDGE, OTHER_IP);
  engine.emit({ kind: 'networksChanged', container: 'a' });
  await settled();
  assert.equal(directory.peek(OTHER_IP)?.id, 'a');
  assert.equal(directory.peek(IP), undefined);
});

// Network peers

const PEER = { networkMode: 'container:owner' };

/** A running owner of a network, and the state of the wait for its peers: `known`, `pending` or `unavailable`. */
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

async function createPeer(engine: ScriptedEngine): Promise<void> {
  engine.exists('peer', PEER);
  engine.emit(created('peer'));
  await settled();
}

test('without a possible peer there is nothing to wait for', async (t) => {
  const { engine, ask, directory } = await owner(t, (all) => {
    all.runs('peer', {}, PEER);
    all.exists('not-started', { networkMode: 'container:other' });
  });
  const calls = engine.calls.length;
  assert.equal((await ask())(), 'known');
  assert.equal(directory.peersKnown(describeContainer(anEngineContainer({ id: 'x' }), NO_FIELDS)), undefined);
  assert.equal(engine.calls.length, calls);
});

test('the peers of a container are the started ones, in the order of their starts', async (t) => {
  const { engine, directory } = await owner(t, (all) => all.runs('first', {}, PEER));
  const peers = (): string[] => directory.peersOf(directory.peek(IP) ?? assert.fail()).map(({ id }) => id);
  for (const id of ['two', 'one', 'never-started']) engine.exists(id, PEER);
  engine.emit(created('two'), created('one'), created('never-started'));
  await settled();
  assert.deepEqual(peers(), ['first']);
  for (const id of ['one', 'two']) {
    engine.runs(id);
    engine.emit(started(id));
    await settled();
  }
  assert.deepEqual(peers(), ['first', 'one', 'two']);
  engine.stops('first');
  engine.emit(died('first'));
  assert.deepEqual(peers(), ['one', 'two']);
});

test('a created peer is waited for until it starts', async (t) => {
  const { engine, ask, reported } = await owner(t);
  await createPeer(engine);
  const waits = await ask();
  assert.equal(waits(), 'pending');
  engine.runs('peer');
  engine.emit(started('peer'));
  await settled();
  assert.deepEqual([waits(), reported.at(-1)], ['known', 'started peer']);
  assert.equal((await ask())(), 'known');
});

test('the start of one of two created peers does not end the wait for the other', async (t) => {
  const { engine, ask } = await owner(t);
  for (const id of ['one', 'two']) engine.exists(id, PEER);
  engine.emit(created('one'), created('two'));
  await settled();
  const waits = await ask();
  engine.runs('one');
  engine.emit(started('one'));
  await settled();
  assert.equal(waits(), 'pending');
  engine.runs('two');
  engine.emit(started('two'));
  await settled();
  assert.equal(waits(), 'known');
});

test('a peer that does not start is waited for 0.4 s, then not again for 5 s', async (t) => {
  const { engine, clock, ask } = await owner(t);
  await createPeer(engine);
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
  ['another peer is created', (engine: ScriptedEngine) => {
    engine.exists('other', PEER);
    engine.emit(created('other'));
  }],
  ['a running peer has ended', (engine: ScriptedEngine) => {
    engine.stops('running');
    engine.emit(died('running'));
  }],
] as const) {
  test(`a peer that did not start is waited for again when ${news}`, async (t) => {
    const { engine, clock, ask } = await owner(t, (all) => all.runs('running', {}, PEER));
    await createPeer(engine);
    await ask();
    await clock.advance(400);
    assert.equal((await ask())(), 'known');
    happen(engine);
    await settled();
    assert.equal((await ask())(), 'pending');
  });
}

test('a peer created before the first read is waited for until it is destroyed', async (t) => {
  const { engine, ask } = await owner(t, (all) => all.exists('peer', PEER));
  const waits = await ask();
  assert.equal(waits(), 'pending');
  engine.removes('peer');
  engine.emit(destroyed('peer'));
  await settled();
  assert.equal((await ask())(), 'known');
});

test('an ended peer is waited for: it may be restarting', async (t) => {
  const { engine, ask } = await owner(t, (all) => all.runs('peer', {}, PEER));
  engine.stops('peer');
  engine.emit(died('peer'));
  await settled();
  const waits = await ask();
  assert.equal(waits(), 'pending');
  engine.runs('peer');
  engine.emit(started('peer'));
  await settled();
  assert.equal(waits(), 'known');
});

test('a container that is being inspected may turn out to be a peer', async (t) => {
  const { engine, ask } = await owner(t);
  const inspects = ['peer', 'stranger'].map((id) => {
    engine.exists(id, id === 'peer' ? PEER : {});
    return engine.holds(`inspect ${id}`);
  });
  engine.emit(created('peer'), created('stranger'));
  await settled();
  const waits = await ask();
  for (const inspect of inspects) {
    assert.equal(waits(), 'pending');
    inspect.release();
    await settled();
  }
  assert.equal(waits(), 'pending', 'the peer has not started');
  engine.runs('peer');
  engine.emit(started('peer'));
  await settled();
  assert.equal(waits(), 'known');
});

test('a peer that was unknown when it started is waited for during its inspect', async (t) => {
  const { engine, ask, running } = await owner(t);
  engine.runs('peer', {}, PEER);
  const inspect = engine.holds('inspect peer');
  engine.emit(started('peer'));
  await settled();
  const waits = await ask();
  assert.equal(waits(), 'pending');
  inspect.release();
  await settled();
  assert.deepEqual([waits(), running()], ['known', ['owner', 'peer']]);
});

test('a peer that ended before the first read is waited for until a full resync does not show it', async (t) => {
  const { engine, ask, clock } = await owner(t, (all) => {
    all.runs('peer', {}, PEER);
    all.stops('peer');
  });
  assert.equal((await ask())(), 'pending');
  engine.breaksStream();
  engine.removes('peer');
  await clock.advance(6_000);
  assert.equal((await ask())(), 'known');
});

test('a stream that breaks during the wait for a peer leaves the peers undetermined', async (t) => {
  const { engine, clock, ask } = await owner(t, (all) => all.exists('peer', PEER));
  const waits = await ask();
  engine.failure = new EngineUnreachable('away');
  engine.breaksStream();
  await clock.advance(400);
  assert.equal(waits(), 'unavailable');
});

test('a cached miss does not prevent the wait for a new peer', async (t) => {
  const { engine, clock, ask } = await owner(t, (all) => all.exists('old', PEER));
  await ask();
  await clock.advance(500);
  engine.exists('new', PEER);
  const inspect = engine.holds('inspect new');
  engine.emit(created('new'));
  await settled();
  const waits = await ask();
  assert.equal(waits(), 'pending');
  inspect.release();
  await settled();
  assert.equal(waits(), 'pending', 'until it starts');
});

test('an inspect that hangs is waited for 0.4 s, then not again for 5 s', async (t) => {
  const { engine, clock, ask } = await owner(t);
  engine.exists('stuck');
  engine.holds('inspect stuck');
  engine.emit(created('stuck'));
  await settled();
  const waits = await ask();
  await clock.advance(400);
  assert.equal(waits(), 'known');
  assert.equal((await ask())(), 'known');
});

test('Podman lists its containers before peers are known: its events are late', async (t) => {
  const { engine, clock, ask, running } = await owner(t, (all) => {
    all.isPodman = true;
    all.runs('before', {}, PEER);
  });
  engine.stops('before');
  engine.runs('now', {}, PEER);
  let waits = await ask();
  assert.deepEqual([waits(), running()], ['pending', ['owner', 'now']]);
  engine.removes('before');
  engine.emit(destroyed('before'));
  await clock.advance(100);
  assert.equal(waits(), 'known', 'a removed peer does not start');
  engine.exists('next', PEER);
  waits = await ask();
  await clock.advance(100);
  assert.equal(waits(), 'pending');
  engine.runs('next');
  await clock.advance(100);
  assert.deepEqual([waits(), running()], ['known', ['owner', 'now', 'next']]);
});

test('with Podman a peer is waited for as long after a slow list', async (t) => {
  const { engine, clock, ask, running } = await owner(t, (all) => void (all.isPodman = true));
  engine.exists('peer', PEER);
  const list = engine.holds('list');
  const waits = await ask();
  await clock.advance(450);
  list.release();
  await settled();
  assert.equal(waits(), 'pending');
  engine.runs('peer');
  await clock.advance(450);
  assert.deepEqual([waits(), running()], ['known', ['owner', 'peer']]);
});

test('with Podman a stuck container that does not run does not delay a list', async (t) => {
  const { engine, clock, ask, ownerOf } = await owner(t, (all) => void (all.isPodman = true));
  engine.exists('stuck');
  engine.holds('inspect stuck');
  const waits = await ask();
  await clock.advance(400);
  assert.equal(waits(), 'known');
  engine.runs('other', { [BRIDGE]: [OTHER_IP] });
  assert.equal(await ownerOf(OTHER_IP), 'other');
});

test('with Podman a list does not end a container that has restarted since', async (t) => {
  const { engine, ask, reported, running } = await owner(t, (all) => {
    all.isPodman = true;
    all.runs('peer', {}, PEER);
  });
  engine.stops('peer');
  const list = engine.holds('list');
  await ask();
  engine.runs('peer');
  engine.emit(died('peer'), started('peer'));
  await settled();
  const before = reported.length;
  list.release();
  await settled();
  assert.deepEqual([reported.slice(before), running()], [[], ['owner', 'peer']]);
});

test('with Podman the peers are undetermined when the list fails', async (t) => {
  const { engine, ask } = await owner(t, (all) => void (all.isPodman = true));
  engine.fails('list');
  assert.equal((await ask())(), 'unavailable');
});

// By id

test('byId knows a container without an address, and inspects an unknown one', async (t) => {
  const { engine, directory, reported } = await synced(t, (all) => all.runs('a', {}, { networkMode: 'host' }));
  const calls = engine.calls.length;
  assert.equal((await directory.byId('a'))?.network, 'host');
  assert.deepEqual([engine.calls.length, reported], [calls, ['known a', 'started a']]);
  engine.runs('b', {}, { networkMode: 'host' });
  assert.equal((await directory.byId('b'))?.id, 'b');
  assert.equal(await directory.byId('c'), undefined);
  assert.deepEqual(engine.calls.slice(calls), ['inspect b', 'inspect c']);
});

test('byId answers for a known container while the engine is away; others are undetermined', async (t) => {
  const { engine, directory } = await synced(t, (all) => all.runs('a'));
  engine.breaksStream();
  engine.failure = new EngineUnreachable('away');
  await settled();
  assert.equal((await directory.byId('a'))?.id, 'a');
  await assert.rejects(directory.byId('b'), DirectoryUnavailable);
});
