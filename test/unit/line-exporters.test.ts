import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readConfig } from '../../lib/config/config.ts';
import { Log } from '../../lib/log/log.ts';
import { dogstatsd, startExporters, statsd, statsite } from '../../lib/telemetry/export/start.ts';
import { MetricsRegistry } from '../../lib/telemetry/metrics/registry.ts';
import { ManualClock, settled } from './helpers/manual-clock.ts';
import { exporting, INTERVAL, type Exporting } from './helpers/exporting.ts';
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

test('statsd: one datagram per interval, with the growth of the counters', async (t) => {
  const receiver = await udpReceiver(t);
  const { clock, metrics, options, outages, dropped } = exporting();
  const exporter = statsd(options, local(receiver.port));
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
  await exporter.close();
  await receiver.packets.several(3);
  assert.deepEqual(receiver.packets.entries, [2, 1, 5].map((n) =>
    `metadataproxy.http_request.latest.passthrough.200:${n}.000000|c\n`));
  assert.deepEqual([outages.entries, dropped(), clock.pending], [[], 0, []]);
});

test('DogStatsD: labels are tags', async (t) => {
  const receiver = await udpReceiver(t);
  const { clock, metrics, options } = exporting();
  const exporter = dogstatsd(options, local(receiver.port));
  metrics.counter(REQUEST).labels(LABELS).add(2);
  metrics.gauge({ ...REQUEST, name: 'metadataproxy.aws_response_time' }).labels(['', 'passthrough', '']).set(1_234_567);
  await clock.advance(INTERVAL);
  assert.equal(await receiver.packets.first(),
    'metadataproxy.http_request:2|c|#api_version:latest,handler_name:passthrough,response_code:200\n' +
    'metadataproxy.aws_response_time:1234567|g|#handler_name:passthrough\n');
  await exporter.close();
});

for (const [name, most, start] of [['statsd', 1400, statsd], ['DogStatsD', 1432, dogstatsd]] as const) {
  test(`${name}: datagrams have at most ${most} bytes and lose nothing`, async (t) => {
    const receiver = await udpReceiver(t);
    const { clock, metrics, options, dropped } = exporting();
    const exporter = start(options, local(receiver.port));
    countMany(metrics, 100, 100);
    await clock.advance(INTERVAL);
    await exporter.close();
    const isWhole = (): boolean => receiver.packets.entries.join('').split('\n').length === 101;
    if (!isWhole()) await receiver.packets.next(isWhole);
    const sizes = receiver.packets.entries.map((packet) => packet.length);
    assert.ok(sizes.every((size) => size <= most), String(sizes));
    assert.ok(sizes.slice(0, -1).every((size) => size > most - 100), String(sizes));
    assert.equal(dropped(), 0);
  });
}

test('statsd: ICMP port unreachable is one outage; lost lines count as dropped, and the rest is sent later', async (t) => {
  const gone = await udpReceiver(t);
  await gone.close();
  const { clock, metrics, options, outages, dropped } = exporting();
  const exporter = statsd(options, local(gone.port));
  countMany(metrics, 140, 100);
  const lost = async (lines: number): Promise<void> => {
    while (dropped() < lines) await settled();
  };
  await clock.advance(INTERVAL);
  await lost(14);
  assert.deepEqual(outages.entries, ['failed: recvmsg ECONNREFUSED']);
  const after = dropped();
  await clock.advance(10 * INTERVAL);
  await lost(after + 14);
  assert.deepEqual(outages.entries, ['failed: recvmsg ECONNREFUSED']);

  const back = await udpReceiver(t, gone.port);
  await clock.advance(10 * INTERVAL);
  await back.packets.first();
  await settled();
  const came = back.packets.entries.join('').trimEnd().split('\n').length;
  assert.equal(came + dropped(), 140, 'what was not dropped arrived when the receiver was back');
  await clock.advance(2 * INTERVAL);
  assert.deepEqual(outages.entries, ['failed: recvmsg ECONNREFUSED', `recovered, ${dropped()} dropped`]);
  await exporter.close();
});

test('a name that does not resolve is an outage, and nothing is lost', async (t) => {
  const receiver = await udpReceiver(t);
  const { clock, metrics, options, outages, dropped } = exporting();
  let known = false;
  const exporter = statsd(options, { host: 'receiver.invalid', port: receiver.port }, async (host) => {
    if (!known) throw new Error(`getaddrinfo ENOTFOUND ${host}`);
    return [{ address: '127.0.0.1', family: 4 }];
  });
  metrics.counter(REQUEST).labels(LABELS).add(2);
  await clock.advance(10 * INTERVAL);
  metrics.counter(REQUEST);
  assert.deepEqual([outages.entries, dropped()], [['failed: getaddrinfo ENOTFOUND receiver.invalid'], 0]);
  known = true;
  await clock.advance(10 * INTERVAL);
  assert.match(await receiver.packets.first(), /^metadataproxy\.http_request\.\S+:2\.000000\|c\n$/);
  assert.deepEqual(outages.entries.slice(1), ['recovered, 0 dropped']);
  await exporter.close();
});

