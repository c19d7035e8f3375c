import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { parseDogStatsD } from '../support/dogstatsd-parser.ts';
import { Journal } from '../support/journal.ts';
import type { Test } from '../support/proxy.ts';
import { streamReceiver, udpReceiver } from '../unit/helpers/receivers.ts';
import { host, INSTANCE_ID_PATH, SECURITY_CREDENTIALS } from './host.ts';

const A = '127.0.0.11';

/** Starts etsy's statsd. @returns its output lines, which include every received line */
async function etsyStatsd(t: Test, port: number): Promise<Journal<string>> {
  const directory = mkdtempSync(join(tmpdir(), 'metadataproxy-statsd-'));
  const config = join(directory, 'config.js');
  writeFileSync(config, `{
    address: '127.0.0.1', port: ${port}, mgmt_address: '127.0.0.1', mgmt_port: 0,
    backends: ['./backends/console'], flushInterval: 500, dumpMessages: true, deleteIdleStats: false
  }`);
  // Node 23 removed util.log, which it uses.
  const patch = join(directory, 'util-log.cjs');
  writeFileSync(patch, "require('node:util').log ??= console.log;\n");
  const child = spawn(process.execPath, ['--require', patch, 'build/tools/node_modules/statsd/stats.js', config], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { PATH: process.env['PATH'] },
  });
  const lines = new Journal<string>('a line of statsd');
  createInterface({ input: child.stdout }).on('line', (line) => lines.add(line));
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  t.after(async () => {
    child.kill('SIGKILL');
    await ended;
    rmSync(directory, { recursive: true });
  });
  await lines.first((line) => /server is up|Flushing stats/.test(line));
  return lines;
}

test("etsy's statsd, a TCP line receiver and a DogStatsD parser accept the program's output", async (t) => {
  const free = await udpReceiver(t);
  await free.close();
  const statsd = await etsyStatsd(t, free.port);
  const [statsite, datadog] = [await streamReceiver(t), await udpReceiver(t)];
  const { docker, ask, proxy } = await host(t, {
    env: {
      STATSD_ADDR: `127.0.0.1:${free.port}`,
      STATSITE_ADDR: `127.0.0.1:${statsite.port}`,
      DATADOG_ADDR: `localhost:${datadog.port}`,
      METRICS_INTERVAL: '1s',
    },
  });
  await docker.host.run({ address: A, env: { IAM_ROLE: 'app@123456789012' } });
  for (const path of [INSTANCE_ID_PATH, INSTANCE_ID_PATH, `${SECURITY_CREDENTIALS}app`, '/latest/%0ax:1|c']) await ask(A, path);
  await proxy.stop();

  const line = /metadataproxy\.http_request\.\S*passthrough\S*:[\d.]+\|c$/;
  await statsd.first((text) => line.test(text));
  // The output of its console backend, after the next flush.
  await statsd.first((text) => /'metadataproxy\.http_request\.[^']*passthrough[^']*': [1-9]/.test(text));
  assert.deepEqual(statsd.all((text) => text.includes('Bad line')), []);

  const lines = statsite.text().split('\n');
  assert.equal(lines.pop(), '');
  for (const text of lines) assert.match(text, /^[^\s:;|@#,]+:-?\d+\.\d{6}\|[cg]$/);
  assert.ok(lines.some((text) => line.test(text)));

  const metrics = datadog.packets.entries.flatMap(parseDogStatsD);
  const proxied = metrics.filter(({ name, tags }) =>
    name === 'metadataproxy.http_request' && tags.get('handler_name') === 'passthrough');
  assert.equal(proxied.filter(({ tags }) => tags.get('response_code') === '200').reduce((sum, { value }) => sum + value, 0), 2);
  assert.ok(proxied.every(({ type }) => type === 'c'));
});

test('receivers that are unreachable or never read delay no request and use no memory', async (t) => {
  const silent = await streamReceiver(t, { onConnection: (socket) => void socket.pause() });
  const unreachable = await udpReceiver(t);
  await unreachable.close();
  const { ask, docker, proxy } = await host(t, {
    env: {
      STATSD_ADDR: `127.0.0.1:${unreachable.port}`,
      STATSITE_ADDR: `127.0.0.1:${silent.port}`,
      DATADOG_ADDR: 'receiver.invalid:8125',
      METRICS_INTERVAL: '1s',
    },
  });
  await docker.host.run({ address: A, env: { IAM_ROLE: 'app@123456789012' } });
  const resident = (): number =>
    Number(/^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${proxy.pid}/status`, 'utf8'))?.[1]) / 1024;
  const askMany = async (): Promise<void> => {
    for (let n = 0; n < 300; n += 1) assert.equal((await ask(A, SECURITY_CREDENTIALS)).status, 200);
  };
  await askMany();
  await silent.connections.first();
  const before = resident();
  await askMany();
  await askMany();
  assert.ok(resident() - before < 30, `${before} to ${resident()} MB`);
  const failed = proxy.logs.all(({ msg }) => msg.startsWith('cannot export metrics')).map(({ fields }) => fields['backend']);
  assert.equal(new Set(failed).size, failed.length, 'once per exporter');
  assert.ok(failed.includes('datadog'));
  assert.equal((await proxy.stop()).code, 0);
});
