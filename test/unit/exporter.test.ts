import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  Exporter, Rejected, RetryAfter, type Chunk, type ExporterOptions, type Format, type OnFailure, type Transport,
} from '../../lib/telemetry/export/exporter.ts';
import { Counter, Deltas, type Delta, type Family } from '../../lib/telemetry/metrics/registry.ts';
import { settled } from './helpers/manual-clock.ts';
import { exporting, INTERVAL } from './helpers/exporting.ts';

/** One chunk for each counter that grew: `name=growth`. */
class GrowthFormat implements Format {
  readonly #deltas = new Deltas();

  *chunks(families: readonly Family[]): Generator<Chunk> {
    for (const { name, series } of families) {
      const deltas: Delta[] = [];
      for (const one of series) if (one instanceof Counter) deltas.push(this.#deltas.read(one));
      const growth = deltas.reduce((sum, { value }) => sum + value, 0);
      const body = name === 'too_long' ? '' : `${name}=${growth}`;
      if (growth > 0) yield { body, points: growth, commit: () => this.#deltas.commit(deltas) };
    }
  }
}

/** Sends by the test's script: the results of the next calls, one after the other; then success. */
class ScriptedTransport implements Transport {
  readonly sent: string[] = [];
  readonly results: (Error | Promise<void>)[] = [];
  readonly calls: string[] = [];
  onFailure: OnFailure = () => {};

  async open(): Promise<void> {
    this.calls.push('open');
  }

  async send({ body }: Chunk): Promise<void> {
    this.sent.push(body);
    const result = this.results.shift();
    if (result instanceof Error) throw result;
    await result;
  }

  async close(): Promise<void> {
    this.calls.push('close');
  }

  destroy(): void {
    this.calls.push('destroy');
  }
}

function setUp(more: Partial<ExporterOptions> = {}) {
  const at = exporting();
  const transport = new ScriptedTransport();
  const exporter = new Exporter({ ...at.options, ...more }, new GrowthFormat(), (onFailure) => {
    transport.onFailure = onFailure;
    return transport;
  });
  const [a, b] = ['a', 'b'].map((name) => at.metrics.counter({ name, help: '' }).labels());
  assert.ok(a && b);
  return { ...at, transport, exporter, a, b };
}

test('every interval each chunk is sent once, and what was delivered is not sent again', async () => {
  const { clock, transport, a, b } = setUp();
  a.add(3);
  await clock.advance(INTERVAL - 1);
  assert.deepEqual(transport.sent, []);
  await clock.advance(1);
  b.add(1);
  a.add(1);
  await clock.advance(INTERVAL);
  await clock.advance(INTERVAL);
  assert.deepEqual(transport.sent, ['a=3', 'a=1', 'b=1']);
});

test('a failed send ends the round; a later round carries the growth of both, and nothing is dropped', async () => {
  const { clock, transport, a, b, dropped, outages } = setUp();
  transport.results.push(new Error('unreachable'));
  a.add(1);
  b.add(1);
  await clock.advance(INTERVAL);
  a.add(5);
  await clock.advance(INTERVAL);
  assert.deepEqual(transport.sent, ['a=1', 'a=6', 'b=1']);
  assert.deepEqual([dropped(), outages.entries], [0, ['failed: unreachable']]);
  assert.deepEqual(transport.calls, ['open', 'destroy', 'open']);
});

test('what grows while a chunk is being sent belongs to the next one', async () => {
  const { clock, transport, a } = setUp();
  let delivered = (): void => {};
  transport.results.push(new Promise((resolve) => (delivered = resolve)));
  a.add(2);
  await clock.advance(INTERVAL);
  a.add(7);
  delivered();
  await clock.advance(INTERVAL);
  assert.deepEqual(transport.sent, ['a=2', 'a=7']);
});

test('what the receiver rejects is dropped with a count, and the next chunk is sent', async () => {
  const { clock, transport, a, b, dropped, outages } = setUp();
  transport.results.push(new Rejected('the receiver answered 400', 4));
  a.add(4);
  b.add(1);
  await clock.advance(INTERVAL);
  await clock.advance(INTERVAL);
  assert.deepEqual([transport.sent, dropped()], [['a=4', 'b=1'], 4]);
  assert.deepEqual(outages.entries, ['failed: the receiver answered 400']);
  await clock.advance(INTERVAL);
  assert.deepEqual(outages.entries, ['failed: the receiver answered 400', 'recovered, 4 dropped']);
});

test('a rejection does not delay the next round', async () => {
  const { clock, transport, a } = setUp();
  transport.results.push(new Rejected('rejected', 1));
  a.add(1);
  await clock.advance(INTERVAL);
  assert.deepEqual(clock.pending, [INTERVAL]);
});

test('what is too long for any receiver is dropped once and not sent', async () => {
  const { clock, transport, metrics, dropped } = setUp();
  metrics.counter({ name: 'too_long', help: '' }).labels().add(2);
  await clock.advance(2 * INTERVAL);
  assert.deepEqual([transport.sent, dropped()], [[], 2]);
});

test('failures delay the next round by backoff, up to a minute, and a round without one ends that', async () => {
  const { clock, transport, a } = setUp({ random: () => 0.2 });
  const waits: number[] = [];
  for (let round = 0; round < 6; round += 1) {
    transport.results.push(new Error('unreachable'));
    a.add(1);
    await settled();
    const [wait = 0] = clock.pending;
    waits.push(wait);
    await clock.advance(wait);
  }
  assert.deepEqual(waits, [10_000, 6_000, 12_000, 24_000, 36_000, 36_000]);
  await clock.advance(36_000);
  assert.deepEqual(clock.pending, [INTERVAL]);
});

test('an interval above a minute is not shortened to one', async () => {
  const { clock, transport, a } = setUp({ interval: 600_000, random: () => 0.999 });
  transport.results.push(new Error('unreachable'), new Error('unreachable'));
  a.add(1);
  await clock.advance(600_000);
  assert.ok((clock.pending[0] ?? 0) > 590_000);
});

for (const [asked, wait] of [[0, 5_000], [120_000, 120_000], [99_999_999_000, 3_600_000]] as const) {
  test(`a receiver that asks for ${asked} ms is called again after ${wait} ms`, async () => {
    const { clock, transport, a } = setUp();
    transport.results.push(new RetryAfter('the receiver answered 429', asked));
    a.add(1);
    await clock.advance(INTERVAL);
    assert.deepEqual(clock.pending, [wait]);
    await clock.advance(wait);
    assert.deepEqual(transport.sent, ['a=1', 'a=1']);
  });
}

test('an outage is reported once, and once when it is over, with what was dropped', async () => {
  const { clock, transport, a, outages } = setUp();
  transport.results.push(new Error('one'), new Error('two'), new Rejected('three', 9));
  for (let round = 0; round < 3; round += 1) {
    a.add(1);
    await clock.advance(3 * INTERVAL);
  }
  await clock.advance(10 * INTERVAL);
  assert.deepEqual(outages.entries, ['failed: one', 'recovered, 9 dropped']);
});

test('a failure that comes late keeps the outage, and the last chunk is dropped if it was lost', async () => {
  const { clock, transport, a, dropped, outages } = setUp();
  a.add(3);
  await clock.advance(INTERVAL);
  transport.onFailure(new Error('refused'), true);
  transport.onFailure(new Error('refused'), true);
  assert.deepEqual([dropped(), outages.entries], [3, ['failed: refused']]);
  await clock.advance(INTERVAL);
  assert.deepEqual(outages.entries, ['failed: refused'], 'the round before has failed');
  await clock.advance(INTERVAL);
  assert.deepEqual(outages.entries, ['failed: refused', 'recovered, 3 dropped']);
  a.add(3);
  await clock.advance(INTERVAL);
  transport.onFailure(new Error('closed'), false);
  assert.equal(dropped(), 3, 'a chunk that may have arrived is not dropped');
});

test('close exports once more and stops', async () => {
  const { clock, transport, exporter, a } = setUp();
  a.add(2);
  await exporter.close();
  assert.deepEqual([transport.sent, transport.calls], [['a=2'], ['open', 'close', 'destroy']]);
  a.add(1);
  await clock.advance(10 * INTERVAL);
  assert.deepEqual([transport.sent, clock.pending], [['a=2'], []]);
});

test('close during an outage tries once, without waiting for the backoff', async () => {
  const { clock, transport, exporter, a } = setUp();
  transport.results.push(new Error('unreachable'), new Error('unreachable'));
  a.add(2);
  await clock.advance(INTERVAL);
  await exporter.close();
  assert.deepEqual(transport.sent, ['a=2', 'a=2']);
});

test('close takes a second at most, and twice is once', async () => {
  const { clock, transport, exporter, a } = setUp();
  transport.results.push(new Promise(() => {}));
  a.add(2);
  await clock.advance(INTERVAL);
  let closed = false;
  const closing = exporter.close().then(() => (closed = true));
  await clock.advance(999);
  assert.equal(closed, false);
  await clock.advance(1);
  await closing;
  await exporter.close();
  assert.deepEqual(transport.sent, ['a=2']);
  assert.equal(transport.calls.at(-1), 'destroy');
});