test('the system resolver finds no receiver.invalid', async () => {
  for (const start of [statsd, statsite]) {
    const { clock, metrics, options, outages } = exporting();
    const exporter = start(options, { host: 'receiver.invalid', port: 8125 });
    metrics.counter(REQUEST).labels(LABELS).add();
    await clock.advance(INTERVAL);
    assert.match(await outages.first(), /^failed: getaddrinfo (ENOTFOUND|EAI_AGAIN) receiver\.invalid$/);
    await exporter.close();
  }
});

test('a look-up that hangs times out after 30 s, and no second one starts beside it', async () => {
  const { clock, metrics, options, outages } = exporting();
  let lookups = 0;
  const lookup = (): Promise<never> => {
    lookups += 1;
    return new Promise(() => {});
  };
  const exporter = statsd(options, { host: 'slow.example', port: 1 }, lookup);
  metrics.counter(REQUEST).labels(LABELS).add();
  await clock.advance(INTERVAL + 30_000);
  assert.deepEqual(outages.entries, ['failed: no answer for slow.example from DNS within 30 s']);
  await clock.advance(600_000);
  assert.deepEqual([lookups, outages.entries.length], [1, 1]);
  const closed = exporter.close();
  await clock.advance(1_000);
  await closed;
  assert.deepEqual(clock.pending.filter((wait) => wait > 30_000), []);
});

test('after a failure the next address of the name is used', async (t) => {
  const receiver = await udpReceiver(t);
  const { clock, metrics, options, outages } = exporting();
  const exporter = statsd(options, { host: 'two.example', port: receiver.port }, async () => [
    { address: '127.0.0.2', family: 4 }, // Nothing listens there.
    { address: '127.0.0.1', family: 4 },
  ]);
  const gauge = metrics.gauge({ ...REQUEST, name: 'g' });
  gauge.labels(LABELS).set(1);
  await clock.advance(INTERVAL);
  await outages.first();
  await clock.advance(3 * INTERVAL);
  await receiver.packets.first();
  await exporter.close();
});

// Streams

/** The sum of each counter, by its name in statsd. */
function sums(text: string): Record<string, number> {
  const found: Record<string, number> = {};
  for (const [, name = '', value] of text.matchAll(/^([^\s:]+):([\d.]+)\|c$/gm)) found[name] = (found[name] ?? 0) + Number(value);
  return found;
}

