import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readConfig } from '../../lib/config/config.ts';
import { Log } from '../../lib/log/log.ts';
import { startExporters } from '../../lib/telemetry/export/start.ts';
import { DogStatsD } from '../../lib/telemetry/export/dogstatsd.ts';
import { MetricsRegistry } from '../../lib/telemetry/metrics/registry.ts';
import { Statsd } from '../../lib/telemetry/export/statsd.ts';
import { Statsite } from '../../lib/telemetry/export/statsite.ts';
import { ManualClock, settled } from './helpers/manual-clock.ts';
import { INTERVAL, told, type Told } from './helpers/pushing.ts';
import { streamReceiver, udpReceiver } from './helpers/receivers.ts';

const local = (port: number): { host: string; port: number } => ({ host: '127.0.0.1', port });
const REQUEST = {
  name: 'metadataproxy.http_request',
  help: '',
  labels: ['api_version', 'handler_name', 'response_code'],
};
const LABELS = ['latest', 'passthrough', '200'];

/** Counts `lines` different series, each a line of `bytes` bytes as statsd has it. */
function countMany(metrics: MetricsRegistry, lines: number, bytes: number): void {
  const family = metrics.counter({ name: 'n', help: '', labels: ['l'] });
  const rest = 'n.:1.000000|c\n'.length;
  for (let n = 0; n < lines; n += 1) family.labels([`${n}`.padStart(bytes - rest, 'x')]).add();
}

// UDP

test('statsd: one datagram an interval, with what was counted in it', async (t) => {
  const receiver = await udpReceiver(t);
  const { clock, metrics, options, spells, dropped } = told();
  const backend = new Statsd({ ...options, address: local(receiver.port) });
  const requests = metrics.counter(REQUEST);
  requests.labels(LABELS).add(2);
  await clock.advance(INTERVAL - 1);
  assert.deepEqual(receiver.packets.entries, []);
  await clock.advance(1);
  await receiver.packets.first();
  requests.labels(LABELS).add();
  await clock.advance(INTERVAL);
  await receiver.packets.several(2);
  await clock.advance(INTERVAL);
  requests.labels(LABELS).add(5);
  await backend.close();
  await receiver.packets.several(3);
  assert.deepEqual(receiver.packets.entries, [2, 1, 5].map((n) =>
    `metadataproxy.http_request.latest.passthrough.200:${n}.000000|c\n`));
  assert.deepEqual([spells.entries, dropped(), clock.pending], [[], 0, []]);
});

test('DogStatsD: datagrams of tags', async (t) => {
  const receiver = await udpReceiver(t);
  const { clock, metrics, options } = told();
  const backend = new DogStatsD({ ...options, address: local(receiver.port) });
  metrics.counter(REQUEST).labels(LABELS).add(2);
  metrics.gauge({ ...REQUEST, name: 'metadataproxy.aws_response_time' }).labels(['', 'passthrough', '']).set(1_234_567);
  await clock.advance(INTERVAL);
  assert.equal(await receiver.packets.first(),
    'metadataproxy.http_request:2|c|#api_version:latest,handler_name:passthrough,response_code:200\n' +
    'metadataproxy.aws_response_time:1234567|g|#handler_name:passthrough\n');
  await backend.close();
});

for (const [name, most, Exporter] of [['statsd', 1400, Statsd], ['DogStatsD', 1432, DogStatsD]] as const) {
  test(`${name}: datagrams have ${most} bytes at the most, and all that was counted`, async (t) => {
    const receiver = await udpReceiver(t);
    const { clock, metrics, options, dropped } = told();
    const backend = new Exporter({ ...options, address: local(receiver.port) });
    countMany(metrics, 100, 100);
    await clock.advance(INTERVAL);
    await backend.close();
    const isWhole = (): boolean => receiver.packets.entries.join('').split('\n').length === 101;
    if (!isWhole()) await receiver.packets.next(isWhole);
    const sizes = receiver.packets.entries.map((packet) => packet.length);
    assert.ok(sizes.every((size) => size <= most), String(sizes));
    assert.ok(sizes.slice(0, -1).every((size) => size > most - 100), String(sizes));
    assert.equal(dropped(), 0);
  });
}

