import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { ECS_ENDPOINT, ROLE_NAMES, get, parseCredentials } from '../metadata-requests.ts';
import { ACCOUNT, type Lab } from '../lab.ts';

/** Many containers, sequentially and concurrently. */
export function crowds(lab: Lab): void {
  test('a container\'s first instruction gets credentials within 1 s although STS takes 100 ms', async (t) => {
    const count = 50;
    // Timeout one second, no retry. ts prefixes each line with the seconds since the start of the pipeline.
    await lab.docker.makeImage('lab/first', ['/bin/sh', '-c',
      `timeout 1 wget -q -O - ${ROLE_NAMES}app | ts -s %.s`]);
    await lab.sts.call('delay', 100);
    const waits: number[] = [];
    const lives: number[] = [];
    const failures: string[] = [];
    const mark = lab.proxy.log.length;
    try {
      for (let n = 1; n <= count; n += 1) {
        const name = `first-${n}`;
        const container = await lab.docker.create({ name, image: 'lab/first', env: { IAM_ROLE: 'app' } });
        const run = await container.run();
        const session = await lab.assumedRole(accessKeyIdIn(run.stdout));
        if (session?.sessionName !== `${name}-${container.shortId}`) {
          failures.push(`${name}: ${run.stdout}${run.stderr}`);
          continue;
        }
        waits.push(Number(run.stdout.slice(0, run.stdout.indexOf(' '))) * 1000);
        lives.push(run.finished - run.started);
      }
    } finally {
      await lab.sts.call('delay', 0);
    }
    const served = lab.proxy.log.slice(mark)
      .filter((entry) => entry['msg'] === 'credentials served')
      .map((entry) => entry['ms']).filter((ms) => typeof ms === 'number');
    t.diagnostic(`${waits.length} of ${count} answered within 1 s at the first try`);
    t.diagnostic(`request to answer, seen in the container: ${summary(waits)}`);
    t.diagnostic(`whole life of the container: ${summary(lives)}`);
    t.diagnostic(`spent in the proxy: ${summary(served)}`);
    assert.deepEqual(failures, []);
  });

  test('300 short-lived containers that reuse addresses get only their own roles', async (t) => {
    const count = 300;
    const concurrency = 4;
    // Five container addresses, so that addresses are soon reused.
    await lab.docker.docker('network', 'create', '--subnet', '172.31.254.0/29', 'crowded');
    const wrong: string[] = [];
    const unanswered: string[] = [];
    const addresses = new Set<string>();
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < count) {
        const n = (next += 1);
        const role = n % 2 === 0 ? 'app' : 'worker';
        const container = await lab.docker.create({
          name: `crowd-${n}`, network: 'crowded', env: { IAM_ROLE: role },
          command: ['/bin/sh', '-c',
            `hostname -i; ${get(ROLE_NAMES).join(' ')}; echo; ${get(ECS_ENDPOINT).join(' ')}; echo`],
        });
        const run = await container.run();
        const [address = '', name = '', ...json] = run.stdout.split('\n');
        addresses.add(address);
        const given = parseCredentials(json.join('\n'));
        if (name === '' || given === undefined) unanswered.push(`crowd-${n}: ${run.stdout}${run.stderr}`);
        if (name !== '' && name !== role) wrong.push(`crowd-${n}, ${role}: ${name}`);
        if (given === undefined) continue;
        const session = await lab.assumedRole(given.AccessKeyId);
        const arn = `arn:aws:iam::${ACCOUNT}:role/${role}`;
        const isRight = given.RoleArn === arn && session?.roleArn === arn &&
          session.sessionName === `crowd-${n}-${container.shortId}`;
        if (!isRight) wrong.push(`crowd-${n}, ${role}: ${given.RoleArn}, ${session?.sessionName}`);
      }
    };
    const began = performance.now();
    await Promise.all(Array.from({ length: concurrency }, worker));
    await lab.docker.docker('network', 'rm', 'crowded');
    const seconds = Math.round((performance.now() - began) / 1000);
    t.diagnostic(`${count} containers at ${addresses.size} addresses in ${seconds} s: ` +
      `${wrong.length} wrong answers, ${unanswered.length} without an answer`);
    assert.deepEqual({ wrong, unanswered }, { wrong: [], unanswered: [] });
    assert.ok(addresses.size <= 6, 'the addresses were reused');
  });
}

function accessKeyIdIn(text: string): string | undefined {
  return /"AccessKeyId"\s*:\s*"([^"]+)"/.exec(text)?.[1];
}

/** Median and maximum of milliseconds, as text. */
function summary(milliseconds: number[]): string {
  const sorted = [...milliseconds].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)] ?? NaN;
  return `median ${median.toFixed(1)} ms, max ${(sorted.at(-1) ?? NaN).toFixed(1)} ms`;
}
