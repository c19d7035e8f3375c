import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { ECS_ENDPOINT, ROLE_NAMES, parseCredentials } from '../metadata-requests.ts';
import type { Container } from '../container.ts';
import { ACCOUNT, type Lab } from '../lab.ts';
import { SeededRandom } from '../../support/seeded-random.ts';

const FULL = process.env['SOAK'] === '1';
const LIVES = FULL ? 510 : 60;
const RESTARTS = FULL ? 4 : 2;
const CONCURRENCY = 4;

/** The containers' roles in rotation. A container without a role must get 404, whichever container had its address before. */
const ROLES = ['app', 'worker', 'app', 'worker', undefined] as const;

/** Five container addresses each, so that addresses are soon reused. */
const NETWORKS = { home: '172.31.253.0/29', away: '172.31.252.0/29' } as const;

/** The time between two events of a container, in milliseconds. */
const MIN_STAY = 100;
const MAX_STAY = 300;

// Sends requests from the first instruction until it is killed, and prints a line per request with wget's exit status and
// output. The timeout of two seconds is an SDK's.
const REQUEST_FOR_EVER = `
  set -f
  trap exit TERM
  ask() { answer=$(timeout 2 wget -q -O - "$2" 2>&1); echo $1 $? $answer; }
  while :; do
    ask name ${ROLE_NAMES}
    ask ecs ${ECS_ENDPOINT}
    usleep 50000
  done`;

/**
 * The failures that a container's fate permits, and their maximum number per container. A container that stays on its
 * network always gets an answer.
 *
 *   moves, visits     Without its network the container has no route to the host for a moment (`unreachable`), also during
 *                     a request (`no answer`).
 *   daemon restarts   The daemon accepts connections long before it answers, so the address's container is unknown. The
 *                     request times out (`no answer`) or gets 503.
 */
const PERMITTED_FAILURES: { readonly [fate in Fate]: { readonly reasons: readonly string[]; readonly times: number } } = {
  stays: { reasons: [], times: 0 },
  visits: { reasons: ['404', 'unreachable', 'no answer'], times: 4 },
  moves: { reasons: ['404', 'unreachable', 'no answer'], times: 4 },
  'sees the daemon restart': { reasons: ['503', 'no answer'], times: 4 },
};

/**
 * A running container can use a new address before the engine reports it. The proxy waits for the event, but not longer than
 * an SDK does. On a busy machine the event may take longer, so one in so many joins may get 404.
 */
const JOINS_PER_404 = 20;

/** What happens to a container between its start and its end. */
type Fate = 'moves' | 'visits' | 'stays' | 'sees the daemon restart';

interface Life {
  readonly container: Container;
  readonly role: (typeof ROLES)[number];
  readonly fate: Fate;
}

/** The answers of all containers. */
class Verdict {
  answers = 0;
  refusals = 0;
  readonly wrong: string[] = [];
  /** The reasons of failed requests, by the container's fate. */
  readonly unanswered = new Map<Fate, string[]>();
  /** The number of containers by fate. */
  readonly fates = new Map<Fate, number>();
  /** Containers that were killed before they printed a line. */
  silent = 0;
  readonly #lab: Lab;

  constructor(lab: Lab) {
    this.#lab = lab;
  }

