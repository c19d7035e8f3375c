// A program of the lab's own that runs in another network namespace and is steered from the test by calls
// over a pipe. A process cannot have sockets in two namespaces, so what listens or asks in one is a process
// of its own.
import { type ChildProcess, execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { LabDirectory } from './leftovers.ts';
import type { Machine } from './machine.ts';

/** The calls that a program answers: names to functions. Arguments and results travel as JSON. */
export type Calls<M> = { readonly [K in keyof M]: (...args: never[]) => unknown };

interface Call {
  readonly id: number;
  readonly method: string;
  readonly args: unknown[];
}

interface Reply {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
}

const bundles = new Map<string, Promise<string>>();

function makeBundle(name: string, file: string): Promise<string> {
  const made = promisify(execFile)('node_modules/.bin/esbuild', [
    join('test', 'e2e', 'programs', `${name}.ts`), '--bundle', '--platform=node', '--format=cjs',
    '--log-level=warning', `--outfile=${file}`,
  ]).then(() => file);
  bundles.set(file, made);
  return made;
}

/** The test's end of a side program with the calls `M`. */
export class SideProgram<M extends Calls<M>> {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (reply: Reply) => void>();
  #calls = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', (message) => this.#take(message as Reply));
    child.once('exit', (status, signal) => {
      const error = `the program ended: ${status ?? signal}`;
      for (const id of this.#waiting.keys()) this.#take({ id, error });
    });
  }

  /**
   * Bundles test/e2e/programs/{name}.ts and starts it in a network namespace; resolves once it has its first
   * call answered. `network` is by default the machine's own. `within` is a command that runs it.
   */
  static async start<M extends Calls<M>>(
    name: string, lab: LabDirectory, machine: Machine, network = machine.network, within: readonly string[] = [],
  ): Promise<SideProgram<M>> {
    const file = join(lab.path, 'programs', `${name}.cjs`);
    // Once for each lab: a program that starts while its file is written anew would read a part of it.
    const bundle = await (bundles.get(file) ?? makeBundle(name, file));
    const child = await machine.spawn([...within, process.execPath, bundle], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      env: { PATH: process.env['PATH'] },
    }, network);
    const program = new SideProgram<M>(child);
    await program.#send('', []);
    return program;
  }

  /** Calls a method of the program; an error that it throws is thrown here. */
  async call<K extends keyof M & string>(
    method: K, ...args: Parameters<M[K]>
  ): Promise<Awaited<ReturnType<M[K]>>> {
    return (await this.#send(method, args)) as Awaited<ReturnType<M[K]>>;
  }

  /** Ends the program. */
  end(): void {
    if (this.#child.connected) this.#child.disconnect();
  }

  #send(method: string, args: unknown[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = (this.#calls += 1);
      this.#waiting.set(id, (reply) => {
        if (reply.error === undefined) resolve(reply.result);
        else reject(new Error(`${method}: ${reply.error}`));
      });
      this.#child.send({ id, method, args } satisfies Call, (error) => {
        if (error !== null) this.#take({ id, error: error.message });
      });
    });
  }

  #take(reply: Reply): void {
    this.#waiting.get(reply.id)?.(reply);
    this.#waiting.delete(reply.id);
  }
}

/**
 * The program's end: answers calls until the test's end goes away. Call it when the program is ready to work.
 */
export function answerCalls<M extends Calls<M>>(methods: M): void {
  const table = new Map<string, (...args: never[]) => unknown>(Object.entries(methods));
  process.on('message', (message) => {
    const { id, method, args } = message as Call;
    const run = async (): Promise<unknown> => {
      if (method === '') return undefined;
      const target = table.get(method);
      if (target === undefined) throw new Error('no such call');
      return await target(...(args as never[]));
    };
    run().then(
      (result) => process.send?.({ id, result } satisfies Reply),
      (error: unknown) => process.send?.({ id, error: String(error) } satisfies Reply),
    );
  });
  process.on('disconnect', () => process.exit());
}
