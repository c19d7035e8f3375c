import type { TestContext } from 'node:test';
import type { Container } from '../../../lib/docker/container.ts';
import type { Exchange } from '../../../lib/http/exchange.ts';
import { Admission } from '../../../lib/http/admission.ts';
import type { Handlers } from '../../../lib/http/routes.ts';
import { MetadataServer, type MetadataServerOptions } from '../../../lib/http/server.ts';
import { SessionTokens } from '../../../lib/http/session-tokens.ts';
import { sendText } from '../../../lib/http/exchange.ts';
import { sessionToken } from '../../../lib/http/handlers/session-token.ts';
import { systemClock } from '../../../lib/util/clock.ts';
import { AccessLog } from '../../../lib/telemetry/access-log.ts';
import { Log } from '../../../lib/log/log.ts';
import { Journal } from '../../support/journal.ts';

export type LogLine = Readonly<Record<string, unknown>> & { readonly level: string; readonly msg: string };

/** The listener for containers on a free port of 127.0.0.1. A handler that is not given answers its own name. */
export async function startServer(
  t: TestContext,
  handlers: Partial<Handlers> = {},
  { maxRequestsPerSecond = 0, ...options }: Partial<MetadataServerOptions> & { maxRequestsPerSecond?: number } = {},
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
  const server = new MetadataServer({
    handlers: {
      sessionToken: sessionToken(tokens),
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
    admission: new Admission({ maxRequestsPerSecond, clock: systemClock, random: Math.random }),
    resolver: { peek: ({ address }) => containers.get(address), ensureResolved: () => undefined },
    clock: systemClock,
    maxConnections: 100,
    maxConnectionsPerAddress: 100,
    readTimeout: 5_000,
    writeTimeout: 60_000,
    events: { requestAnswered: (...answered) => accessLog.requestAnswered(...answered) },
    log,
    ...options,
  });
  const port = await server.listen('127.0.0.1', 0);
  t.after(() => server.close());
  return { server, port, lines, containers, time, log };
}
