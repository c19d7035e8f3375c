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

/** Half of the default interval, so that each load of 6 s includes a run of every exporter. */
const INTERVAL_S = 5;

/** M: warm credentials with every metrics exporter enabled and a scrape every 5 s, compared with none. */
export async function allExporters(rounds: number): Promise<Row[]> {
  const receivers = await startReceivers();
  const host = await warmHost(1);
  const { docker, sts } = host;
  const proxy = await startProxy({ docker, sts, env: receivers.env });
  const scraping = setInterval(() => {
    fetch(`http://127.0.0.1:${proxy.adminPort}/metrics`).then((answer) => answer.text()).catch(() => {});
  }, INTERVAL_S * 1000);
  try {
    const load = { path: CREDENTIALS_PATH, seconds: INTERVAL_S + 1, connections: 16 };
    for (const server of [proxy, host.proxy]) await wrk(server, { ...load, seconds: 1 });
    const rows = await throughputRows('M', 'every metrics exporter enabled', rounds, proxy, host.proxy, load);
    const missing = Object.entries(receivers.received).filter(([, count]) => count === 0).map(([name]) => name);
    if (missing.length > 0) throw new Error(`${missing.join(', ')} received nothing`);
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
  /** Messages by receiver. */
  readonly received: Readonly<Record<string, number>>;
  stop(): void;
}

async function startReceivers(): Promise<Receivers> {
  const received = { statsd: 0, statsite: 0, datadog: 0, otlp: 0 };
  const count = (name: keyof typeof received) => (): void => void (received[name] += 1);
  const answer = (name: keyof typeof received): RequestListener => (request, response) => {
    request.on('data', count(name));
    request.on('end', () => response.writeHead(202, { 'Content-Type': 'application/json' }).end('{}'));
  };
  const [statsd, datadog] = [createSocket('udp4', count('statsd')), createSocket('udp4', count('datadog'))];
  for (const socket of [statsd, datadog]) {
    socket.bind(0, '127.0.0.1');
    await once(socket, 'listening');
  }
  const { ca, server: identity } = makeCertificates();
  const folder = mkdtempSync(join(tmpdir(), 'metadataproxy-bench-'));
  writeFileSync(join(folder, 'ca.pem'), ca);
  const statsite = await portOf(createTcpServer((socket) => socket.on('data', count('statsite')).on('error', () => {})));
  const otlp = await portOf(createHttpsServer(identity, answer('otlp')));
  return {
    received,
    env: {
      ENABLE_PROMETHEUS: 'true',
      METRICS_INTERVAL: `${INTERVAL_S}s`,
      STATSD_ADDR: `127.0.0.1:${statsd.address().port}`,
      STATSITE_ADDR: `127.0.0.1:${statsite}`,
      DATADOG_ADDR: `127.0.0.1:${datadog.address().port}`,
      OTEL_EXPORTER_OTLP_ENDPOINT: `https://127.0.0.1:${otlp}`,
      OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip',
      OTEL_METRIC_EXPORT_INTERVAL: String(INTERVAL_S * 1000),
      NODE_EXTRA_CA_CERTS: join(folder, 'ca.pem'),
    },
    // The servers end with the process.
    stop: () => rmSync(folder, { recursive: true }),
  };
}

async function portOf(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1').unref();
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}
