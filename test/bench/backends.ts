import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { RequestListener } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { createServer as createTcpServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeCertificates } from '../support/certificates.ts';
import { startProxy } from './programs.ts';
import type { Row } from './row.ts';
import { throughputRows } from './throughput.ts';
import { CREDENTIALS_PATH, warmHost } from './warm-host.ts';
import { wrk } from './wrk.ts';

/** Twice as often as by default, so that each load of 6 s has one of each. */
const EVERY_S = 5;

/** M: warm credentials with every backend of metrics on, told and scraped every 5 s, against none. */
export async function allBackends(rounds: number): Promise<Row[]> {
  const receivers = await startReceivers();
  const host = await warmHost(1);
  const { docker, sts } = host;
  const proxy = await startProxy({ docker, sts, env: receivers.env });
  const scraping = setInterval(() => {
    fetch(`http://127.0.0.1:${proxy.adminPort}/metrics`).then((answer) => answer.text()).catch(() => {});
  }, EVERY_S * 1000);
  try {
    const load = { path: CREDENTIALS_PATH, seconds: EVERY_S + 1, connections: 16 };
    for (const server of [proxy, host.proxy]) await wrk(server, { ...load, seconds: 1 });
    const rows = await throughputRows('M', 'every backend of metrics on', rounds, proxy, host.proxy, load);
    const silent = Object.entries(receivers.heard).filter(([, count]) => count === 0).map(([name]) => name);
    if (silent.length > 0) throw new Error(`nothing came to ${silent.join(', ')}`);
    return rows;
  } finally {
    clearInterval(scraping);
    await Promise.all([proxy.stop(), host.stop()]);
    receivers.stop();
  }
}

interface Receivers {
  /** The settings that name them. */
  readonly env: Readonly<Record<string, string>>;
  /** How often each was told something. */
  readonly heard: Readonly<Record<string, number>>;
  stop(): void;
}

async function startReceivers(): Promise<Receivers> {
  const heard = { statsd: 0, statsite: 0, datadog: 0, otlp: 0 };
  const hear = (name: keyof typeof heard) => (): void => void (heard[name] += 1);
  const answer = (name: keyof typeof heard): RequestListener => (request, response) => {
    request.on('data', hear(name));
    request.on('end', () => response.writeHead(202, { 'Content-Type': 'application/json' }).end('{}'));
  };
  const [statsd, datadog] = [createSocket('udp4', hear('statsd')), createSocket('udp4', hear('datadog'))];
  for (const socket of [statsd, datadog]) {
    socket.bind(0, '127.0.0.1');
    await once(socket, 'listening');
  }
  const { ca, server: identity } = makeCertificates();
  const folder = mkdtempSync(join(tmpdir(), 'metadataproxy-bench-'));
  writeFileSync(join(folder, 'ca.pem'), ca);
  const statsite = await portOf(createTcpServer((socket) => socket.on('data', hear('statsite')).on('error', () => {})));
  const otlp = await portOf(createHttpsServer(identity, answer('otlp')));
  return {
    heard,
    env: {
      ENABLE_PROMETHEUS: 'true',
      METRICS_INTERVAL: `${EVERY_S}s`,
      STATSD_ADDR: `127.0.0.1:${statsd.address().port}`,
      STATSITE_ADDR: `127.0.0.1:${statsite}`,
      DATADOG_ADDR: `127.0.0.1:${datadog.address().port}`,
      OTEL_EXPORTER_OTLP_ENDPOINT: `https://127.0.0.1:${otlp}`,
      OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip',
      OTEL_METRIC_EXPORT_INTERVAL: String(EVERY_S * 1000),
      NODE_EXTRA_CA_CERTS: join(folder, 'ca.pem'),
    },
    // The rest ends with the process.
    stop: () => rmSync(folder, { recursive: true }),
  };
}

async function portOf(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1').unref();
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}
