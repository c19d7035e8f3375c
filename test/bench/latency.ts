import { runBuilt } from './programs.ts';
import { median } from '../support/statistics.ts';
import { short, spreadOf, type Row } from './row.ts';
import { addressOf, CREDENTIALS_PATH, warmHost, type WarmHost } from './warm-host.ts';
import { wrk } from './wrk.ts';

const KNOWN_CONTAINERS = [1, 100, 1000] as const;
const PER_SECOND = 500;
const SECONDS = 3;
const CONNECTIONS = 16;
const MAX_RATIO = 1.1;

interface Latency {
  readonly p50: number;
  readonly p99: number;
}

/**
 * B4: latency with many known containers compared with one. The 16 clients are spread over all addresses. Each round
 * starts new proxies, because two with the same settings differ by more than the target.
 */
export async function flatLatency(rounds: number): Promise<Row[]> {
  const measured = KNOWN_CONTAINERS.map((): Latency[] => []);
  for (let round = 0; round < rounds; round += 1) {
    for (const [at, known] of KNOWN_CONTAINERS.entries()) {
      const host = await warmHost(known);
      try {
        // Warm-up: V8 compiles the hot code.
        await wrk(host.proxy, { path: CREDENTIALS_PATH, connections: CONNECTIONS, seconds: 1 });
        measured[at]?.push(await latencyOf(host, known));
      } finally {
        await host.stop();
      }
    }
  }
  const [one = [], ...more] = measured;
  return more.flatMap((many, at) => (['p50', 'p99'] as const).map((which): Row => {
    const ratios = many.map((latency, round) => latency[which] / (one[round]?.[which] ?? NaN));
    const value = median(ratios);
    const shown = (latencies: Latency[]): string => `${short(median(latencies.map((one) => one[which])))} ms`;
    return {
      benchmark: 'B4', what: `${which} at ${PER_SECOND} requests/s, ${KNOWN_CONTAINERS[at + 1]} known containers compared with 1`,
      proxy: shown(many), comparedWith: shown(one), value, spread: spreadOf(ratios), target: `≤ ${MAX_RATIO.toFixed(2)}`,
      met: value <= MAX_RATIO,
    };
  }));
}

async function latencyOf({ proxy: { port } }: WarmHost, known: number): Promise<Latency> {
  const from = Array.from({ length: Math.min(known, CONNECTIONS) }, (_, n) => (
    addressOf(Math.floor(n * known / CONNECTIONS))
  ));
  return await runBuilt('open-loop', {
    port, from, connections: CONNECTIONS, perSecond: PER_SECOND, seconds: SECONDS, path: CREDENTIALS_PATH,
  }) as Latency;
}