test('statsd: a refusal (ICMP) is one spell of trouble, what is lost is counted, and the rest waits', async (t) => {
  const gone = await udpReceiver(t);
  await gone.close();
  const { clock, metrics, options, spells, dropped } = told();
  const backend = new Statsd({ ...options, address: local(gone.port) });
  countMany(metrics, 140, 100);
  const lost = async (lines: number): Promise<void> => {
    while (dropped() < lines) await settled();
  };
  await clock.advance(INTERVAL);
  await lost(14);
  assert.deepEqual(spells.entries, ['trouble: recvmsg ECONNREFUSED']);
  const after = dropped();
  await clock.advance(10 * INTERVAL);
  await lost(after + 14);
  assert.deepEqual(spells.entries, ['trouble: recvmsg ECONNREFUSED']);

  const back = await udpReceiver(t, gone.port);
  await clock.advance(10 * INTERVAL);
  await back.packets.first();
  await settled();
  const came = back.packets.entries.join('').trimEnd().split('\n').length;
  assert.equal(came + dropped(), 140, 'what was not lost came when the receiver was back');
  await clock.advance(2 * INTERVAL);
  assert.deepEqual(spells.entries, ['trouble: recvmsg ECONNREFUSED', 'over']);
  await backend.close();
});

test('a name that does not resolve is trouble, and nothing of what was counted is lost', async (t) => {
  const receiver = await udpReceiver(t);
  const { clock, metrics, options, spells, dropped } = told();
  let known = false;
  const backend = new Statsd({
    ...options,
    address: { host: 'receiver.invalid', port: receiver.port },
    lookup: async (host) => {
      if (!known) throw new Error(`getaddrinfo ENOTFOUND ${host}`);
      return [{ address: '127.0.0.1', family: 4 }];
    },
  });
  metrics.counter(REQUEST).labels(LABELS).add(2);
  await clock.advance(10 * INTERVAL);
  metrics.counter(REQUEST);
  assert.deepEqual([spells.entries, dropped()], [['trouble: getaddrinfo ENOTFOUND receiver.invalid'], 0]);
  known = true;
  await clock.advance(10 * INTERVAL);
  assert.match(await receiver.packets.first(), /^metadataproxy\.http_request\.\S+:2\.000000\|c\n$/);
  assert.deepEqual(spells.entries.slice(1), ['over']);
  await backend.close();
});

test('the real resolver says of receiver.invalid that there is none', async () => {
  for (const Exporter of [Statsd, Statsite]) {
    const { clock, metrics, options, spells } = told();
    const backend = new Exporter({ ...options, address: { host: 'receiver.invalid', port: 8125 } });
    metrics.counter(REQUEST).labels(LABELS).add();
    await clock.advance(INTERVAL);
    assert.match(await spells.first(), /^trouble: getaddrinfo (ENOTFOUND|EAI_AGAIN) receiver\.invalid$/);
    await backend.close();
  }
});

test('a look-up that hangs is given up after 30 s, and no second one is begun beside it', async () => {
  const { clock, metrics, options, spells } = told();
  let lookups = 0;
  const lookup = (): Promise<never> => {
    lookups += 1;
    return new Promise(() => {});
  };
  const backend = new Statsd({ ...options, address: { host: 'slow.example', port: 1 }, lookup });
  metrics.counter(REQUEST).labels(LABELS).add();
  await clock.advance(INTERVAL + 30_000);
  assert.deepEqual(spells.entries, ['trouble: nothing was taken for 30 s']);
  await clock.advance(600_000);
  assert.deepEqual([lookups, spells.entries.length], [1, 1]);
  const closed = backend.close();
  await clock.advance(1_000);
  await closed;
  assert.deepEqual(clock.pending.filter((wait) => wait > 30_000), []);
});

test('after a failure the next address of the name is tried', async (t) => {
  const receiver = await udpReceiver(t);
  const { clock, metrics, options, spells } = told();
  const backend = new Statsd({
    ...options,
    address: { host: 'two.example', port: receiver.port },
    // Nobody listens on the first.
    lookup: async () => [{ address: '127.0.0.2', family: 4 }, { address: '127.0.0.1', family: 4 }],
  });
  const gauge = metrics.gauge({ ...REQUEST, name: 'g' });
  gauge.labels(LABELS).set(1);
  await clock.advance(INTERVAL);
  await spells.first();
  await clock.advance(3 * INTERVAL);
  await receiver.packets.first();
  await backend.close();
});

// Streams

/** What was counted, by line of statsd. */
function sums(text: string): Record<string, number> {
  const found: Record<string, number> = {};
  for (const [, name = '', value] of text.matchAll(/^([^\s:]+):([\d.]+)\|c$/gm)) found[name] = (found[name] ?? 0) + Number(value);
  return found;
}

