import { execFileSync } from 'node:child_process';
import { percentile } from '../support/statistics.ts';
import { short, spreadOf, type Row } from './row.ts';

const CONTAINERS = 50;
/** With its account: a bare name would add a call of IAM. */
const ROLE = 'app@123456789012';
const STS_MS = 100;
const MAX_MS = 10;

/**
 * B5: the first instruction of a `docker run` container requests its credentials, on a real Docker Engine, while STS takes
 * 100 ms. The time is measured in the container, from the start of the client to the answer. The lab needs root and
 * installs what is missing.
 */
export async function firstRequest(): Promise<Row[]> {
  execFileSync('test/e2e/install', { stdio: 'inherit' });
  const { Lab } = await import('../e2e/lab.ts');
  const { ROLE_NAMES } = await import('../e2e/metadata-requests.ts');
  const lab = await Lab.create();
  try {
    await lab.makeRoles('app');
    await lab.startProxy();
    await lab.docker.makeImage('bench/first', ['/bin/sh', '-c', `timeout 1 wget -q -O - ${ROLE_NAMES}app | ts -s %.s`]);
    await lab.sts.call('delay', STS_MS);
    const waits: number[] = [];
    const mark = lab.proxy.log.length;
    for (let n = 1; n <= CONTAINERS; n += 1) {
      const stdout = await lab.docker.docker('run', '--rm', '--name', `first-${n}`, '-e', `IAM_ROLE=${ROLE}`, 'bench/first');
      if (!stdout.includes('AccessKeyId')) throw new Error(`no credentials for first-${n}: ${stdout}`);
      waits.push(Number(stdout.slice(0, stdout.indexOf(' '))) * 1000);
    }
    const inProxy = lab.proxy.log.slice(mark)
      .filter((entry) => entry['msg'] === 'credentials served')
      .map((entry) => Number(entry['ms']));
    const row = (what: string, times: number[]): Row => {
      const value = percentile(times, 0.99);
      return {
        benchmark: 'B5', what: `${what}, p99 of ${times.length} containers, STS at ${STS_MS} ms`,
        proxy: `${short(value)} ms`, comparedWith: `p50 ${short(percentile(times, 0.5))} ms`, value, spread: spreadOf(times),
        target: `< ${MAX_MS} ms`, met: value < MAX_MS,
      };
    };
    return [row('first request, seen in the container', waits), row('the same, spent in the proxy', inProxy)];
  } finally {
    await lab.remove();
  }
}
