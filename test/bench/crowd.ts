import { DockerEngine } from '../support/docker-engine.ts';
import { request } from '../support/client.ts';
import { Sts, type StsCall } from '../support/sts.ts';
import { pause, startProxy } from './programs.ts';
import { median, percentile } from '../support/statistics.ts';
import { short, spreadOf, type Row } from './row.ts';

const CONTAINERS = 1000;
const ROLES = 20;
const ALL_STARTED_WITHIN_MS = 10_000;
const STS_PER_SECOND = 10;
const STS_MS = 100;
/** From `network connect` to `start` on a real engine, as measured. */
const START_TAKES_MS = 250;
/** An SDK's timeout for one request, and a container's interval between requests. */
const CLIENT_TIMEOUT_MS = 1000;

interface Life {
  /** From the container's start to its first credentials. */
  readonly servedAfter: number;
  readonly firstTry: boolean;
  /** Requests that failed although STS had already answered for the role. */
  readonly failedThoughFetched: number;
}

/**
 * B6: many containers start while STS answers few calls. Each sends a request immediately and repeats it until it succeeds.
 *
 * @param session SESSION_NAME: with "shared" a role is one session; with "container" each container has its own
 */
export async function crowd(session: 'shared' | 'container'): Promise<Row[]> {
  const [docker, sts] = [await DockerEngine.start(), await Sts.start()];
  docker.host.startTakes = START_TAKES_MS;
  const fetchedAt = new Map<string, number>();
  let answered = 0;
  sts.fault({ kind: 'delay', ms: STS_MS });
  const bucket = { tokens: STS_PER_SECOND, at: performance.now() };
  // Applies when the bucket is empty. The newest fault takes precedence.
  sts.fault({ kind: 'throttle' }, (call) => {
    if (call.action !== 'AssumeRole') return false;
    const now = performance.now();
    bucket.tokens = Math.min(STS_PER_SECOND, bucket.tokens + (now - bucket.at) / 1000 * STS_PER_SECOND);
    bucket.at = now;
    if (bucket.tokens < 1) return true;
    bucket.tokens -= 1;
    answered += 1;
    fetchedAt.set(keyOf(call), now + STS_MS);
    return false;
  });
  const keyOf = ({ roleArn, roleSessionName }: StsCall): string =>
    session === 'shared' ? roleArn ?? '' : roleSessionName?.replace(/-[0-9a-f]{12}$/, '') ?? '';
  const proxy = await startProxy({ docker, sts, env: { SESSION_NAME: session } });
  try {
    const lives = await Promise.all(Array.from({ length: CONTAINERS }, async (_, n): Promise<Life> => {
      await pause(ALL_STARTED_WITHIN_MS * n / CONTAINERS);
      const [role, name] = [`role-${n % ROLES}`, `container-${n}`];
      const address = `127.2.${n >> 8}.${n & 255}`;
      await docker.host.run({
        name, env: { IAM_ROLE: `${role}@123456789012` }, networks: { [`network-${n % ROLES}`]: { address } },
      });
      const key = session === 'shared' ? `arn:aws:iam::123456789012:role/${role}` : name;
      return requestUntilServed(proxy.port, address, role, () => fetchedAt.get(key));
    }));
    const minimum = session === 'shared' ? ROLES : CONTAINERS;
    const calls = sts.assumed().length;
    const waits = lives.map(({ servedAfter }) => servedAfter);
    const at = (fraction: number): string => `${short(percentile(waits, fraction) / 1000)} s`;
    const failed = lives.reduce((sum, { failedThoughFetched }) => sum + failedThoughFetched, 0);
    const first = lives.filter(({ firstTry }) => firstTry).length;
    const what = `1,000 containers in 10 s, 20 roles, STS at 10/s, SESSION_NAME=${session}`;
    const row = { benchmark: 'B6', spread: [0, 0] as const };
    return [
      {
        ...row, what: `${what}: calls that STS answered (${calls - answered} more were throttled)`, proxy: String(answered),
        comparedWith: `minimum: ${minimum}`, value: answered / minimum, spread: [answered / minimum, answered / minimum],
        target: '1.00', met: answered === minimum,
      },
      {
        ...row, what: `… requests that failed within 1 s although the credentials were stored (${first} served at the first try)`,
        proxy: String(failed), comparedWith: '-', value: failed, spread: [failed, failed], target: '0', met: failed === 0,
      },
      {
        ...row, what: `… from start to credentials: p50, p90, p99, max`, proxy: `${at(0.5)}, ${at(0.9)}, ${at(0.99)}, ${at(1)}`,
        comparedWith: `minimum for the last: ${short((minimum - STS_PER_SECOND) / STS_PER_SECOND)} s`, value: median(waits) / 1000,
        spread: [spreadOf(waits)[0] / 1000, spreadOf(waits)[1] / 1000], target: '', met: undefined,
      },
    ];
  } finally {
    await Promise.all([proxy.stop(), docker.close(), sts.close()]);
  }
}

async function requestUntilServed(
  port: number, from: string, role: string, fetchedAt: () => number | undefined,
): Promise<Life> {
  const started = performance.now();
  let failedThoughFetched = 0;
  for (let tries = 1; ; tries += 1) {
    const sent = performance.now();
    const wasFetched = (fetchedAt() ?? Infinity) < sent;
    const path = `/latest/meta-data/iam/security-credentials/${role}`;
    const answer = await request({ port, from, path, signal: AbortSignal.timeout(CLIENT_TIMEOUT_MS) }).catch(() => undefined);
    if (answer?.status === 200) {
      return { servedAfter: performance.now() - started, firstTry: tries === 1, failedThoughFetched };
    }
    if (wasFetched) failedThoughFetched += 1;
    await pause(Math.max(0, sent + CLIENT_TIMEOUT_MS - performance.now()));
  }
}