  /** Checks every line that a container has printed. */
  async take({ container, role, fate }: Life): Promise<void> {
    const { status, stdout, stderr } = await this.#lab.docker.tryDocker('logs', container.id);
    assert.equal(status, 0, stderr);
    // STS's record of the role of each access key.
    const sessions = new Map((await this.#lab.sts.call('assumedRoles')).map((one) => [one.accessKeyId, one]));
    this.fates.set(fate, (this.fates.get(fate) ?? 0) + 1);
    // Text after the last newline is an incomplete line of a killed container.
    const lines = stdout.split('\n').slice(0, -1);
    if (lines.length === 0) this.silent += 1;
    for (const line of lines) {
      const [, request, status, answer = ''] = /^(name|ecs) (\d+) ?(.*)$/.exec(line) ?? [];
      if (status !== '0') this.#takeFailure(line, answer, role, fate);
      else if (request === 'name' && answer === role) this.answers += 1;
      else if (request === 'ecs' && role !== undefined) {
        const arn = `arn:aws:iam::${ACCOUNT}:role/${role}`;
        const given = parseCredentials(answer);
        const session = sessions.get(given?.AccessKeyId ?? '');
        const isRight = given?.RoleArn === arn && session?.roleArn === arn &&
          session.sessionName === `${container.name}-${container.shortId}`;
        if (isRight) this.answers += 1;
        else this.wrong.push(`${container.name}, ${role}: ${given?.RoleArn}, ${session?.sessionName}`);
      } else this.wrong.push(`${container.name}, ${role}: ${line}`);
    }
  }

  #takeFailure(line: string, answer: string, role: Life['role'], fate: Fate): void {
    const code = /HTTP\/1\.1 (\d+)/.exec(answer)?.[1];
    if (role === undefined && code === '404') {
      this.refusals += 1;
      return;
    }
    const silence = answer === '' || answer === 'Terminated' ? 'no answer' : line;
    const reason = code ?? (answer.endsWith('Network is unreachable') ? 'unreachable' : silence);
    this.unanswered.set(fate, [...this.unanswered.get(fate) ?? [], reason]);
  }
}

/** Containers start, move and are killed, and the daemon restarts. */
export function churn(lab: Lab): void {
  test(`${LIVES} containers that send requests until they are killed get only their own roles`, async (t) => {
    const random = SeededRandom.fromEnvironment(process.env, 4);
    const verdict = new Verdict(lab);
    const mark = lab.proxy.log.length;
    for (const [name, subnet] of Object.entries(NETWORKS)) {
      await lab.docker.docker('network', 'create', '--subnet', subnet, name);
    }
    let lives = 0;
    const began = performance.now();

    const begin = async (fate: Fate): Promise<Life> => {
      lives += 1;
      const role = ROLES[lives % ROLES.length];
      const container = await lab.docker.create({
        name: `churn-${lives}`,
        network: 'home',
        env: role === undefined ? {} : { IAM_ROLE: role },
        command: ['/bin/sh', '-c', REQUEST_FOR_EVER],
        restartAlways: fate === 'sees the daemon restart',
      });
      await container.start();
      return { container, role, fate };
    };
    // The time is random, so that a container is killed at any point of a request.
    const stay = (): Promise<void> => delay(random.int(MIN_STAY, MAX_STAY));
    const end = async (life: Life): Promise<void> => {
      await stay();
      await lab.docker.api('POST', `/containers/${life.container.id}/kill`);
      await verdict.take(life);
      await life.container.remove();
    };
    const network = (name: keyof typeof NETWORKS, action: 'connect' | 'disconnect', { container }: Life) =>
      lab.docker.api('POST', `/networks/${name}/${action}`, { Container: container.id });
    const live = async (): Promise<void> => {
      const fate = (['moves', 'visits', 'stays'] as const)[lives % 3] ?? 'stays';
      const life = await begin(fate);
      if (fate !== 'stays') {
        await stay();
        await network('away', 'connect', life);
        await stay();
        // Without its first network, the container can send requests only from the other network's address.
        await network(fate === 'moves' ? 'home' : 'away', 'disconnect', life);
      }
      await end(life);
    };
    const restartDaemon = async (liveRestore: boolean): Promise<void> => {
      const fate = 'sees the daemon restart';
      const survivors = await Promise.all(Array.from({ length: CONCURRENCY }, () => begin(fate)));
      await stay();
      const before = lab.proxy.log.length;
      await lab.docker.stop();
      await stay();
      await lab.docker.start({ liveRestore });
      await lab.proxy.knowsContainers(before);
      await Promise.all(survivors.map(end));
    };

    // Restarts alternate: one without live-restore, which restarts all containers at other addresses, and one with it, during
    // which they keep running.
    for (let restart = 1; restart <= RESTARTS; restart += 1) {
      const until = Math.round(LIVES * restart / RESTARTS) - CONCURRENCY;
      await Promise.all(Array.from({ length: CONCURRENCY }, async () => {
        while (lives < until) await live();
      }));
      await restartDaemon(restart % 2 === 1);
    }
    await lab.docker.docker('network', 'rm', ...Object.keys(NETWORKS));

    const addresses = new Set(lab.proxy.log.slice(mark)
      .filter(({ msg }) => msg === 'credentials served').map(({ address }) => address));
    const { answers, refusals, wrong, unanswered, silent } = verdict;
    t.diagnostic(`${lives} containers at ${addresses.size} addresses, ${RESTARTS} restarts of the daemon, in ` +
      `${Math.round((performance.now() - began) / 1000)} s`);
    t.diagnostic(`${answers} correct answers, ${refusals} correct 404, ${wrong.length} wrong answers; ` +
      `${silent} containers killed before their first answer`);
    for (const [fate, count] of verdict.fates) {
      const reasons = unanswered.get(fate) ?? [];
      t.diagnostic(`${count} lives: ${fate}; ${reasons.length} failed requests ` +
        JSON.stringify(counted(reasons)));
    }
    assert.deepEqual(wrong, []);
    assert.ok(answers > lives && refusals > 0, 'there were answers and 404');
    assert.ok(addresses.size <= 10, 'the addresses were reused');
    for (const [fate, reasons] of unanswered) {
      const { reasons: permitted, times } = PERMITTED_FAILURES[fate];
      assert.deepEqual(reasons.filter((reason) => !permitted.includes(reason)), [], `unanswered: ${fate}`);
      const maximum = times * (verdict.fates.get(fate) ?? 0);
      assert.ok(reasons.length <= maximum, `${reasons.length} failed requests: ${fate}`);
    }
    const early = [...unanswered.values()].flat().filter((reason) => reason === '404').length;
    const joins = (verdict.fates.get('moves') ?? 0) + (verdict.fates.get('visits') ?? 0);
    assert.ok(early <= joins / JOINS_PER_404, `${early} × 404 at ${joins} joins`);
  });
}

function counted(reasons: readonly string[]): Readonly<Record<string, number>> {
  const counts: { [reason: string]: number } = {};
  for (const reason of reasons) counts[reason] = (counts[reason] ?? 0) + 1;
  return counts;
}
