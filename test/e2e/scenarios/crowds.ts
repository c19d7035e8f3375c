import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { ECS_ENDPOINT, type EcsCredentials, ROLE_NAMES, get } from '../metadata-requests.ts';
import { ACCOUNT, type Lab } from '../lab.ts';
import type { AssumedRole } from '../programs/sts-front.ts';

/** Many containers, one after another and several at a time. */
export function crowds(lab: Lab): void {
  test('a container\'s first instruction gets credentials at once, though STS takes 100 ms', async (t) => {
    const count = 50;
    // One second, one try; each line of the answer with the seconds since the request's program was started.
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
        const session = await sessionOf(lab, accessKeyIdIn(run.stdout));
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
    t.diagnostic(`${waits.length} of ${count} answered within 1 s, at the first try`);
    t.diagnostic(`request to answer, seen in the container: ${summary(waits)}`);
    t.diagnostic(`whole life of the container: ${summary(lives)}`);
    t.diagnostic(`spent in the proxy: ${summary(served)}`);
    assert.deepEqual(failures, []);
  });

  test('300 short-lived containers that hand addresses on get only their own roles', async (t) => {
    const count = 300;
    const atOnce = 4;
    // Five addresses for containers, so that each soon goes to the next one.
    await lab.docker.docker('network', 'create', '--subnet', '172.31.254.0/29', 'crowded');
    const wrong: string[] = [];
    const unanswered: string[] = [];
    const tenants = new Set<string>();
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
        tenants.add(address);
        const given = parsed(json.join('\n'));
        if (name === '' || given === undefined) unanswered.push(`crowd-${n}: ${run.stdout}${run.stderr}`);
        if (name !== '' && name !== role) wrong.push(`crowd-${n}, ${role}: ${name}`);
        if (given === undefined) continue;
        const session = await sessionOf(lab, given.AccessKeyId);
        const arn = `arn:aws:iam::${ACCOUNT}:role/${role}`;
        const own = given.RoleArn === arn && session?.roleArn === arn &&
          session.sessionName === `crowd-${n}-${container.shortId}`;
        if (!own) wrong.push(`crowd-${n}, ${role}: ${given.RoleArn}, ${session?.sessionName}`);
      }
    };
    const began = performance.now();
    await Promise.all(Array.from({ length: atOnce }, worker));
    await lab.docker.docker('network', 'rm', 'crowded');
    const seconds = Math.round((performance.now() - began) / 1000);
    t.diagnostic(`${count} containers at ${tenants.size} addresses in ${seconds} s: ` +
      `${wrong.length} wrong answers, ${unanswered.length} without an answer`);
    assert.deepEqual({ wrong, unanswered }, { wrong: [], unanswered: [] });
    assert.ok(tenants.size <= 6, 'the addresses went from hand to hand');
  });
}

/** What STS itself says that an access key was given for. */
async function sessionOf(lab: Lab, accessKeyId: string | undefined): Promise<AssumedRole | undefined> {
  return (await lab.sts.call('assumedRoles')).find((role) => role.accessKeyId === accessKeyId);
}

function accessKeyIdIn(text: string): string | undefined {
  return /"AccessKeyId"\s*:\s*"([^"]+)"/.exec(text)?.[1];
}

/** Credentials as the ECS door told them; undefined when it told something else. */
function parsed(json: string): EcsCredentials | undefined {
  try {
    return JSON.parse(json) as EcsCredentials;
  } catch {
    return undefined;
  }
}

/** Median and maximum of milliseconds, in words. */
function summary(milliseconds: number[]): string {
  const sorted = [...milliseconds].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)] ?? NaN;
  return `median ${median.toFixed(1)} ms, largest ${(sorted.at(-1) ?? NaN).toFixed(1)} ms`;
}