/** The next round of a backend whose failures may have made it wait for longer. */
async function untilRound(at: Told, happened: () => boolean): Promise<void> {
  for (let waited = 0; !happened(); waited += 1) {
    assert.ok(waited < 1_000, 'in vain');
    await at.clock.advance(INTERVAL);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test('statsite: lines over one connection, round after round', async (t) => {
  const receiver = await streamReceiver(t);
  const at = told();
  const backend = new Statsite({ ...at.options, address: local(receiver.port) });
  const requests = at.metrics.counter(REQUEST);
  for (const n of [1, 2, 3]) {
    requests.labels(LABELS).add(n);
    await at.clock.advance(INTERVAL);
    await receiver.came(new RegExp(`:${n}\\.000000\\|c\\n$`));
  }
  await backend.close();
  assert.equal(receiver.connections.entries.length, 1);
  assert.deepEqual([at.spells.entries, at.dropped()], [[], 0]);
  assert.equal(receiver.text(), [1, 2, 3].map((n) => `metadataproxy.http_request.latest.passthrough.200:${n}.000000|c\n`).join(''));
});

test('statsite: while it is away nothing is lost; then it is reached again', async (t) => {
  const before = await streamReceiver(t);
  const at = told();
  const backend = new Statsite({ ...at.options, address: local(before.port) });
  const requests = at.metrics.counter(REQUEST);
  requests.labels(LABELS).add();
  await at.clock.advance(INTERVAL);
  await before.came(/:1\.000000\|c\n$/);
  await before.close();
  await at.spells.first();
  requests.labels(LABELS).add(10);
  for (let n = 0; n < 20; n += 1) await at.clock.advance(INTERVAL);
  requests.labels(LABELS).add(10);
  const after = await streamReceiver(t, { port: before.port });
  await untilRound(at, () => after.text() !== '');
  assert.deepEqual(sums(after.text()), { 'metadataproxy.http_request.latest.passthrough.200': 20 });
  await untilRound(at, () => at.spells.entries.length === 2);
  assert.deepEqual([at.spells.entries[1], at.dropped()], ['over', 0]);
  await backend.close();
});

test('statsite: while it is away the waits grow, by backoff, to a minute', async (t) => {
  const away = await streamReceiver(t);
  await away.close();
  const at = told();
  const backend = new Statsite({ ...at.options, random: () => 0.2, address: local(away.port) });
  const waits: number[] = [];
  for (let round = 0; round < 5; round += 1) {
    // The refusal comes at the kernel's own time; until then the timer that gives up after 30 s is the only one.
    while (at.clock.pending.includes(30_000)) await settled();
    const [wait = 0] = at.clock.pending;
    waits.push(wait);
    await at.clock.advance(wait);
  }
  assert.deepEqual(waits, [10_000, 6_000, 12_000, 24_000, 36_000]);
  while (at.clock.pending.includes(30_000)) await settled();
  assert.match(at.spells.entries.join(), /^trouble: connect ECONNREFUSED 127\.0\.0\.1:\d+$/);
  await backend.close();
});

for (const [how, onConnection] of [
  ['closes at once', (socket) => void socket.end()],
  ['resets the connection at once', (socket) => void socket.resetAndDestroy()],
  ['resets the connection when it has read something', (socket) => void socket.once('data', () => socket.resetAndDestroy())],
] as const satisfies readonly (readonly [string, (socket: Socket) => void])[]) {
  test(`statsite: a receiver that ${how} is one spell of trouble, and is tried again and again`, async (t) => {
    const receiver = await streamReceiver(t, { onConnection });
    const at = told();
    const backend = new Statsite({ ...at.options, address: local(receiver.port) });
    const requests = at.metrics.counter(REQUEST);
    await untilRound(at, () => {
      requests.labels(LABELS).add();
      return receiver.connections.entries.length >= 5;
    });
    assert.equal(at.spells.entries.length, 1, at.spells.entries.join());
    assert.match(at.spells.entries[0] ?? '', /^trouble: /);
    await backend.close();
  });
}

test('statsite: a receiver that never reads holds back one packet, is given up after 30 s, and the rest waits', async (t) => {
  const receiver = await streamReceiver(t, { onConnection: (socket) => socket.pause() });
  const at = told();
  const backend = new Statsite({ ...at.options, address: local(receiver.port) });
  // More than the kernel takes for both ends (tcp_wmem, tcp_rmem).
  for (let family = 0; family < 10; family += 1) {
    const counters = at.metrics.counter({ name: `n${family}`, help: '', labels: ['l'] });
    for (let n = 0; n < 1_800; n += 1) counters.labels([`${n}`.padStart(4_000, 'x')]).add();
  }
  await untilRound(at, () => at.spells.entries.length > 0);
  assert.deepEqual(at.spells.entries, ['trouble: nothing was taken for 30 s']);
  assert.ok(at.dropped() >= 1 && at.dropped() <= 2 * (16 * 1024) / 4_000, `${at.dropped()}`);
  let unread = 0;
  for (const family of at.metrics.collect()) unread += family.series.length;
  assert.equal(unread, 18_000);
  const closed = backend.close();
  await at.clock.advance(1_000);
  await closed;
});

test('statsite: what a receiver says is not read on', async (t) => {
  let taken = 0;
  const receiver = await streamReceiver(t, {
    onConnection: (socket) => {
      socket.resume();
      const pour = (): void => {
        while (!socket.destroyed && taken < 64 * 1024 * 1024 && socket.write(Buffer.alloc(64 * 1024))) taken += 64 * 1024;
      };
      socket.on('drain', pour);
      pour();
    },
  });
  const at = told();
  const backend = new Statsite({ ...at.options, address: local(receiver.port) });
  at.metrics.counter(REQUEST).labels(LABELS).add();
  await untilRound(at, () => receiver.connections.entries.length > 0);
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.ok(taken < 32 * 1024 * 1024, `${taken}`);
  await backend.close();
});

test('DogStatsD: over a stream socket each packet follows its length, and has 8 kB at the most', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'metadataproxy-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'dsd.socket');
  const receiver = await streamReceiver(t, { path });
  const at = told();
  const backend = new DogStatsD({ ...at.options, address: { path } });
  countMany(at.metrics, 500, 100);
  await at.clock.advance(INTERVAL);
  await receiver.connections.first();
  await untilRound(at, () => (receiver.text().match(/\n/g) ?? []).length >= 500);
  await backend.close();
  const bytes = Buffer.from(receiver.text(), 'latin1');
  let lines = 0;
  for (let position = 0; position < bytes.length;) {
    const length = bytes.readUInt32LE(position);
    const packet = bytes.toString('latin1', position + 4, position + 4 + length);
    assert.ok(length <= 8192 && packet.length === length && packet.endsWith('\n'), `${length}`);
    lines += packet.split('\n').length - 1;
    position += 4 + length;
  }
  assert.equal(lines, 500);
});

test('DogStatsD: a path where nobody listens is trouble', async () => {
  const at = told();
  const backend = new DogStatsD({ ...at.options, address: { path: '/nonexistent/dsd.socket' } });
  await at.clock.advance(INTERVAL);
  assert.equal(await at.spells.first(), 'trouble: connect ENOENT /nonexistent/dsd.socket');
  await backend.close();
});

test('close sends what is left, and waits a second for a receiver that does not take it', async (t) => {
  const receiver = await streamReceiver(t);
  const at = told();
  const backend = new Statsite({ ...at.options, address: local(receiver.port) });
  at.metrics.counter(REQUEST).labels(LABELS).add(4);
  await backend.close();
  await receiver.came(/:4\.000000\|c\n$/);
  assert.deepEqual(at.clock.pending, []);
});

// Together

test('every backend that is set is started, and what each drops is counted', async (t) => {
  const [statsd, datadog] = [await udpReceiver(t), await udpReceiver(t)];
  const statsite = await streamReceiver(t);
  const [clock, metrics] = [new ManualClock(), new MetricsRegistry()];
  const log = new Log({ level: 'info', format: 'text', host: '', write: () => {}, now: () => 0 });
  const backends = startExporters(
    {
      ...readConfig({}, {}),
      statsdAddress: local(statsd.port),
      statsiteAddress: local(statsite.port),
      datadogAddress: local(datadog.port),
      metricsInterval: 1_000,
    },
    metrics, log, clock, '1.2.3',
  );
  assert.equal(backends.length, 3);
  metrics.counter({ name: 'long', help: '', labels: ['l'] }).labels(['x'.repeat(9_000)]).add();
  metrics.counter({ name: 'short', help: '' }).labels().add();
  await clock.advance(1_000);
  const short = /^short:1\.000000\|c$/m;
  await Promise.all([
    statsd.packets.first((text) => short.test(text)),
    statsite.came(short),
    datadog.packets.first((text) => /^short:1\|c$/m.test(text)),
  ]);
  const dropped = metrics.collect().find(({ name }) => name === 'metadataproxy.telemetry_dropped_total');
  assert.deepEqual(dropped?.series.map((series) => [series.labels[0], 'value' in series && series.value]), [
    ['statsd', 1], ['statsite', 1], ['datadog', 1],
  ]);
  await Promise.all(backends.map((backend) => backend.close()));
  assert.deepEqual(clock.pending, []);
});

test('without a setting there is no backend', () => {
  const log = new Log({ level: 'info', format: 'text', host: '', write: () => {}, now: () => 0 });
  assert.deepEqual(startExporters(readConfig({}, {}), new MetricsRegistry(), log, new ManualClock(), '1.2.3'), []);
});
