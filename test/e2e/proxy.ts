// The built program under test, on the lab's host.
import type { ChildProcess } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { resolve as resolvePath } from 'node:path';
import { createInterface } from 'node:readline';
import type { Machine } from './machine.ts';
import { ADMIN_PORT, STS_FRONT_PORT } from './ports.ts';

/** One log line: `msg` and the other fields. */
export type LogEntry = Readonly<Record<string, unknown>>;

const PROGRAM = 'bin/metadataproxy';

/** Longer than anything that the proxy does. A test that reaches it has failed. */
const TIMEOUT_MS = 20_000;

/** Static source credentials, as without an instance profile. */
export const STATIC_KEYS = { AWS_ACCESS_KEY_ID: 'AKIABASE', AWS_SECRET_ACCESS_KEY: 'base' };

export class Proxy {
  /** Its log entries, oldest first. */
  readonly log: LogEntry[] = [];
  readonly #child: ChildProcess;
  readonly #watchers = new Set<() => void>();
  #exit: string | undefined;

  private constructor(child: ChildProcess, logFile: string) {
    this.#child = child;
    const { stderr } = child;
    if (stderr === null) throw new Error('no pipe from the proxy');
    createInterface({ input: stderr }).on('line', (line) => {
      appendFileSync(logFile, `${line}\n`);
      this.log.push(parse(line));
      for (const watcher of this.#watchers) watcher();
    });
    child.once('close', (status, signal) => {
      this.#exit = `${status ?? signal}`;
      for (const watcher of this.#watchers) watcher();
    });
  }

  /** Starts it on its default ports with the lab's STS and IAM. Resolves when it is ready. */
  static async start(
    machine: Machine, dockerSocket: string, logFile: string, settings: Record<string, string>,
  ): Promise<Proxy> {
    const sts = `http://127.0.0.1:${STS_FRONT_PORT}`;
    const child = await machine.spawn([resolvePath(PROGRAM)], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: {
        PATH: process.env['PATH'],
        DOCKER_URL: `unix://${dockerSocket}`,
        LOG_FORMAT: 'json',
        LOG_LEVEL: 'debug',
        AWS_ENDPOINT_URL_STS: sts,
        AWS_ENDPOINT_URL_IAM: sts,
        ...settings,
      },
    });
    const proxy = new Proxy(child, logFile);
    await proxy.logged((entry) => entry['msg'] === 'listening', 'that it listens');
    await proxy.knowsContainers();
    // The source credentials may be found a little later, so a 503 is retried.
    const ready = await machine.run(['curl', '--silent', '--max-time', '20', '--retry', '10', '--retry-delay', '1',
      '--output', '/dev/null', '--write-out', '%{http_code}', `http://127.0.0.1:${ADMIN_PORT}/readyz`]);
    if (ready !== '200') throw new Error(`the proxy knows the containers, but /readyz answers ${ready}`);
    return proxy;
  }

  /** Resolves to the first matching entry at or after `from` (an index into the log). */
  logged(matches: (entry: LogEntry) => boolean, what: string, from = 0): Promise<LogEntry> {
    return new Promise((resolve, reject) => {
      let next = from;
      const finish = (): void => {
        clearTimeout(timer);
        this.#watchers.delete(look);
      };
      const look = (): void => {
        for (; next < this.log.length; next += 1) {
          const entry = this.log[next];
          if (entry !== undefined && matches(entry)) {
            finish();
            return resolve(entry);
          }
        }
        if (this.#exit === undefined) return;
        finish();
        reject(new Error(`the proxy ended (${this.#exit}) before it logged ${what}: ${this.#tail()}`));
      };
      const timer = setTimeout(() => {
        finish();
        reject(new Error(`the proxy did not log ${what}: ${this.#tail()}`));
      }, TIMEOUT_MS);
      this.#watchers.add(look);
      look();
    });
  }

  /** Resolves when it has logged, at or after `from`, that it knows the containers. */
  async knowsContainers(from = 0): Promise<void> {
    await this.logged((entry) => entry['msg'] === 'containers known', 'that it knows the containers', from);
  }

  /** Ends it with SIGTERM, as an init system does. Resolves to its exit status or signal. */
  async stop(): Promise<string> {
    if (this.#exit === undefined) {
      const ended = new Promise((resolve) => this.#child.once('close', resolve));
      this.#child.kill('SIGTERM');
      await ended;
    }
    return this.#exit ?? '';
  }

  #tail(): string {
    return this.log.slice(-10).map((entry) => JSON.stringify(entry)).join('\n');
  }
}

function parse(line: string): LogEntry {
  try {
    return JSON.parse(line) as LogEntry;
  } catch {
    return { msg: line }; // output of Node itself
  }
}
