import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { MesosTasks } from '../../lib/callers/mesos.ts';
import { CallerUndetermined, describe } from '../../lib/caller.ts';

/** An agent whose every answer is what `state` says, and a client with a clock of its own. */
async function agent(t: TestContext, state: { text: string; status?: number }) {
  let asked = 0;
  const server = createServer((_, response) => {
    asked += 1;
    response.writeHead(state.status ?? 200).end(state.text);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const time = { now: 0 };
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/state`);
  const tasks = new MesosTasks({
    url,
    timeout: 20_000,
    clock: { now: () => time.now, monotonic: () => time.now, after: () => () => {} },
  });
  return { tasks, time, url, asked: () => asked };
}

interface Status {
  readonly state: string;
  readonly addresses?: readonly string[];
}

const task = (
  id: string,
  statuses: readonly Status[],
  labels?: Readonly<Record<string, string>>,
): object => ({
  id,
  name: `name of ${id}`,
  ...(labels && { labels: Object.entries(labels).map(([key, value]) => ({ key, value })) }),
  statuses: statuses.map(({ state, addresses = [] }) => ({
    state,
    container_status: { network_infos: [{ ip_addresses: addresses.map((ip_address) => ({ ip_address })) }] },
  })),
});
const stateOf = (...tasks: object[]): string => JSON.stringify({ frameworks: [{ executors: [{ tasks }] }] });

test('a running task is found by each of its addresses, with its labels', async (t) => {
  const { tasks } = await agent(t, {
    text: stateOf(
      task('one', [{ state: 'TASK_RUNNING', addresses: ['10.0.0.7', 'FD00::0007'] }], {
        IAM_ROLE: 'app',
        team: 'shop',
      }),
    ),
  });
  const found = await tasks.resolve('10.0.0.7');
  assert.equal(found?.name, 'name of one');
  assert.deepEqual(
    [...found.labels],
    [
      ['IAM_ROLE', 'app'],
      ['team', 'shop'],
    ],
  );
  assert.equal(describe(found).env, found.labels, 'which stand for environment variables, too');
  assert.equal((await tasks.resolve('fd00::7'))?.id, found.id);
  assert.equal(await tasks.resolve('10.0.0.8'), undefined);
});

for (const state of ['TASK_STAGING', 'TASK_FINISHED', 'TASK_KILLED', 'TASK_FAILED', 'TASK_LOST']) {
  test(`the address of a status ${state} belongs to no task`, async (t) => {
    const { tasks } = await agent(t, {
      text: stateOf(task('one', [{ state, addresses: ['10.0.0.7'] }], { IAM_ROLE: 'app' })),
    });
    assert.equal(await tasks.resolve('10.0.0.7'), undefined);
  });
}

test('all frameworks, executors and tasks are searched', async (t) => {
  const running = (address: string): object =>
    task(address, [{ state: 'TASK_STARTING' }, { state: 'TASK_RUNNING', addresses: [address] }]);
  const { tasks } = await agent(t, {
    text: JSON.stringify({
      frameworks: [
        {
          executors: [
            { tasks: [running('10.0.0.1')] },
            {},
            { tasks: [running('10.0.0.2'), running('10.0.0.3')] },
          ],
        },
        { executors: [{ tasks: [running('10.0.0.4')] }] },
      ],
    }),
  });
  for (const address of ['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.4'])
    assert.equal((await tasks.resolve(address))?.name, `name of ${address}`);
});

test('two tasks with one name are two callers', async (t) => {
  const { tasks } = await agent(t, {
    text: stateOf(
      task('a', [{ state: 'TASK_RUNNING', addresses: ['10.0.0.1'] }]),
      task('b', [{ state: 'TASK_RUNNING', addresses: ['10.0.0.2'] }]),
    ),
  });
  assert.notEqual((await tasks.resolve('10.0.0.1'))?.id, (await tasks.resolve('10.0.0.2'))?.id);
});

test('an answer is cached for one second', async (t) => {
  const state = { text: stateOf(task('one', [{ state: 'TASK_RUNNING', addresses: ['10.0.0.7'] }])) };
  const { tasks, time, asked } = await agent(t, state);
  await Promise.all(['10.0.0.7', '10.0.0.8', '10.0.0.7'].map((address) => tasks.resolve(address)));
  assert.equal(asked(), 1);
  state.text = stateOf();
  time.now = 999;
  assert.equal((await tasks.resolve('10.0.0.7'))?.name, 'name of one');
  time.now = 1000;
  assert.equal(await tasks.resolve('10.0.0.7'), undefined);
  assert.equal(asked(), 2);
});

for (const [what, answer] of [
  ['an error', { status: 500, text: '{}' }],
  ['a redirect', { status: 302, text: stateOf() }],
  ['no JSON', { text: '<html>' }],
] as const) {
  test(`while the agent answers ${what} every caller is undetermined`, async (t) => {
    const { tasks, url } = await agent(t, answer);
    await assert.rejects(tasks.resolve('10.0.0.7'), (error) => {
      assert.ok(error instanceof CallerUndetermined);
      assert.ok(error.message.startsWith(`the Mesos agent at ${url.href}: `), error.message);
      return true;
    });
  });
}

test('an agent that does not answer is asked again after a second', async (t) => {
  const state = { status: 500, text: '' };
  const { tasks, time } = await agent(t, state);
  await assert.rejects(tasks.resolve('10.0.0.7'), CallerUndetermined);
  Object.assign(state, {
    status: 200,
    text: stateOf(task('one', [{ state: 'TASK_RUNNING', addresses: ['10.0.0.7'] }])),
  });
  time.now = 1000;
  assert.equal((await tasks.resolve('10.0.0.7'))?.name, 'name of one');
});

test('a state of any other shape has no tasks', async (t) => {
  for (const text of [
    '{}',
    '[]',
    'null',
    '{"frameworks": 5}',
    '{"frameworks": [{"executors": [{"tasks": [null, {"statuses": [{"state": "TASK_RUNNING"}]}]}]}]}',
  ]) {
    const { tasks } = await agent(t, { text });
    assert.equal(await tasks.resolve('10.0.0.7'), undefined, text);
  }
});
