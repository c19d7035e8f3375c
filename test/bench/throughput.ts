import type { Program } from './programs.ts';
import { comparisonRow, inTurns, median, ratioRow, type Row } from './row.ts';
import { CREDENTIALS_PATH, warmHost, type WarmHost } from './warm-host.ts';
import { wrk, type Load, type Loaded } from './wrk.ts';

const SECONDS = 2;
const AT_LEAST = 0.9;

/** B1: warm credentials over kept connections, at the default log level (info, to a file) and at warning. */
export async function keptConnections(rounds: number): Promise<Row[]> {
  const load = { path: CREDENTIALS_PATH, seconds: SECONDS, connections: 16 };
  const rows = await compare('B1', 'warm credentials, 16 kept connections', load, rounds, {});
  if (process.env['BENCH_NODE'] !== undefined) return rows;
  return [...rows, ...await compare('B1', 'the same with LOG_LEVEL=warning', load, rounds, { LOG_LEVEL: 'warning' })];
}

/** B2: warm credentials over a new connection for each request. */
export function newConnections(rounds: number): Promise<Row[]> {
  const load = { path: CREDENTIALS_PATH, seconds: SECONDS, connections: 16, close: true };
  return compare('B2', 'warm credentials, a new connection a request', load, rounds, {});
}

async function compare(
  figure: string, what: string, load: Load, rounds: number, env: Record<string, string>,
): Promise<Row[]> {
  const host = await warmHost(1, env);
  try {
    return await compareOn(host, figure, what, load, rounds);
  } finally {
    await host.stop();
  }
}

async function compareOn(host: WarmHost, figure: string, what: string, load: Load, rounds: number): Promise<Row[]> {
  // Compiled and with its connections made, once.
  for (const server of [host.proxy, host.bare]) await wrk(server, { ...load, seconds: 1 });
  return throughputRows(figure, what, rounds, host.proxy, host.bare, load);
}

/**
 * Requests a second of ours and of theirs; and for each second of the server's own processor time, which is the same
 * ratio where the machine has nothing else to do, and a steadier one where it has.
 */
export async function throughputRows(
  figure: string, what: string, rounds: number, ours: Program, theirs: Program, load: Load,
): Promise<Row[]> {
  const loads: Loaded[] = [];
  const perCpuSecond = { ours: [] as number[], theirs: [] as number[] };
  const measure = (server: Program, costs: number[]) => async (): Promise<number> => {
    const loaded = await wrk(server, load);
    loads.push(loaded);
    costs.push(loaded.perSecond / loaded.serverCpu);
    return loaded.perSecond;
  };
  const turns = await inTurns(rounds, measure(ours, perCpuSecond.ours), measure(theirs, perCpuSecond.theirs));
  const [server, client] = [median(loads.map(({ serverCpu }) => serverCpu)), median(loads.map(({ clientCpu }) => clientCpu))];
  const busy = `server ${percent(server)}, wrk ${percent(client)} of a core`;
  return [
    ratioRow(figure, `${what} (${busy})`, 'req/s', turns, { atLeast: AT_LEAST }),
    comparisonRow(figure, '… for each second of the server\'s processor time', 'req', perCpuSecond),
  ];
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}
