import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { DockerEngine } from '../../support/docker-engine.ts';
import { SeededRandom } from '../../support/seeded-random.ts';
import { host, until, type Host } from '../host.ts';
import { arnOf, sized } from './size.ts';

const env = (name: string) => ({ IAM_ROLE: arnOf(name) });
const [A, B, C] = ['127.0.6.1', '127.0.6.2', '127.0.6.3'];

async function withTwo(own: Host): Promise<void> {
  await own.docker.host.run({ name: 'a', address: A, env: env('a') });
  await own.docker.host.run({ name: 'b', address: B, env: env('b') });
  await areServed(own);
}

async function areServed(own: Host): Promise<void> {
  assert.equal(await own.roleGiven(A), arnOf('a'));
  assert.equal(await own.roleGiven(B), arnOf('b'));
}

/** The role that an address is given, or undefined while it cannot be told; never another container's. */
async function roleOrNone(own: Host, address: string): Promise<string | undefined> {
  const { status, body } = await own.ask(address, '/creds');
  if (status !== 200) {
    assert.ok(status === 503 || status === 404, `${status}`);
    return undefined;
  }
  return own.sts.issuedAs((JSON.parse(body) as { AccessKeyId: string }).AccessKeyId).call.roleArn;
}

describe('Docker', { concurrency: 4 }, () => {
  test('hangs: who runs is served, and after it who came and went meanwhile is known', async (t) => {
    const own = await host(t);
    await withTwo(own);
    own.docker.hang();
    for (let times = 0; times < 5; times += 1) await areServed(own);
    own.docker.host.remove('a');
    await own.docker.host.run({ name: 'c', address: C, env: env('c') });
    // It hangs, so nobody can have told: the one that came has to wait, and is told that after a while.
    assert.equal(await roleOrNone(own, C), undefined);
    assert.equal(await own.roleGiven(B), arnOf('b'));
    own.docker.resume();
    assert.equal(await until(() => roleOrNone(own, C), (role) => role !== undefined), arnOf('c'));
    await until(() => own.ask(A, '/creds').then(({ status }) => status), (status) => status === 404);
    assert.equal(await own.roleGiven(B), arnOf('b'));
  });

  test('is restarted again and again: who runs is served all the time, and none wrongly', async (t) => {
    const own = await host(t);
    await withTwo(own);
    let served = 0;
    let unanswered = 0;
    let over = false;
    const asking = [A, B].map(async (address, index) => {
      while (!over) {
        const role = await roleOrNone(own, address);
        if (role === undefined) unanswered += 1;
        else assert.equal(role, arnOf(index === 0 ? 'a' : 'b'));
        served += 1;
      }
    });
    const rounds = sized(3, 30);
    for (let round = 0; round < rounds; round += 1) {
      await own.docker.stop();
      await pause(100);
      const known = own.proxy.logs.next(({ msg }) => msg === 'containers known');
      await own.docker.listen();
      await known;
    }
    over = true;
    await Promise.all(asking);
    t.diagnostic(`${rounds} restarts: ${served} requests, ${unanswered} unanswered, 0 wrong`);
    assert.equal(unanswered, 0);
  });

  test('has its socket replaced by another engine: its containers count, and the old ones no more', async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'docker-socket-'));
    t.after(() => rmSync(directory, { recursive: true }));
    const path = join(directory, 'docker.sock');
    const replace = (engine: DockerEngine): void => {
      symlinkSync(engine.socketPath, `${path}.new`);
      renameSync(`${path}.new`, path);
    };
    const [first, second] = [await DockerEngine.start(), await DockerEngine.start()];
    t.after(() => second.close());
    replace(first);
    const own = await host(t, { docker: first, env: { DOCKER_URL: `unix://${path}` } });
    await withTwo(own);
    second.host.addNetwork({ name: 'other' });
    await second.host.run({ name: 'swapped', address: A, env: env('swapped') });
    replace(second);
    await areServed(own);
    const known = own.proxy.logs.next(({ msg }) => msg === 'containers known');
    await first.stop();
    await known;
    assert.equal(await own.roleGiven(A), arnOf('swapped'));
    assert.equal((await own.ask(B, '/creds')).status, 404);
  });

  for (const kind of ['cut', 'truncated', 'malformed', 'reset'] as const) {
    test(`answers what is ${kind} about a container that starts: it is served after it, the others all the time`, async (t) => {
      const own = await host(t);
      await withTwo(own);
      const fault = own.docker.fault(/^\/(containers|networks)\//, { kind }, sized(4, 4));
      await own.docker.host.run({ name: 'c', address: C, env: env('c') });
      await areServed(own);
      await until(() => roleOrNone(own, C), (role) => role === arnOf('c'));
      fault.lift();
      await areServed(own);
    });
  }

  test('tells 10,000 events a second: everybody is served, who comes and goes among them, too', async (t) => {
    const own = await host(t);
    await withTwo(own);
    const random = new SeededRandom(7);
    const id = (): string => random.string('0123456789abcdef', 64, 64);
    const line = (Type: string, Action: string, ID: string, Attributes = {}): string =>
      `${JSON.stringify({ Type, Action, Actor: { ID, Attributes }, time: 1, timeNano: 1 })}\n`;
    const noise = (): string => random.pick([
      () => line('container', 'die', id()),
      () => line('container', 'destroy', id()),
      () => line('container', 'exec_start: sh', id()),
      () => line('container', 'rename', id(), { name: 'x', oldName: '/y' }),
      () => line('network', 'disconnect', id(), { container: id(), type: 'bridge' }),
      () => line('image', 'pull', id()),
    ])();
    const seconds = sized(2, 30);
    let lives = 0;
    let told = 0;
    for (let tenth = 0; tenth < seconds * 10; tenth += 1) {
      const next = pause(100);
      const half = Array.from({ length: 500 }, noise).join('');
      own.docker.writeToSubscribers(half);
      const name = `short-${lives}`;
      const container = await own.docker.host.run({ name, address: C, env: env(name) });
      own.docker.writeToSubscribers(half);
      assert.equal(await own.roleGiven(C), arnOf(name));
      await areServed(own);
      own.docker.host.remove(container);
      lives += 1;
      told += 1_000;
      await next;
    }
    await until(() => own.ask(C, '/creds').then(({ status }) => status), (status) => status === 404);
    assert.equal(own.docker.subscriptions.entries.length, 1);
    t.diagnostic(`${told} events in some ${seconds} s, ${lives} lives among them, 0 wrong`);
  });
});
