import { homedir, hostname } from 'node:os';
import { helpText, parseCommandLine } from './config/cli.ts';
import { ConfigError, readConfig, type Config } from './config/config.ts';
import { NoStatus } from './commands/status-client.ts';
import { EngineFailure, EngineUnreachable } from './docker/engine.ts';
import { startProxy, StartFailure, type RunningProxy } from './app.ts';
import { inheritedSocket } from './inherited-socket.ts';
import { Log } from './log/log.ts';

/** Set by the build. */
declare const METADATAPROXY_VERSION: string;

/** The conventional exit code for invalid arguments. */
const EXIT_USAGE = 2;
/** systemd and Docker kill a process after ten seconds or more. */
const STOP_TIMEOUT_MS = 4_500;

async function main(): Promise<void> {
  const command = parseCommandLine(process.argv.slice(2));
  if (command.kind === 'help') return print(helpText(METADATAPROXY_VERSION));
  if (command.kind === 'version') return print(`${METADATAPROXY_VERSION}\n`);
  // The SDK would write warnings about old Node versions to standard error, between the lines of the log.
  process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true';
  setHome();
  const config = readConfig(command.flags, process.env);
  switch (command.kind) {
    // Imported on use, because loading the commands would delay the start of the proxy.
    case 'check': {
      const { check } = await import('./commands/check.ts');
      const { ok, text } = await check(config, makeLog({ ...config, logLevel: 'error' }), command.json);
      process.exitCode = ok ? 0 : 1;
      return print(text);
    }
    case 'health': {
      const { checkHealth } = await import('./commands/health.ts');
      const { ok, text } = await checkHealth(config);
      process.exitCode = ok ? 0 : 1;
      return print(text);
    }
    case 'roles': {
      const { listRoles } = await import('./commands/roles.ts');
      return print(await listRoles(config, command.json));
    }
    case 'status': {
      const { status } = await import('./commands/status.ts');
      const { ready, text } = await status(config, command.json);
      process.exitCode = ready ? 0 : 1;
      return print(text);
    }
    case 'run':
      return run(config);
  }
}

/** The SDK reads ~/.aws and fails without a home directory: HOME is unset and the user is not in /etc/passwd. */
function setHome(): void {
  try {
    homedir();
  } catch {
    process.env['HOME'] = '/';
  }
}

function print(text: string): void {
  process.stdout.write(text);
}

function makeLog({ logLevel, logFormat }: Config): Log {
  return new Log({
    level: logLevel,
    format: logFormat,
    colour: isColourful(),
    host: hostname(),
    write: (lines) => process.stderr.write(lines),
    now: Date.now,
  });
}

/** Source: https://no-color.org */
function isColourful(): boolean {
  const { NO_COLOR, TERM } = process.env;
  return process.stderr.isTTY && !NO_COLOR && TERM !== 'dumb';
}

async function run(config: Config): Promise<void> {
  const log = makeLog(config);
  // The reader of the log may be gone. Logging that error would only cause the next one.
  process.stderr.on('error', () => {});
  process.on('exit', () => log.flush());
  // An error in one request or timer must not end the service for all containers.
  process.on('uncaughtException', (error) => log.error('unexpected', { error: String(error.stack ?? error) }));
  process.on('unhandledRejection', (reason) => {
    log.error('unexpected', { error: String(reason instanceof Error ? reason.stack : reason) });
  });
  let proxy: RunningProxy | undefined;
  process.on('SIGHUP', () => proxy?.reload());
  process.on('SIGUSR2', () => log.toggleDebug());

  log.info('starting', { version: METADATAPROXY_VERSION, node: process.version });
  proxy = await startProxy(config, log, METADATAPROXY_VERSION, inheritedSocket(process.env, process.pid));
  let stopping = false;
  const stop = (signal: NodeJS.Signals): void => {
    if (stopping) return;
    stopping = true;
    log.info('stopping', { signal });
    setTimeout(() => process.exit(0), STOP_TIMEOUT_MS).unref();
    void proxy.stop().finally(() => process.exit(0));
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

main().catch((error: Error) => {
  const lines = error instanceof ConfigError ? error.problems : [isExpected(error) ? error.message : String(error.stack)];
  for (const line of lines) process.stderr.write(`metadataproxy: ${line}\n`);
  process.exit(error instanceof ConfigError ? EXIT_USAGE : 1);
});

/** Whether the message alone tells the user what to do. */
function isExpected(error: Error): boolean {
  return error instanceof StartFailure || error instanceof NoStatus || error instanceof EngineFailure || error instanceof EngineUnreachable;
}