/** Lets rounds pass, whose backoff may have grown, until something happens. */
async function untilRound(at: Exporting, happened: () => boolean): Promise<void> {
  for (let waited = 0; !happened(); waited += 1) {
    assert.ok(waited < 1_000, 'it did not happen');
    await at.clock.advance(INTERVAL);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test('statsite: every round uses the same connection', async (t) => {
  const receiver = await streamReceiver(t);
  const at = exporting();
  const exporter = statsite(at.options, local(receiver.port));
  const requests = at.metrics.counter(REQUEST);
  for (const n of [1, 2, 3]) {
    requests.labels(LABELS).add(n);
    await at.clock.advance(INTERVAL);
    await receiver.came(new RegExp(`:${n}\\.000000\\|c\\n$`));
  }
  await exporter.close();
  assert.equal(receiver.connections.entries.length, 1);
  assert.deepEqual([at.outages.entries, at.dropped()], [[], 0]);
  assert.equal(receiver.text(), [1, 2, 3].map((n) => `metadataproxy.http_request.latest.passthrough.200:${n}.000000|c\n`).join(''));
});

test('statsite: an outage loses nothing, and the exporter reconnects', async (t) => {
  const before = await streamReceiver(t);
  const at = exporting();
  const exporter = statsite(at.options, local(before.port));
  const requests = at.metrics.counter(REQUEST);
  requests.labels(LABELS).add();
  await at.clock.advance(INTERVAL);
  await before.came(/:1\.000000\|c\n$/);
  await before.close();
  await at.outages.first();
  requests.labels(LABELS).add(10);
  for (let n = 0; n < 20; n += 1) await at.clock.advance(INTERVAL);
  requests.labels(LABELS).add(10);
  const after = await streamReceiver(t, { port: before.port });
  await untilRound(at, () => after.text() !== '');
  assert.deepEqual(sums(after.text()), { 'metadataproxy.http_request.latest.passthrough.200': 20 });
  await untilRound(at, () => at.outages.entries.length === 2);
  assert.deepEqual([at.outages.entries[1], at.dropped()], ['recovered, 0 dropped', 0]);
  await exporter.close();
});

test('statsite: a refused connection is retried with a backoff of up to a minute', async (t) => {
  const away = await streamReceiver(t);
  await away.close();
  const at = exporting();
  const exporter = statsite({ ...at.options, random: () => 0.2 }, local(away.port));
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
  assert.match(at.outages.entries.join(), /^failed: connect ECONNREFUSED 127\.0\.0\.1:\d+$/);
  await exporter.close();
});

for (const [how, onConnection] of [
  ['closes at once', (socket) => void socket.end()],
  ['resets the connection at once', (socket) => void socket.resetAndDestroy()],
  ['resets the connection when it has read something', (socket) => void socket.once('data', () => socket.resetAndDestroy())],
] as const satisfies readonly (readonly [string, (socket: Socket) => void])[]) {
  test(`statsite: a receiver that ${how} is one outage, and the exporter keeps reconnecting`, async (t) => {
    const receiver = await streamReceiver(t, { onConnection });
    const at = exporting();
    const exporter = statsite(at.options, local(receiver.port));
    const requests = at.metrics.counter(REQUEST);
    await untilRound(at, () => {
      requests.labels(LABELS).add();
      return receiver.connections.entries.length >= 5;
    });
    assert.equal(at.outages.entries.length, 1, at.outages.entries.join());
    assert.match(at.outages.entries[0] ?? '', /^failed: /);
    await exporter.close();
  });
}

test('statsite: a receiver that never reads times out after 30 s; nothing is dropped, and the registry keeps the rest', async (t) => {
  const receiver = await streamReceiver(t, { onConnection: (socket) => socket.pause() });
  const at = exporting();
  const exporter = statsite(at.options, local(receiver.port));
  // More than the kernel takes for both ends (tcp_wmem, tcp_rmem).
  for (let family = 0; family < 10; family += 1) {
    const counters = at.metrics.counter({ name: `n${family}`, help: '', labels: ['l'] });
    for (let n = 0; n < 1_800; n += 1) counters.labels([`${n}`.padStart(4_000, 'x')]).add();
  }
  await untilRound(at, () => at.outages.entries.length > 0);
  assert.deepEqual(at.outages.entries, ['failed: the receiver accepted nothing within 30 s']);
  assert.equal(at.dropped(), 0);
  let unread = 0;
  for (const family of at.metrics.collect()) unread += family.series.length;
  assert.equal(unread, 18_000);
  const closed = exporter.close();
  await at.clock.advance(1_000);
  await closed;
});

test('statsite: what a receiver sends is not read on', async (t) => {
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
  const at = exporting();
  const exporter = statsite(at.options, local(receiver.port));
  at.metrics.counter(REQUEST).labels(LABELS).add();
  await untilRound(at, () => receiver.connections.entries.length > 0);
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.ok(taken < 32 * 1024 * 1024, `${taken}`);
  await exporter.close();
});

test('DogStatsD: on a stream socket each packet follows its length and has at most 8 kB', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'metadataproxy-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'dsd.socket');
  const receiver = await streamReceiver(t, { path });
  const at = exporting();
  const exporter = dogstatsd(at.options, { path });
  countMany(at.metrics, 500, 100);
  await at.clock.advance(INTERVAL);
  await receiver.connections.first();
  await untilRound(at, () => (receiver.text().match(/\n/g) ?? []).length >= 500);
  await exporter.close();
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

test('DogStatsD: a path without a listener is an outage', async () => {
  const at = exporting();
  const exporter = dogstatsd(at.options, { path: '/nonexistent/dsd.socket' });
  await at.clock.advance(INTERVAL);
  assert.equal(await at.outages.first(), 'failed: connect ENOENT /nonexistent/dsd.socket');
  await exporter.close();
});

test('close exports once more', async (t) => {
  const receiver = await streamReceiver(t);
  const at = exporting();
  const exporter = statsite(at.options, local(receiver.port));
  at.metrics.counter(REQUEST).labels(LABELS).add(4);
  await exporter.close();
  await receiver.came(/:4\.000000\|c\n$/);
  assert.deepEqual(at.clock.pending, []);
});

// Together

test('every receiver in the settings gets an exporter, and dropped lines are counted', async (t) => {
  const [statsd, datadog] = [await udpReceiver(t), await udpReceiver(t)];
  const statsite = await streamReceiver(t);
  const [clock, metrics] = [new ManualClock(), new MetricsRegistry()];
  const log = new Log({ level: 'info', format: 'text', host: '', write: () => {}, now: () => 0 });
  const exporters = startExporters(
    {
      ...readConfig({}, {}),
      statsdAddress: local(statsd.port),
      statsiteAddress: local(statsite.port),
      datadogAddress: local(datadog.port),
      metricsInterval: 1_000,
    },
    metrics, log, clock, '1.2.3',
  );
  assert.equal(exporters.length, 3);
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
  await Promise.all(exporters.map((exporter) => exporter.close()));
  assert.deepEqual(clock.pending, []);
});

test('without a receiver in the settings there is no exporter', () => {
  const log = new Log({ level: 'info', format: 'text', host: '', write: () => {}, now: () => 0 });
  assert.deepEqual(startExporters(readConfig({}, {}), new MetricsRegistry(), log, new ManualClock(), '1.2.3'), []);
});
