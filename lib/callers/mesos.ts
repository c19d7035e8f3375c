import { CallerUndetermined, type MesosTask } from '../caller.ts';
import type { Clock } from '../util/clock.ts';
import { httpGet } from '../util/http-get.ts';
import { normalAddress } from '../util/ip-address.ts';
import { array, object, string } from '../util/json.ts';

export interface MesosOptions {
  /** The agent's `/state`. */
  url: URL;
  /** Milliseconds. */
  timeout: number;
  clock: Clock;
}

/** Concurrent requests share an answer. Short, because the address of an ended task may go to another task. */
const STATE_TTL_MS = 1_000;
const MAX_STATE_LENGTH = 64 * 1024 * 1024;

/** Finds the running task of a Mesos agent that has an address. */
export class MesosTasks {
  readonly #options: MesosOptions;
  #state: { tasks: Promise<ReadonlyMap<string, MesosTask>>; until: number } | undefined;

  constructor(options: MesosOptions) {
    this.#options = options;
  }

  /** @throws CallerUndetermined when the agent cannot be asked */
  async resolve(address: string): Promise<MesosTask | undefined> {
    const now = this.#options.clock.monotonic();
    if (!this.#state || now >= this.#state.until) {
      this.#state = { tasks: readTasks(this.#options), until: now + STATE_TTL_MS };
    }
    return (await this.#state.tasks).get(address);
  }
}

async function readTasks({ url, timeout }: MesosOptions): Promise<ReadonlyMap<string, MesosTask>> {
  try {
    const { status, text } = await httpGet(url, timeout, MAX_STATE_LENGTH);
    if (status !== 200) throw new Error(`answered ${status}`);
    return parseTasks(JSON.parse(text));
  } catch (error) {
    throw new CallerUndetermined(`the Mesos agent at ${url.href}: ${(error as Error).message}`, { cause: error });
  }
}

/** Running tasks by address. Source: Mesos, "Agent HTTP endpoints", `/state`. */
function parseTasks(state: unknown): ReadonlyMap<string, MesosTask> {
  const byAddress = new Map<string, MesosTask>();
  for (const framework of array(object(state)['frameworks']).map(object)) {
    for (const executor of array(framework['executors']).map(object)) {
      for (const task of array(executor['tasks']).map(object)) {
        for (const address of runningAddresses(task['statuses'])) byAddress.set(address, taskCaller(task));
      }
    }
  }
  return byAddress;
}

function runningAddresses(statuses: unknown): string[] {
  return array(statuses)
    .map(object)
    .filter(({ state }) => state === 'TASK_RUNNING')
    .flatMap((status) => array(object(status['container_status'])['network_infos']).map(object))
    .flatMap((network) => array(network['ip_addresses']).map(object))
    .map((entry) => normalAddress(string(entry['ip_address'])))
    .filter((address) => address !== undefined);
}

function taskCaller(task: Readonly<Record<string, unknown>>): MesosTask {
  const id = string(task['id']);
  const labels = array(task['labels']).map(object).map(({ key, value }) => [string(key), string(value)] as const);
  return { kind: 'mesos-task', id: `mesos task ${id}`, name: string(task['name']) || id, labels: new Map(labels) };
}
