import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { DockerEngine } from '../../support/docker-engine.ts';
import { SeededRandom } from '../../support/seeded-random.ts';
import { host, until, type Host } from '../host.ts';
import { arnOf, sized } from './scale.ts';

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

/** The role that an address gets; undefined for a 503 or 404. */
async function roleOrNone(own: Host, address: string): Promise<string | undefined> {
  const { status, body } = await own.ask(address, '/creds');
  if (status !== 200) {
    assert.ok(status === 503 || status === 404, `${status}`);
    return undefined;
  }
  return own.sts.issuedAs((JSON.parse(body) as { AccessKeyId: string }).AccessKeyId).call.roleArn;
}

describe('Docker', { concurrency: 4 }, () => {
  test('hangs: running containers are served, and afterwards new and removed ones are known', async (t) => {
    const own = await host(t);
    await withTwo(own);
    own.docker.hang();
    for (let times = 0; times < 5; times += 1) await areServed(own);
    own.docker.host.remove('a');
    await own.docker.host.run({ name: 'c', address: C, env: env('c') });
    // The engine cannot report the new container, so its request waits and then fails.
    assert.equal(await roleOrNone(own, C), undefined);
    assert.equal(await own.roleGiven(B), arnOf('b'));
    own.docker.resume();
    assert.equal(await until(() => roleOrNone(own, C), (role) => role !== undefined), arnOf('c'));
    await until(() => own.ask(A, '/creds').then(({ status }) => status), (status) => status === 404);
    assert.equal(await own.roleGiven(B), arnOf('b'));
  });

  test('restarts repeatedly: running containers are served all the time, and never the wrong credentials', async (t) => {
    const own = await host(t);
    await withTwo(own);
    let served = 0;
    let unanswered = 0;
    let done = false;
    const clients = [A, B].map(async (address, index) => {
      while (!done) {
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
    done = true;
    await Promise.all(clients);
    t.diagnostic(`${rounds} restarts: ${served} requests, ${unanswered} unanswered, 0 wrong`);
    assert.equal(unanswered, 0);
  });

  test('is replaced by another engine on the same socket: the new engine\'s containers are served, the old ones are not', async (t) => {
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
    test(`sends a ${kind} answer about a starting container: it is served afterwards, the others all the time`, async (t) => {
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

  test('sends 10,000 events a second: all containers are served, including those that start and end meanwhile', async (t) => {
    const own = await host(t);
    await withTwo(own);
    const random = new SeededRandom(7);
    const id = (): string => random.string('0123456789abcdef', 64, 64);
    const line = (Type: string, Action: string, ID: string, Attributes = {}): string =>
      `${JSON.stringify({ Type, Action, Actor: { ID, Attributes }, time: Math.floor(Date.now() / 1000), timeNano: Date.now() * 1e6 })}\n`;
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
    let events = 0;
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
      events += 1_000;
      await next;
    }
    await until(() => own.ask(C, '/creds').then(({ status }) => status), (status) => status === 404);
    assert.equal(own.docker.subscriptions.entries.length, 1);
    t.diagnostic(`${events} events in about ${seconds} s, ${lives} lives among them, 0 wrong`);
  });
});
