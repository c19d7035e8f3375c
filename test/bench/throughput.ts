import type { Program } from './programs.ts';
import { median } from '../support/statistics.ts';
import { comparisonRow, alternate, ratioRow, type Row } from './row.ts';
import { CREDENTIALS_PATH, warmHost, type WarmHost } from './warm-host.ts';
import { wrk, type Load, type Loaded } from './wrk.ts';

const SECONDS = 2;
const MIN_RATIO = 0.9;

/** B1: warm credentials over keep-alive connections, at the default log level (info, to a file) and at warning. */
export async function keepAliveConnections(rounds: number): Promise<Row[]> {
  const load = { path: CREDENTIALS_PATH, seconds: SECONDS, connections: 16 };
  const rows = await compare('B1', 'warm credentials, 16 keep-alive connections', load, rounds, {});
  if (process.env['BENCH_NODE'] !== undefined) return rows;
  return [...rows, ...await compare('B1', 'the same with LOG_LEVEL=warning', load, rounds, { LOG_LEVEL: 'warning' })];
}

/** B2: warm credentials over a new connection for each request. */
export function newConnections(rounds: number): Promise<Row[]> {
  const load = { path: CREDENTIALS_PATH, seconds: SECONDS, connections: 16, close: true };
  return compare('B2', 'warm credentials, a new connection per request', load, rounds, {});
}

async function compare(
  benchmark: string, what: string, load: Load, rounds: number, env: Record<string, string>,
): Promise<Row[]> {
  const host = await warmHost(1, env);
  try {
    return await compareOn(host, benchmark, what, load, rounds);
  } finally {
    await host.stop();
  }
}

async function compareOn(host: WarmHost, benchmark: string, what: string, load: Load, rounds: number): Promise<Row[]> {
  // Warm-up: V8 compiles the hot code and both open their connections.
  for (const server of [host.proxy, host.bare]) await wrk(server, { ...load, seconds: 1 });
  return throughputRows(benchmark, what, rounds, host.proxy, host.bare, load);
}

/**
 * Requests per second of proxy and baseline, and requests per second of the server's CPU time. Both ratios are equal on an
 * idle machine; on a busy one the second varies less.
 */
export async function throughputRows(
  benchmark: string, what: string, rounds: number, proxy: Program, baseline: Program, load: Load,
): Promise<Row[]> {
  const loads: Loaded[] = [];
  const perCpuSecond = { proxy: [] as number[], baseline: [] as number[] };
  const measure = (server: Program, costs: number[]) => async (): Promise<number> => {
    const loaded = await wrk(server, load);
    loads.push(loaded);
    costs.push(loaded.perSecond / loaded.serverCpu);
    return loaded.perSecond;
  };
  const samples = await alternate(rounds, measure(proxy, perCpuSecond.proxy), measure(baseline, perCpuSecond.baseline));
  const [server, client] = [median(loads.map(({ serverCpu }) => serverCpu)), median(loads.map(({ clientCpu }) => clientCpu))];
  const busy = `server ${percent(server)}, wrk ${percent(client)} of a core`;
  return [
    ratioRow(benchmark, `${what} (${busy})`, 'req/s', samples, { atLeast: MIN_RATIO }),
    comparisonRow(benchmark, '… per second of the server\'s CPU time', 'req', perCpuSecond),
  ];
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}
