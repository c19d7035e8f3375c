import type { TestContext } from 'node:test';
import type { Container } from '../../../lib/docker/container.ts';
import type { Exchange } from '../../../lib/http/exchange.ts';
import { MetadataServer, type Handlers, type MetadataServerOptions } from '../../../lib/http/server.ts';
import { SessionTokens } from '../../../lib/http/session-tokens.ts';
import { sendText } from '../../../lib/http/exchange.ts';
import { sessionToken } from '../../../lib/http/handlers/session-token.ts';
import { systemClock } from '../../../lib/util/clock.ts';
import { AccessLog } from '../../../lib/telemetry/access-log.ts';
import { Log } from '../../../lib/log/log.ts';
import { Journal } from '../../support/journal.ts';

export type LogLine = Readonly<Record<string, unknown>> & { readonly level: string; readonly msg: string };

/**
 * The listener for containers on a free port of 127.0.0.1, with handlers that say their names unless
 * given.
 */
export async function startServer(
  t: TestContext,
  handlers: Partial<Handlers> = {},
  options: Partial<MetadataServerOptions> = {},
) {
  const lines = new Journal<LogLine>('a line of the log');
  const write = (text: string): void => {
    for (const line of text.trim().split('\n')) lines.add(JSON.parse(line) as LogLine);
  };
  const log = new Log({ level: 'debug', format: 'json', host: 'host', write, now: Date.now });
  const accessLog = new AccessLog(log, systemClock);
  const time = { now: Date.now() };
  const tokens = new SessionTokens(() => time.now);
  const says = (name: string) => (exchange: Exchange) => sendText(exchange, `${name} ${exchange.path}`);
  const containers = new Map<string, Container>();
  const server: MetadataServer = new MetadataServer({
    handlers: {
      sessionToken: sessionToken(tokens, (exchange) => server.subjectOf(exchange)),
      iamListing: says('listing'),
      iamInfo: says('info'),
      roleName: says('role name'),
      roleCredentials: (exchange, role, extended) => sendText(exchange, `${role} ${extended}`),
      containerCredentials: says('container credentials'),
      metrics: says('metrics'),
      passThrough: says('passed'),
      ...handlers,
    },
    tokens,
    tokenRequired: false,
    peek: (address) => containers.get(address),
    maxConnections: 100,
    maxConnectionsPerAddress: 100,
    maxRequestsPerSecond: 0,
    readTimeout: 5_000,
    writeTimeout: 60_000,
    onAnswered: (...answered) => accessLog.requestAnswered(...answered),
    log,
    ...options,
  });
  const port = await server.listen('127.0.0.1', 0);
  t.after(() => server.close());
  return { server, port, lines, containers, time, log };
}
