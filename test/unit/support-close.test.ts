import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { test } from 'node:test';
import { request } from '../support/client.ts';
import { DockerEngine } from '../support/docker-engine.ts';
import { Imds } from '../support/imds.ts';
import { Sts } from '../support/sts.ts';

/** A timer that survived close() would keep this process alive. */
const AN_HOUR = 3_600_000;

test('closing the fake IMDS ends pending, delayed, paused and endless answers', async () => {
  const imds = await Imds.start();
  imds.fault('/pending', { kind: 'hold' });
  imds.fault('/delayed', { kind: 'delay', ms: AN_HOUR });
  imds.fault('/paused', { kind: 'pause-in-body' });
  imds.fault('/endless', { kind: 'endless', framing: 'chunked' });
  const paths = ['/pending', '/delayed', '/paused', '/endless'];
  const answers = paths.map((path) => request({ port: imds.port, path }));
  const outcomes = Promise.allSettled(answers);
  await imds.requests.several(4);
  await imds.close();
  assert.deepEqual((await outcomes).map(({ status }) => status), Array(4).fill('rejected'));
  assert.equal(imds.openConnections, 0);
});

test('closing the fake STS ends pending and delayed answers', async () => {
  const sts = await Sts.start();
  sts.fault({ kind: 'hold' }, ({ action }) => action === 'Pending');
  sts.fault({ kind: 'delay', ms: AN_HOUR }, ({ action }) => action === 'Delayed');
  const port = Number(new URL(sts.url).port);
  const answers = ['Pending', 'Delayed'].map((action) =>
    request({ port, method: 'POST', body: `Action=${action}` }));
  const outcomes = Promise.allSettled(answers);
  await sts.calls.several(2);
  await sts.close();
  assert.deepEqual((await outcomes).map(({ status }) => status), Array(2).fill('rejected'));
});

test('closing the fake Docker Engine ends pending, delayed and streaming answers and removes its socket', async () => {
  const engine = await DockerEngine.start();
  const starting = engine.host.create();
  engine.host.connect(starting, 'bridge');
  engine.fault('/version', { kind: 'delay', ms: AN_HOUR });
  const paths = ['/events', '/version', `/containers/${starting.id}/json`];
  const ends = paths.map((path) => new Promise((resolve) => {
    const outgoing = httpRequest({ socketPath: engine.socketPath, path, agent: false });
    outgoing.on('response', (response) => response.on('error', () => {}).resume());
    outgoing.on('error', () => {}).on('close', resolve);
    outgoing.end();
  }));
  await engine.requests.several(3);
  engine.hang();
  await engine.close();
  await Promise.all(ends);
  assert.deepEqual([existsSync(engine.socketPath), engine.subscriberCount], [false, 0]);
});
